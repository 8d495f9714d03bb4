//! What becomes of one packet: a message is kept and put down for its lane, an answer of the broker
//! moves the session on.

use super::{Ended, Session, Source};
use crate::journal::Record;
use crate::message::{OVERSIZE_KEPT_BYTES, RawMessage};
use crate::source::Request;
use bytes::Bytes;
use rumqttc::{ConnAck, Event, EventLoop, Packet, Publish, PublishOptions, QoS, SubAck, SubscribeReasonCode};
use std::sync::atomic::Ordering;
use tracing::{error, info, warn};

impl Source {
    /// Takes what waits in the event loop.
    pub(super) fn take_all(&mut self, event_loop: &mut EventLoop, arrived_at_us: i64) -> Result<(), Ended> {
        while let Some(event) = event_loop.state.events.pop_front() {
            self.take(event, arrived_at_us)?;
        }
        self.keep(arrived_at_us)
    }

    pub(super) fn take(&mut self, event: Event, arrived_at_us: i64) -> Result<(), Ended> {
        match event {
            Event::Incoming(Packet::Publish(publish)) => self.take_message(publish, arrived_at_us),
            Event::Incoming(Packet::ConnAck(answer)) => return self.connected(&answer, arrived_at_us),
            Event::Incoming(Packet::SubAck(answer)) => self.subscribed(&answer),
            Event::Incoming(Packet::UnsubAck(_)) => {
                // What was left from an earlier run is gone now.
                self.known = Some(self.session.clone());
                return self.write_session(&self.session);
            }
            _ => {}
        }
        Ok(())
    }

    fn take_message(&mut self, publish: Publish, arrived_at_us: i64) {
        let Publish { topic, payload, retain, dup, pkid, .. } = publish;
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
            retained: retain,
            duplicate: dup,
            ..RawMessage::default()
        };
        if let Some(position) = self.repeats.find(pkid, &message) {
            self.unacknowledged.push_back((position, pkid));
            self.stats.repeats.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if pkid != 0 {
            self.unacknowledged.push_back((message.position, pkid));
        }
        self.repeats.see(pkid, &message);
        self.stats.add(1, bytes);
        self.records.push(Record::Message { packet_id: pkid, message });
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
            news => self.lanes.push_first(news.into_intake()),
        }
    }

    /// Keeps news of the source itself, in their place among the messages.
    pub(super) fn tell(&mut self, news: Record, at_us: i64) -> Result<(), Ended> {
        self.keep(at_us)?;
        self.records.push(news);
        self.keep(at_us)
    }

    fn connected(&mut self, answer: &ConnAck, at_us: i64) -> Result<(), Ended> {
        self.stats.set_connected(true);
        if self.outage.connected() {
            self.stats.reconnects.fetch_add(1, Ordering::Relaxed);
            self.tell(Record::Restored { at_us }, at_us)?;
        }
        if self.is_kept {
            self.resume(answer.session_present)?;
        }
        // Also where the broker remembers: what the job reads may have changed since.
        if let Err(error) = self.client.try_subscribe_many(self.subscriptions.clone()) {
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
            if let Err(error) = self.client.try_unsubscribe_many(left) {
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
            match self.client.try_publish(topic.clone(), payload, PublishOptions::new(QoS::AtMostOnce)) {
                Ok(_) => drop(self.stats.requests.fetch_add(1, Ordering::Relaxed)),
                Err(error) => warn!(source = %self.name, %topic, %error, "request to a device not sent"),
            }
        }
    }

    fn subscribed(&self, answer: &SubAck) {
        for (subscription, code) in self.subscriptions.iter().zip(&answer.return_codes) {
            match code {
                SubscribeReasonCode::Failure => warn!(
                    source = %self.name, filter = %subscription.path,
                    "broker refuses the subscription; check the filter and the user's rights"
                ),
                SubscribeReasonCode::Success(granted)
                    if *granted == QoS::AtMostOnce && subscription.qos != *granted =>
                {
                    warn!(
                        source = %self.name, filter = %subscription.path,
                        "broker grants qos 0 only; messages may be lost on the way"
                    )
                }
                SubscribeReasonCode::Success(_) => {}
            }
        }
    }
}
