//! An edge node and its devices, as their births, data and deaths follow each other.
//!
//! ```text
//!             NBIRTH                 seq does not follow
//!   Unborn ───────────► Born ──────────────────────────────► Lost ── NBIRTH ──► Born
//!                        │ ▲
//!        NDEATH of this  ▼ │ NBIRTH
//!        connection     Dead
//! ```
//!
//! Only what follows a birth without a gap is taken: after a gap an alias may stand for something else, as a birth may
//! have been among what was lost. What is refused meanwhile is told, and the edge node is asked to be born again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::address::{Address, Kind};
use super::certificate::{Certificate, Names};
use super::payload::Payload;
use super::{METRICS_PER_NODE_MAX, REBIRTH_INTERVAL_US};
use crate::time::ArrivalTime;

/// An edge node, as far as it was heard.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct EdgeNode {
    pub state: State,
    /// The sequence number of its last message.
    pub seq: u8,
    /// The number of its connection, where its birth said one.
    pub bd_seq: Option<u64>,
    /// When it was last asked to be born again.
    pub asked_at: Option<ArrivalTime>,
    /// Born again while its devices were up: from then on those are down that were not born again too.
    pub awaited_until: Option<ArrivalTime>,
    /// Shared with the checkpoint that is under way, until the next birth or death.
    pub births: Arc<Births>,
}

/// How it is with an edge node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum State {
    /// Its birth was not heard.
    #[default]
    Unborn,
    /// What it says is taken.
    Born,
    /// Something that it said is missing.
    Lost,
    /// Its connection has ended.
    Dead,
}

/// What was born.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Births {
    pub node: Arc<Certificate>,
    /// The devices that are up, by name.
    pub devices: BTreeMap<Arc<str>, Device>,
}

/// A device that is up.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Device {
    pub certificate: Arc<Certificate>,
    /// Whether it was born since its edge node was.
    pub is_current: bool,
}

/// What a message says, once it was found to be in its place.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub kind: Kind,
    /// What its metrics are of; of a death what the node was; of a device's death nothing.
    pub certificate: Option<Arc<Certificate>>,
    /// Devices that are down with it, and what they were.
    pub fallen: Vec<(Arc<str>, Arc<Certificate>)>,
}

/// Why a message is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub reason: String,
    /// Whether it would help if the edge node were born again.
    pub asks: bool,
}

impl Refusal {
    fn asking(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), asks: true }
    }

    fn plain(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), asks: false }
    }
}

impl EdgeNode {
    /// Takes a message.
    pub fn hear(
        &mut self,
        address: Address<'_>,
        (payload, bytes): (&Payload, &[u8]),
        at: ArrivalTime,
        names: &mut Names,
    ) -> Result<Heard, Refusal> {
        match address.kind {
            Kind::NodeBirth => return self.node_birth((payload, bytes), at, names),
            Kind::NodeDeath => return self.node_death(payload.bd_seq(bytes)),
            _ => self.follow(payload)?,
        }
        let kind = address.kind;
        let mut fallen = self.overdue(at);
        let certificate = match kind {
            Kind::DeviceBirth => {
                Some(self.device_birth(address.device, (payload, bytes), names).map_err(Refusal::asking)?)
            }
            Kind::DeviceDeath => {
                if self.births.devices.contains_key(address.device) {
                    fallen.extend(Arc::make_mut(&mut self.births).remove(address.device));
                }
                None
            }
            Kind::DeviceData => {
                let device = self.births.devices.get(address.device).filter(|device| device.is_current);
                let device = device.ok_or_else(|| {
                    Refusal::asking("the device has no birth certificate; its edge node must be born again")
                })?;
                Some(device.certificate.clone())
            }
            Kind::NodeData | Kind::NodeBirth | Kind::NodeDeath => Some(self.births.node.clone()),
        };
        Ok(Heard { kind, certificate, fallen })
    }

    /// Whether it is time to ask that it be born again; it is taken as asked then.
    pub fn ask(&mut self, at: ArrivalTime) -> bool {
        // A clock that was set back does not silence it.
        let waits = self.asked_at.is_some_and(|asked_at| {
            (asked_at.0..asked_at.0.saturating_add(REBIRTH_INTERVAL_US)).contains(&at.0)
        });
        if !waits {
            self.asked_at = Some(at);
        }
        !waits
    }

    /// The message must be the next after the last.
    fn follow(&mut self, payload: &Payload) -> Result<(), Refusal> {
        match self.state {
            State::Born => {}
            State::Unborn => {
                return Err(Refusal::asking(
                    "the stream begins in the middle: the birth of the edge node was not heard",
                ));
            }
            State::Lost => {
                return Err(Refusal::asking(
                    "not taken, as messages of the edge node were lost before; it must be born again",
                ));
            }
            State::Dead => {
                return Err(Refusal::asking("the edge node is dead; it must be born again before it speaks"));
            }
        }
        let Some(seq) = payload.seq.and_then(|seq| u8::try_from(seq).ok()) else {
            return Err(Refusal::plain("the message has no sequence number from 0 to 255"));
        };
        let expected = self.seq.wrapping_add(1);
        if seq == self.seq {
            return Err(Refusal::plain(format!("sequence number {seq} came a second time")));
        }
        if seq != expected {
            self.state = State::Lost;
            return Err(Refusal::asking(format!(
                "sequence number {seq} where {expected} should follow: messages of the edge node were lost"
            )));
        }
        self.seq = seq;
        Ok(())
    }

    fn node_birth(
        &mut self,
        (payload, bytes): (&Payload, &[u8]),
        at: ArrivalTime,
        names: &mut Names,
    ) -> Result<Heard, Refusal> {
        // Until it is seen to be good.
        let was = std::mem::replace(&mut self.state, State::Lost);
        let Some(seq) = payload.seq.and_then(|seq| u8::try_from(seq).ok()) else {
            return Err(Refusal::asking("the birth has no sequence number from 0 to 255"));
        };
        let certificate = Arc::new(Certificate::of(payload, bytes, names).map_err(Refusal::asking)?);
        let bd_seq = payload.bd_seq(bytes);
        let births = Arc::make_mut(&mut self.births);
        let goes_on = matches!(was, State::Born | State::Lost) && bd_seq == self.bd_seq;
        // Another connection: what was up in the last one went down with it, though its death was not heard.
        let fallen = if goes_on { Vec::new() } else { births.take_devices() };
        births.devices.values_mut().for_each(|device| device.is_current = false);
        births.node = certificate.clone();
        self.awaited_until =
            (!births.devices.is_empty()).then_some(ArrivalTime(at.0.saturating_add(REBIRTH_INTERVAL_US)));
        (self.state, self.seq, self.bd_seq) = (State::Born, seq, bd_seq);
        Ok(Heard { kind: Kind::NodeBirth, certificate: Some(certificate), fallen })
    }

    fn node_death(&mut self, bd_seq: Option<u64>) -> Result<Heard, Refusal> {
        if let (Some(death), Some(birth)) = (bd_seq, self.bd_seq)
            && death != birth
        {
            return Err(Refusal::plain(format!(
                "the death is of the connection with bdSeq {death}, and the edge node was born with {birth} since"
            )));
        }
        self.state = match self.state {
            // Who was never born was not there.
            State::Unborn => State::Unborn,
            State::Born | State::Lost | State::Dead => State::Dead,
        };
        self.awaited_until = None;
        let births = std::mem::take(&mut self.births);
        let fallen = births.devices.iter();
        let fallen = fallen.map(|(name, device)| (name.clone(), device.certificate.clone())).collect();
        Ok(Heard { kind: Kind::NodeDeath, certificate: Some(births.node.clone()), fallen })
    }

    fn device_birth(
        &mut self,
        device: &str,
        (payload, bytes): (&Payload, &[u8]),
        names: &mut Names,
    ) -> Result<Arc<Certificate>, String> {
        let certificate = Arc::new(Certificate::of(payload, bytes, names)?);
        let births = Arc::make_mut(&mut self.births);
        let known = births.devices.get(device).map_or(0, |device| device.certificate.len());
        let metrics = births.metrics() - known + certificate.len();
        if metrics > METRICS_PER_NODE_MAX || births.devices.len() > METRICS_PER_NODE_MAX {
            return Err(format!(
                "the edge node and its devices have {metrics} metrics, at most {METRICS_PER_NODE_MAX} are followed"
            ));
        }
        let born = Device { certificate: certificate.clone(), is_current: true };
        match births.devices.get_mut(device) {
            Some(device) => *device = born,
            None => drop(births.devices.insert(names.one(device), born)),
        }
        Ok(certificate)
    }

    /// Devices that were up before their edge node was born again, and were not born again in time.
    fn overdue(&mut self, at: ArrivalTime) -> Vec<(Arc<str>, Arc<Certificate>)> {
        if self.awaited_until.is_none_or(|until| at < until) {
            return Vec::new();
        }
        self.awaited_until = None;
        let gone = self.births.devices.iter().filter(|(_, device)| !device.is_current);
        let gone: Vec<Arc<str>> = gone.map(|(name, _)| name.clone()).collect();
        gone.iter().filter_map(|name| Arc::make_mut(&mut self.births).remove(name)).collect()
    }
}

impl Births {
    fn metrics(&self) -> usize {
        let devices = self.devices.values().map(|device| device.certificate.len());
        self.node.len() + devices.sum::<usize>()
    }

    fn remove(&mut self, device: &str) -> Option<(Arc<str>, Arc<Certificate>)> {
        self.devices.remove_entry(device).map(|(name, device)| (name, device.certificate))
    }

    fn take_devices(&mut self) -> Vec<(Arc<str>, Arc<Certificate>)> {
        let devices = std::mem::take(&mut self.devices).into_iter();
        devices.map(|(name, device)| (name, device.certificate)).collect()
    }
}
