//! Takes messages from a broker.
//!
//! ```text
//!   socket --> event loop --(up to 128 packets at once)--> lane 0: waiting --> queue
//!                                                          lane 1: waiting --> queue
//! ```
//! One thread drives the connection. Everything that one read of the socket brings goes to the
//! lanes with one lock a lane, and no read waits for more. While a lane is full nothing is read, so
//! that the broker and its publishers feel it; only now and then is one packet taken, because a
//! broker ends a connection that it does not hear from.

use super::client::{self, Connection, Outage, PACKET_BATCH_MAX};
use super::{MqttError, MqttSettings};
use crate::clock::Clock;
use crate::lanes::Lanes;
use crate::message::{Intake, OVERSIZE_KEPT_BYTES, RawMessage};
use crate::queue::{Closed, Waker};
use crate::source::{SourceHandle, SourceSetup, SourceStats};
use crate::thread::{StopSignal, Worker};
use bytes::Bytes;
use rumqttc::{
    AsyncClient, Event, EventLoop, Packet, Publish, QoS, SubAck, SubscribeFilter, SubscribeReasonCode,
};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;
use tracing::{error, warn};

/// About how many bytes one read of the socket may bring, so that 128 large messages are not
/// taken over the bound of a lane at once.
const READ_BYTES_TARGET: usize = 2 << 20;

/// Starts a source that subscribes to `filters`. A broker that is away is no error: the source
/// tries for ever and tells of it on lane 0.
pub fn start(
    setup: SourceSetup,
    settings: &MqttSettings,
    client_id: &str,
) -> Result<SourceHandle, MqttError> {
    let SourceSetup { name, filters, lanes, lane_of, clock, .. } = setup;
    check_filters(&filters).map_err(|reason| MqttError::Settings { name: name.clone(), reason })?;
    let connection = Connection::new(&name, settings, client_id)?;
    let (stats, stop) = (Arc::new(SourceStats::default()), Arc::new(StopSignal::default()));
    let queue_bytes_max = usize::try_from(settings.queue.as_u64()).unwrap_or(usize::MAX);
    let (lanes, receivers) = Lanes::new(lanes, queue_bytes_max, lane_of);
    let room = Arc::new(Notify::new());
    let notified = room.clone();
    let waker: Waker = Arc::new(move || notified.notify_one());
    lanes.set_waker(&waker);
    let source = Source {
        outage: Outage::new(&name, settings),
        name: name.clone(),
        client: connection.client,
        subscriptions: filters
            .into_iter()
            .map(|filter| SubscribeFilter::new(filter, client::quality(settings)))
            .collect(),
        lanes,
        room,
        payload_bytes_max: usize::try_from(settings.max_payload.as_u64()).unwrap_or(usize::MAX),
        keep_alive: settings.keep_alive,
        clock,
        stats: stats.clone(),
        position: 0,
        largest_bytes: 0,
    };
    let (event_loop, runtime, stopped) =
        (connection.event_loop, connection.runtime, client::notify_on_stop(&stop));
    let worker = Worker::spawn(&format!("source-{name}"), move || {
        runtime.block_on(source.run(event_loop, &stopped));
        // A name that is still being looked up is not waited for.
        runtime.shutdown_background();
    });
    let worker = worker.map_err(|error| MqttError::Thread { name: name.clone(), error })?;
    Ok(SourceHandle::new(&name, receivers, stats, stop, worker))
}

struct Source {
    name: String,
    client: AsyncClient,
    subscriptions: Vec<SubscribeFilter>,
    lanes: Lanes,
    /// Notified when a full lane has room again, or is gone.
    room: Arc<Notify>,
    payload_bytes_max: usize,
    keep_alive: Duration,
    clock: Arc<dyn Clock>,
    stats: Arc<SourceStats>,
    outage: Outage,
    position: u64,
    /// The largest payload of the last read.
    largest_bytes: usize,
}

/// The engine has taken its ends of the lanes away, or the source was told to stop.
struct Ended;

impl From<Closed> for Ended {
    fn from(_: Closed) -> Self {
        Self
    }
}

impl Source {
    async fn run(mut self, mut event_loop: EventLoop, stopped: &Notify) {
        tokio::select! {
            biased;
            () = stopped.notified() => {}
            Ended = self.work(&mut event_loop) => {}
        }
        // Best effort, so that the broker does not take the end for a failure.
        if self.client.try_disconnect_now().is_ok() {
            let goodbye = async { while event_loop.poll().await.is_ok() {} };
            _ = tokio::time::timeout(Duration::from_millis(100), goodbye).await;
        }
        self.stats.set_connected(false);
    }

    async fn work(&mut self, event_loop: &mut EventLoop) -> Ended {
        loop {
            if let Err(ended) = self.step(event_loop).await {
                return ended;
            }
        }
    }

    async fn step(&mut self, event_loop: &mut EventLoop) -> Result<(), Ended> {
        let outcome = self.poll(event_loop).await?;
        let arrived_at_us = self.clock.wall_us();
        self.largest_bytes = 0;
        let error = match outcome {
            Ok(event) => {
                self.take(event, arrived_at_us);
                None
            }
            Err(error) => Some(error),
        };
        // What one read brought waits in the event loop, also when the connection broke after it.
        while let Some(event) = event_loop.state.events.pop_front() {
            self.take(event, arrived_at_us);
        }
        self.lanes.flush()?;
        event_loop.mqtt_options.set_read_batch_size(self.read_batch());
        match error {
            Some(error) => self.lost(&error).await,
            None if self.lanes.are_blocked() => self.wait_for_room(event_loop).await,
            None => Ok(()),
        }
    }

    /// Drives the connection to its next event. Room in a lane is used meanwhile; the poll itself
    /// is never given up half-way, because an acknowledgement could be lost with it.
    async fn poll(
        &mut self,
        event_loop: &mut EventLoop,
    ) -> Result<Result<Event, rumqttc::ConnectionError>, Ended> {
        let mut poll = pin!(event_loop.poll());
        loop {
            tokio::select! {
                biased;
                outcome = &mut poll => return Ok(outcome),
                () = self.room.notified() => self.lanes.flush()?,
            }
        }
    }

    fn take(&mut self, event: Event, arrived_at_us: i64) {
        match event {
            Event::Incoming(Packet::Publish(publish)) => self.take_message(publish, arrived_at_us),
            Event::Incoming(Packet::ConnAck(_)) => self.connected(arrived_at_us),
            Event::Incoming(Packet::SubAck(answer)) => self.subscribed(&answer),
            _ => {}
        }
    }

    fn take_message(&mut self, publish: Publish, arrived_at_us: i64) {
        let Publish { topic, payload, retain, dup, .. } = publish;
        self.position += 1;
        self.stats.add(1, payload.len() as u64);
        self.largest_bytes = self.largest_bytes.max(payload.len());
        let is_oversize = payload.len() > self.payload_bytes_max;
        let message = RawMessage {
            position: self.position,
            arrived_at_us,
            topic,
            oversize: is_oversize.then_some(payload.len() as u64),
            // Copied, so that the first bytes do not keep the whole in memory.
            payload: if is_oversize {
                Bytes::copy_from_slice(&payload[..payload.len().min(OVERSIZE_KEPT_BYTES)])
            } else {
                payload
            },
            retained: retain,
            duplicate: dup,
        };
        self.lanes.push(message);
    }

    fn connected(&mut self, at_us: i64) {
        self.stats.set_connected(true);
        if self.outage.connected() {
            self.stats.reconnects.fetch_add(1, Ordering::Relaxed);
            self.lanes.push_first(Intake::Restored { at_us });
        }
        // The session is a clean one: the broker remembers no subscription.
        if let Err(error) = self.client.try_subscribe_many(self.subscriptions.clone()) {
            error!(source = %self.name, %error, "subscription not sent; nothing will arrive until the next reconnect");
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

    async fn lost(&mut self, error: &rumqttc::ConnectionError) -> Result<(), Ended> {
        self.stats.set_connected(false);
        if let Some(reason) = self.outage.failed(error) {
            self.lanes.push_first(Intake::Lost { at_us: self.clock.wall_us(), reason });
            self.lanes.flush()?;
        }
        let mut pause = pin!(tokio::time::sleep(self.outage.pause()));
        loop {
            tokio::select! {
                biased;
                () = &mut pause => return Ok(()),
                () = self.room.notified() => self.lanes.flush()?,
            }
        }
    }

    /// Waits until every lane has taken what waits for it, or until it is time to take one more
    /// packet, whose acknowledgement keeps the connection alive.
    async fn wait_for_room(&mut self, event_loop: &mut EventLoop) -> Result<(), Ended> {
        let mut sign_of_life = pin!(tokio::time::sleep(self.keep_alive / 3));
        while self.lanes.are_blocked() {
            tokio::select! {
                biased;
                () = self.room.notified() => self.lanes.flush()?,
                () = &mut sign_of_life => {
                    event_loop.mqtt_options.set_read_batch_size(1);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn read_batch(&self) -> usize {
        (READ_BYTES_TARGET / self.largest_bytes.max(1)).clamp(1, PACKET_BATCH_MAX)
    }
}

fn check_filters(filters: &[String]) -> Result<(), String> {
    if filters.is_empty() {
        return Err("there is no topic to subscribe to; name at least one, for example plant/+/state".into());
    }
    match filters.iter().find(|filter| !rumqttc::valid_filter(filter)) {
        Some(filter) => Err(format!(
            "`{filter}` is no topic filter; + stands for one whole level, # for all levels at the end"
        )),
        None => Ok(()),
    }
}
