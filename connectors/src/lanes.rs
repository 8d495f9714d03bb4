//! A source's ends of its lanes, and what each lane has no room for yet: the place where
//! back-pressure reaches a source.

use crate::message::{Intake, RawMessage};
use crate::queue::{self, Closed, Receiver, Sender, Waker};
use crate::source::LaneOf;

/// The sending side of every lane of a source.
pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    lane_of: LaneOf,
}

struct Lane {
    sender: Sender<Intake>,
    waiting: Vec<Intake>,
}

impl Lanes {
    /// `count` lanes (at least one) that hold `bytes_max` each.
    pub(crate) fn new(count: usize, bytes_max: usize, lane_of: LaneOf) -> (Self, Vec<Receiver<Intake>>) {
        let lane = |_| {
            let (sender, receiver) = queue::bounded(bytes_max);
            (Lane { sender, waiting: Vec::new() }, receiver)
        };
        let (lanes, receivers) = (0..count.max(1)).map(lane).unzip();
        (Self { lanes, lane_of }, receivers)
    }

    /// Called when a lane that was full has room again, or is gone.
    pub(crate) fn set_waker(&self, waker: &Waker) {
        self.lanes.iter().for_each(|lane| lane.sender.set_waker(waker.clone()));
    }

    /// Puts a message down for its lane; `flush` hands it over.
    pub(crate) fn push(&mut self, message: RawMessage) {
        let lane = if self.lanes.len() == 1 { 0 } else { (self.lane_of)(&message.topic) % self.lanes.len() };
        self.lanes[lane].waiting.push(Intake::Message(message));
    }

    /// Puts a message or news down for one lane.
    pub(crate) fn push_to(&mut self, lane: usize, item: Intake) {
        self.lanes[lane].waiting.push(item);
    }

    /// Puts news down for lane 0, after the messages that came before them.
    pub(crate) fn push_first(&mut self, news: Intake) {
        self.lanes[0].waiting.push(news);
    }

    /// Puts news down for every lane.
    pub(crate) fn push_all(&mut self, news: &Intake) {
        self.lanes.iter_mut().for_each(|lane| lane.waiting.push(news.clone()));
    }

    /// Hands over as much as the lanes have room for, with one lock a lane.
    pub(crate) fn flush(&mut self) -> Result<(), Closed> {
        self.lanes.iter_mut().try_for_each(|lane| lane.sender.try_send_all(&mut lane.waiting))
    }

    /// Hands over everything, whatever the lanes have room for: for the end of a source.
    pub(crate) fn flush_over_bound(&mut self) -> Result<(), Closed> {
        self.lanes.iter_mut().try_for_each(|lane| {
            lane.waiting.drain(..).try_for_each(|item| lane.sender.send_over_bound(item))
        })
    }

    /// Whether something waits for room.
    pub(crate) fn are_blocked(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.waiting.is_empty())
    }
}
