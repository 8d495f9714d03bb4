//! Publishes to a broker, in the order offered.
//!
//! ```text
//!   queue of batches --> window (1,000 messages: to send, sent, acknowledged) --> event loop --> socket
//!                          ^------------- acknowledgements, from the front -----------'
//! ```
//! A message stays in the window until it is acknowledged (QoS 0: until it is written to the
//! socket). The client library forgets what was in flight when a clean session is made anew, so the
//! window is what is sent again after a reconnect: nothing is lost, some may be seen twice. While
//! the broker is away the window and the queue fill, and `offer` refuses.

use super::client::{self, Connection, IN_FLIGHT_MAX, Outage};
use super::socket;
use super::window::Window;
use super::{MqttError, MqttSettings};
use crate::message::MessageBatch;
use crate::reminder::Reminder;
use crate::sink::{SinkHandle, SinkWork};
use rumqttc::{AsyncClient, Event, EventLoop, Outgoing, Packet, PublishOptions, QoS};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tracing::warn;

/// Starts a sink. A broker that is away is no error: it is tried for ever.
pub fn start(name: &str, settings: &MqttSettings, client_id: &str) -> Result<SinkHandle, MqttError> {
    let connection = Connection::new(name, settings, client_id, socket::secure)?;
    let queue_bytes_max = usize::try_from(settings.queue.as_u64()).unwrap_or(usize::MAX);
    let (outage, quality) = (Outage::new(name, settings), client::quality(settings));
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
            quality,
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
    client: AsyncClient,
    quality: QoS,
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
        if self.is_connected && self.client.try_disconnect_now().is_ok() {
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
            while let Some(event) = event_loop.state.events.pop_front() {
                self.take(event);
            }
            self.window.settle();
            if let Some(error) = error {
                self.lost(&error, offered).await;
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
                let options = PublishOptions::new(self.quality).retain(retain);
                if let Err(error) = self.client.try_publish(topic, payload, options) {
                    // The client's channel is larger than the window, so this is no want of room.
                    self.window.refuse_last();
                    self.refused(&error.to_string());
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
            Event::Incoming(Packet::ConnAck(_)) => {
                self.outage.connected();
                self.is_connected = true;
                self.work.stats.set_connected(true);
                self.window.send_again();
            }
            Event::Outgoing(Outgoing::Publish(packet_id)) => self.window.sent(packet_id),
            Event::Incoming(Packet::PubAck(answer)) => self.window.acknowledged(answer.pkid),
            _ => {}
        }
    }

    async fn lost(&mut self, error: &rumqttc::ConnectionError, offered: &Notify) {
        self.is_connected = false;
        self.work.stats.set_connected(false);
        self.outage.failed(error);
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
