//! What becomes of one packet: a message is kept and put down for its lane, an answer of the broker
//! moves the session on.

use super::super::protocol::{Arrived, Event, EventLoop, Granted, Manner, Welcome};
use super::answers::Unacknowledged;
use super::{Ended, Session, Source};
use crate::journal::Record;
use crate::message::{Intake, OVERSIZE_KEPT_BYTES, RawMessage};
use crate::source::Request;
use bytes::Bytes;
use std::sync::atomic::Ordering;
use tracing::{error, info, warn};

impl Source {
    /// Takes what waits in the event loop.
    pub(super) fn take_all(&mut self, event_loop: &mut EventLoop, arrived_at_us: i64) -> Result<(), Ended> {
        while let Some(event) = event_loop.pop() {
            self.take(event, arrived_at_us)?;
        }
        self.keep(arrived_at_us)
    }

    pub(super) fn take(&mut self, event: Event, arrived_at_us: i64) -> Result<(), Ended> {
        match event {
            Event::Message(message) => self.take_message(message, arrived_at_us),
            Event::Connected(welcome) => return self.connected(welcome, arrived_at_us),
            Event::Released(packet_id) => self.take_release(packet_id),
            Event::Subscribed(granted) => self.subscribed(&granted),
            Event::Unsubscribed => {
                // What was left from an earlier run is gone now.
                self.known = Some(self.session.clone());
                return self.write_session(&self.session);
            }
            Event::Sent(_) | Event::Acknowledged(..) | Event::Other => {}
        }
        Ok(())
    }

    fn take_message(&mut self, arrived: Arrived, arrived_at_us: i64) {
        let Arrived { topic, payload, packet_id, exactly_once, retained, duplicate, user_properties } =
            arrived;
        self.largest_bytes = self.largest_bytes.max(payload.len());
        let is_oversize = payload.len() > self.payload_bytes_max;
        let bytes = payload.len() as u64;
        let message = RawMessage {
            position: self.journal.next() + self.records.len() as u64,
            arrived_at_us,
            topic,
            oversize: is_oversize.then_some(bytes),
            // Copied, so that the first bytes do not keep the whole in memory.
            payload: if is_oversize {
                Bytes::copy_from_slice(&payload[..payload.len().min(OVERSIZE_KEPT_BYTES)])
            } else {
                payload
            },
            headers: self.headers_of(user_properties),
            retained,
            duplicate,
            ..RawMessage::default()
        };
        if let Some(position) = self.repeats.find(packet_id, &message) {
            self.stats.repeats.fetch_add(1, Ordering::Relaxed);
            // One that is sent again before it was answered is answered once.
            if !exactly_once || self.unacknowledged.iter().all(|one| one.packet_id != packet_id) {
                self.unacknowledged.push_back(Unacknowledged { position, packet_id, exactly_once });
            }
            return;
        }
        if packet_id != 0 {
            let position = message.position;
            self.unacknowledged.push_back(Unacknowledged { position, packet_id, exactly_once });
        }
        self.repeats.see(packet_id, exactly_once, &message);
        self.stats.add(1, bytes);
        self.records.push(Record::Message { packet_id, exactly_once, message });
    }

    /// The values of the user properties that are wanted; of two with one name the last.
    fn headers_of(&self, user_properties: Vec<(String, String)>) -> Vec<Option<Bytes>> {
        if self.headers.is_empty() {
            return Vec::new();
        }
        let mut found = vec![None; self.headers.len()];
        for (name, value) in user_properties {
            if let Some(place) = self.headers.iter().position(|wanted| *wanted == name) {
                found[place] = Some(Bytes::from(value));
            }
        }
        found
    }

    /// The broker will not send a message again, which the journal then need not keep for that.
    fn take_release(&mut self, packet_id: u16) {
        if self.repeats.release(packet_id) {
            self.records.push(Record::Released { packet_id });
        }
    }

    /// Writes what was taken to the journal, and puts it down for the lanes.
    fn keep(&mut self, arrived_at_us: i64) -> Result<(), Ended> {
        if self.records.is_empty() {
            return Ok(());
        }
        self.journal.append(arrived_at_us, &self.records)?;
        let mut records = std::mem::take(&mut self.records);
        records.drain(..).for_each(|record| self.put_down(record));
        self.records = records;
        self.next = self.journal.next();
        self.stats.journal_bytes.store(self.journal.bytes(), Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn put_down(&mut self, record: Record) {
        match record {
            Record::Message { message, .. } => {
                self.newest_us = self.newest_us.max(Some(message.arrived_at_us));
                self.lanes.push(message);
            }
            // Of no concern to the engine.
            Record::Released { .. } => {}
            Record::Lost { at_us, reason } => self.lanes.push_first(Intake::Lost { at_us, reason }),
            Record::Restored { at_us } => self.lanes.push_first(Intake::Restored { at_us }),
        }
    }

    /// Keeps news of the source itself, in their place among the messages.
    pub(super) fn tell(&mut self, news: Record, at_us: i64) -> Result<(), Ended> {
        self.keep(at_us)?;
        self.records.push(news);
        self.keep(at_us)
    }

    fn connected(&mut self, welcome: Welcome, at_us: i64) -> Result<(), Ended> {
        self.stats.set_connected(true);
        if self.outage.connected() {
            self.stats.reconnects.fetch_add(1, Ordering::Relaxed);
            self.tell(Record::Restored { at_us }, at_us)?;
        }
        if self.is_kept {
            self.resume(welcome.session_present)?;
        }
        // Also where the broker remembers: what the job reads may have changed since.
        let qos = self.qos.min(welcome.qos_max);
        if let Err(error) = self.client.subscribe(&self.session.filters, qos) {
            error!(source = %self.name, %error, "subscription not sent; nothing will arrive until the next reconnect");
        }
        Ok(())
    }

    /// Goes on with the session that the broker kept, or begins a new one.
    fn resume(&mut self, is_present: bool) -> Result<(), Ended> {
        let known = self.known.take().filter(|_| is_present);
        self.session.since = match &known {
            Some(known) => known.since,
            None => {
                self.repeats.forget(self.journal.next());
                self.journal.next()
            }
        };
        let left = known.iter().flat_map(|known| &known.filters);
        let left: Vec<_> = left.filter(|filter| !self.session.filters.contains(filter)).cloned().collect();
        let mut next = self.session.clone();
        next.filters.extend(left.iter().cloned());
        // Before the broker hears of it, so that a crash between the two leaves nothing subscribed that
        // is not known.
        if known.as_ref() != Some(&next) {
            self.write_session(&next)?;
        }
        self.known = Some(next);
        if !left.is_empty() {
            info!(source = %self.name, filters = ?left, "filters that the job no longer has are unsubscribed");
            if let Err(error) = self.client.unsubscribe(left) {
                warn!(source = %self.name, %error, "not unsubscribed; tried again at the next reconnect");
            }
        }
        Ok(())
    }

    fn write_session(&self, session: &Session) -> Result<(), Ended> {
        session.write(&*self.disk, &self.folder).map_err(|error| {
            self.alarm.raise(format!("{}: {error}", self.name));
            Ended::Failed
        })
    }

    /// Publishes what the engine says to devices. A request that cannot go out now is dropped: who still needs the
    /// answer asks again.
    pub(super) fn publish_requests(&self) {
        for Request { topic, payload } in self.stop.take_requests() {
            let manner = Manner { qos: 0, retain: false, expiry_s: None };
            match self.client.publish(topic.clone(), payload.into(), manner) {
                Ok(()) => drop(self.stats.requests.fetch_add(1, Ordering::Relaxed)),
                Err(error) => warn!(source = %self.name, %topic, %error, "request to a device not sent"),
            }
        }
    }

    fn subscribed(&self, granted: &[Granted]) {
        for (filter, granted) in self.session.filters.iter().zip(granted) {
            match granted {
                Granted::Refused(reason) => {
                    warn!(source = %self.name, %filter, reason, "broker refuses the subscription");
                }
                Granted::Qos(qos) if *qos < self.qos => {
                    let loss =
                        if *qos == 0 { "messages may be lost on the way" } else { "messages may come twice" };
                    warn!(source = %self.name, %filter, "broker grants qos {qos} only; {loss}");
                }
                Granted::Qos(_) => {}
            }
        }
    }
}
