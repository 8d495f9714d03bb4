//! Publishes to a broker, in the order offered.
//!
//! ```text
//!   queue of batches --> window (1,000 messages: to send, sent, acknowledged) --> event loop --> socket
//!                          ^------------- acknowledgements, from the front -----------'
//! ```
//! A message stays in the window until it is acknowledged (QoS 0: until it is written to the
//! socket; QoS 2: until the broker has said PUBCOMP). The client library forgets what was in flight when a clean session is made anew, so the
//! window is what is sent again after a reconnect: nothing is lost, some may be seen twice, at QoS 2
//! as well, for what was in flight when the connection broke. While
//! the broker is away the window and the queue fill, and `offer` refuses.

use super::client::{self, Connection, Outage};
use super::protocol::{Client, Event, EventLoop, IN_FLIGHT_MAX, Manner, Trouble, Welcome};
use super::window::Window;
use super::{MqttError, MqttSettings};
use crate::message::MessageBatch;
use crate::reminder::Reminder;
use crate::sink::{SinkHandle, SinkWork};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Notify;
use tracing::warn;

/// What a packet has beside topic and payload, at most.
const HEAD_BYTES_MAX: usize = 32;

/// Starts a sink. A broker that is away is no error: it is tried for ever.
pub fn start(name: &str, settings: &MqttSettings, client_id: &str) -> Result<SinkHandle, MqttError> {
    let connection = Connection::new(name, settings, client_id, None)?;
    let queue_bytes_max = usize::try_from(settings.queue.as_u64()).unwrap_or(usize::MAX);
    let outage = Outage::new(name, settings, client_id);
    let manner =
        Manner { qos: settings.qos, retain: false, expiry_s: settings.message_expiry.map(super::seconds) };
    let handle = SinkHandle::start(name, queue_bytes_max, move |work| {
        let (stopped, offered) = (client::notify_on_stop(&work.stop), Arc::new(Notify::new()));
        let notified = offered.clone();
        work.queue.set_waker(Arc::new(move || notified.notify_one()));
        // A stop may have been asked for before there was somebody to notify.
        if work.stop.is_asked() {
            return;
        }
        let Connection { client, event_loop, runtime } = connection;
        let window = Window::new(usize::from(IN_FLIGHT_MAX), work.stats.clone());
        let sink = Sink {
            work,
            client,
            manner,
            welcome: Welcome::default(),
            outage,
            window,
            is_connected: false,
            refusals: Reminder::default(),
        };
        runtime.block_on(sink.run(event_loop, &stopped, &offered));
        // A name that is still being looked up is not waited for.
        runtime.shutdown_background();
    });
    handle.map_err(|error| MqttError::Thread { name: name.to_owned(), error })
}

struct Sink {
    work: SinkWork,
    client: Client,
    /// How the settings want messages published, as far as the broker can.
    manner: Manner,
    welcome: Welcome,
    outage: Outage,
    window: Window,
    is_connected: bool,
    refusals: Reminder,
}

impl Sink {
    async fn run(mut self, mut event_loop: EventLoop, stopped: &Notify, offered: &Notify) {
        tokio::select! {
            biased;
            () = stopped.notified() => {}
            () = self.work(&mut event_loop, offered) => {}
        }
        // Best effort, so that the broker does not take the end for a failure.
        if self.is_connected && self.client.disconnect() {
            let goodbye = async { while event_loop.poll().await.is_ok() {} };
            _ = tokio::time::timeout(Duration::from_millis(100), goodbye).await;
        }
        self.work.stats.set_connected(false);
    }

    /// Ends when the queue is closed and everything in it is published.
    async fn work(&mut self, event_loop: &mut EventLoop, offered: &Notify) {
        while !self.is_done() {
            let outcome = {
                // The poll is never given up half-way: a message could be lost with it.
                let mut poll = pin!(event_loop.poll());
                loop {
                    self.feed();
                    if self.is_done() {
                        return;
                    }
                    tokio::select! {
                        biased;
                        outcome = &mut poll => break outcome,
                        () = offered.notified() => {}
                    }
                }
            };
            let error = outcome.map(|event| self.take(event)).err();
            // What one read brought waits in the event loop, also when the connection broke after it.
            while let Some(event) = event_loop.pop() {
                self.take(event);
            }
            self.window.settle();
            if let Some(error) = error {
                self.lost(error, offered).await;
            }
        }
    }

    fn is_done(&self) -> bool {
        self.window.is_empty() && self.work.queue.is_closed()
    }

    /// Hands to the client whatever the window has room for.
    fn feed(&mut self) {
        while self.is_connected {
            if let Some((topic, payload, retain)) = self.window.next_to_send() {
                if topic.len() + payload.len() + HEAD_BYTES_MAX > self.welcome.packet_bytes_max {
                    // It would end the connection, again and again.
                    self.window.refuse_last();
                    let bytes_max = self.welcome.packet_bytes_max;
                    self.refused(&format!(
                        "the message on `{topic}` has {} bytes, and the broker takes packets of {bytes_max}; raise its \
                         limit of a packet",
                        payload.len()
                    ));
                    continue;
                }
                let manner = Manner {
                    qos: self.manner.qos.min(self.welcome.qos_max),
                    retain: retain && self.welcome.retains,
                    ..self.manner
                };
                if let Err(error) = self.client.publish(topic, payload, manner) {
                    // The client's channel is larger than the window, so this is no want of room.
                    self.window.refuse_last();
                    self.refused(&error);
                }
            } else if self.window.has_room()
                && let Some(batch) = self.work.queue.try_recv()
            {
                self.admit(batch);
            } else {
                return;
            }
        }
    }

    fn admit(&mut self, batch: MessageBatch) {
        for topic in self.window.admit(batch) {
            self.refused(&format!(
                "`{topic}` is no topic to publish to: it is empty, too long, or has + or # in it"
            ));
        }
    }

    fn refused(&mut self, reason: &str) {
        self.work.stats.add_failures(1);
        if let Some(messages) = self.refusals.due() {
            warn!(sink = %self.work.name, reason, messages, "message not published");
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Connected(welcome) => {
                self.outage.connected();
                self.is_connected = true;
                self.work.stats.set_connected(true);
                if self.welcome != welcome {
                    self.welcome = welcome;
                    self.tell_limits();
                }
                self.window.send_again();
            }
            Event::Sent(packet_id) => self.window.sent(packet_id),
            Event::Acknowledged(packet_id, None) => self.window.acknowledged(packet_id),
            Event::Acknowledged(packet_id, Some(reason)) => {
                self.window.refused(packet_id);
                self.refused(reason);
            }
            _ => {}
        }
    }

    /// What the broker says that it cannot do is done without.
    fn tell_limits(&self) {
        let Welcome { retains, qos_max, .. } = self.welcome;
        if !retains {
            warn!(sink = %self.work.name, "the broker keeps no retained messages; late listeners hear of a twin with its next event");
        }
        if qos_max < self.manner.qos {
            warn!(sink = %self.work.name, qos = self.manner.qos, qos_max, "the broker takes a lower quality of service only, which is used");
        }
    }

    async fn lost(&mut self, trouble: Trouble, offered: &Notify) {
        self.is_connected = false;
        self.work.stats.set_connected(false);
        if self.outage.failed(trouble).is_taken_over {
            self.work.stats.takeovers.fetch_add(1, Ordering::Relaxed);
        }
        let mut pause = pin!(tokio::time::sleep(self.outage.pause()));
        // A sink that is closed with nothing left to publish does not wait for the broker.
        while !self.is_done() {
            tokio::select! {
                biased;
                () = &mut pause => return,
                () = offered.notified() => {}
            }
        }
    }
}
