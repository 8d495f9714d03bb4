//! What a message of Sparkplug says to a stream: events of its metrics, and who is up or down.

use std::borrow::Cow;

use super::address::Level;
use super::node::Heard;
use super::payload::{Metric, Raw};
use super::value::scalar;
use super::{Metrics, Sparkplug};
use crate::batch::{ClaimedTime, EventBatch};
use crate::decode::element::{Element, Taken};
use crate::decode::plan::Captured;
use crate::decode::scalar::{Scalar, device_time};
use crate::decode::settings::TimeFormat;
use crate::decode::{ELEMENTS_MAX, Scratch};
use crate::time::DeviceTime;

/// A metric that the stream maps.
#[derive(Clone, Copy, Debug)]
pub(in crate::decode) struct Mapped {
    at: DeviceTime,
    claimed: ClaimedTime,
    is_historical: bool,
    /// Its number in the payload.
    metric: u32,
    /// Its number in the birth certificate.
    known: u32,
}

/// Gives a stream what is its own of the message that was heard.
// Its frame would be part of the one that JSON, the usual payload, is read in.
#[inline(never)]
pub(in crate::decode) fn decode(
    metrics: &Metrics,
    sparkplug: &Sparkplug,
    taken: Taken<'_>,
    scratch: &mut Scratch,
    events: &mut EventBatch,
    refuse: &mut impl FnMut(String, &[u8]),
) {
    let Some(heard) = &sparkplug.heard else { return };
    let payload = taken.message.payload;
    if let Err(reason) = tell_presence(metrics, sparkplug, heard, taken, scratch, events) {
        refuse(reason, payload);
    }
    if heard.kind.is_death() || heard.kind.level() != metrics.level {
        return;
    }
    find_mapped(metrics, sparkplug, heard, taken, scratch);
    if scratch.mapped.len() > ELEMENTS_MAX {
        let count = scratch.mapped.len();
        return refuse(format!("{count} mapped metrics in one message, at most {ELEMENTS_MAX}"), payload);
    }
    let mut mapped = std::mem::take(&mut scratch.mapped);
    let key = |one: &Mapped| (one.at, one.is_historical);
    if !mapped.is_sorted_by_key(key) {
        mapped.sort_by_key(key);
    }
    let mut index = 0;
    for group in mapped.chunk_by(|one, next| key(one) == key(next)) {
        if take(group, metrics, sparkplug, taken, scratch, events, index, refuse) {
            index += 1;
        }
    }
    scratch.mapped = mapped;
}

/// The metrics of the message that the stream maps, with their times.
fn find_mapped(
    metrics: &Metrics,
    sparkplug: &Sparkplug,
    heard: &Heard,
    taken: Taken<'_>,
    scratch: &mut Scratch,
) {
    scratch.mapped.clear();
    let Some(certificate) = &heard.certificate else { return };
    let has_device_time = taken.route.plan.has_device_time;
    let arrived = (DeviceTime(taken.message.arrived_at.0), ClaimedTime::Arrival);
    for (number, (metric, known)) in sparkplug.payload.metrics.iter().zip(&sparkplug.metrics).enumerate() {
        let name = match certificate.get(*known) {
            Some(known) => &*known.name,
            None => continue,
        };
        if metrics.leaves(name).is_empty() {
            continue;
        }
        let stamp = metric.timestamp_ms.or(sparkplug.payload.timestamp_ms).filter(|_| has_device_time);
        let (at, claimed) = stamp.map_or(arrived, claimed_at);
        let is_historical = metric.is_historical;
        scratch.mapped.push(Mapped { at, claimed, is_historical, metric: number as u32, known: *known });
    }
}

/// A time that a device claims.
fn claimed_at(stamp_ms: u64) -> (DeviceTime, ClaimedTime) {
    let at = device_time(Scalar::Unsigned(stamp_ms), TimeFormat::UnixMs);
    (at.unwrap_or(DeviceTime(i64::MAX)), ClaimedTime::Device)
}

/// Makes one event of the metrics of one time, and a dead letter of each that is bad. Whether there is an event.
#[expect(clippy::too_many_arguments, reason = "those of `decode`, and which of its elements")]
fn take(
    group: &[Mapped],
    metrics: &Metrics,
    sparkplug: &Sparkplug,
    taken: Taken<'_>,
    scratch: &mut Scratch,
    events: &mut EventBatch,
    index: u32,
    refuse: &mut impl FnMut(String, &[u8]),
) -> bool {
    let (plan, payload) = (&taken.route.plan, taken.message.payload);
    let Some(certificate) = sparkplug.heard.as_ref().and_then(|heard| heard.certificate.as_ref()) else {
        return false;
    };
    let mut element = Element::new(plan, events, &mut scratch.id);
    element.at = Some((group[0].at, group[0].claimed));
    element.is_historical = group[0].is_historical;
    for mapped in group {
        let metric = &sparkplug.payload.metrics[mapped.metric as usize];
        let Some(known) = certificate.get(mapped.known) else { continue };
        let datatype = if metric.datatype == 0 { known.datatype.into() } else { metric.datatype };
        let problem = match scalar(metric, datatype, payload) {
            Ok(value) => {
                // A property stands before the events of the same place, and only it can be refused: so what is
                // refused has left nothing behind.
                for leaf in metrics.leaves(&known.name) {
                    match value {
                        Some(value) => element.take_scalar(*leaf, value),
                        None => element.take_null(*leaf),
                    }
                    if element.problem.is_some() {
                        break;
                    }
                }
                element.problem.take()
            }
            Err(reason) => Some(format!("`{}`: {reason}", known.name)),
        };
        if let Some(reason) = problem {
            refuse(reason, shown(metric, &known.name, payload).as_bytes());
        }
    }
    // All of it was null, or bad.
    if element.is_empty() {
        return false;
    }
    match element.finish(taken, index) {
        Ok(()) => true,
        Err(reason) => {
            refuse(reason, payload);
            false
        }
    }
}

/// Tells who is up and who is down, of those that have a metric that the stream maps: others are of another type.
fn tell_presence(
    metrics: &Metrics,
    sparkplug: &Sparkplug,
    heard: &Heard,
    taken: Taken<'_>,
    scratch: &mut Scratch,
    events: &mut EventBatch,
) -> Result<(), String> {
    let mut outcome = Ok(());
    if metrics.level == Level::Device {
        let mut names = taken.captured.texts.iter().copied();
        let (edge, speaker) = (names.next().unwrap_or_default(), names.next());
        // An edge node's last will was written when it connected.
        let stamp = sparkplug.payload.timestamp_ms.filter(|_| heard.kind == super::Kind::DeviceDeath);
        for (device, certificate) in &heard.fallen {
            let stamp = stamp.filter(|_| speaker == Some(device));
            if metrics.has_some_of(certificate) {
                let captured = Captured { texts: vec![edge, device], pattern: 0 };
                let told = tell(false, stamp, Taken { captured: &captured, ..taken }, scratch, events);
                outcome = outcome.and(told);
            }
        }
    }
    let concerns = |heard: &Heard| {
        let certificate = heard.certificate.as_ref().filter(|_| heard.kind.level() == metrics.level);
        certificate.is_some_and(|certificate| metrics.has_some_of(certificate))
    };
    if heard.kind.is_birth() && concerns(heard) {
        outcome = outcome.and(tell(true, sparkplug.payload.timestamp_ms, taken, scratch, events));
    } else if heard.kind.is_death() && concerns(heard) {
        outcome = outcome.and(tell(false, None, taken, scratch, events));
    }
    outcome
}

/// An event that says that a twin is up or down, and nothing else (rule 4.3).
fn tell(
    is_up: bool,
    stamp_ms: Option<u64>,
    taken: Taken<'_>,
    scratch: &mut Scratch,
    events: &mut EventBatch,
) -> Result<(), String> {
    let mut element = Element::new(&taken.route.plan, events, &mut scratch.id);
    element.say_presence(is_up);
    let arrived = (DeviceTime(taken.message.arrived_at.0), ClaimedTime::Arrival);
    element.at = Some(stamp_ms.map_or(arrived, claimed_at));
    element.finish(taken, 0)
}

/// A metric as a dead letter shows it.
fn shown(metric: &Metric, name: &str, payload: &[u8]) -> String {
    let value: Cow<'_, str> = match metric.value {
        Raw::None => "null".into(),
        Raw::Int(number) => number.to_string().into(),
        Raw::Long(number) => number.to_string().into(),
        Raw::Float(number) => number.to_string().into(),
        Raw::Double(number) => number.to_string().into(),
        Raw::Boolean(flag) => flag.to_string().into(),
        Raw::Text(part) => format!("{:?}", part.text(payload)).into(),
        Raw::Structure(_) => "..".into(),
    };
    format!("{name} = {value}")
}
