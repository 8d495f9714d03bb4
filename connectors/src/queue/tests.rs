//! The queue from both sides: its bound, its wakers, its sleepers, its ends.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An item that weighs what it says.
#[derive(Debug, PartialEq, Eq)]
struct Load(usize);

impl Weigh for Load {
    fn weight(&self) -> usize {
        self.0
    }
}

fn counter() -> (Arc<AtomicUsize>, Waker) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    (count, Arc::new(move || _ = counted.fetch_add(1, Ordering::SeqCst)))
}

#[test]
fn the_bound_is_in_bytes_and_nothing_is_too_heavy_for_an_empty_queue() {
    let (sender, receiver) = bounded(10);
    assert_eq!(sender.try_send(Load(100)), Ok(()));
    assert_eq!(sender.try_send(Load(1)), Err(Refused::Full(Load(1))));
    assert_eq!(receiver.try_recv(), Some(Load(100)));
    assert_eq!(sender.try_send(Load(4)), Ok(()));
    assert_eq!(sender.try_send(Load(6)), Ok(()));
    assert_eq!(sender.try_send(Load(0)), Ok(()));
    assert_eq!(sender.try_send(Load(1)), Err(Refused::Full(Load(1))));
    assert_eq!((sender.bytes(), receiver.bytes()), (10, 10));
    assert_eq!(sender.send_over_bound(Load(7)), Ok(()));
    assert_eq!(receiver.bytes(), 17);
}

#[test]
fn a_drain_takes_up_to_about_its_bound_in_order() {
    let (sender, receiver) = bounded(100);
    sender.send_all(&mut (1..=10).map(Load).collect()).expect("room");
    let mut into = Vec::new();
    assert_eq!(receiver.drain(7, &mut into), 10);
    assert_eq!(into, [Load(1), Load(2), Load(3), Load(4)]);
    assert_eq!(receiver.drain(0, &mut into), 5, "at least one item");
    assert_eq!(receiver.drain(usize::MAX, &mut into), 40);
    assert_eq!(receiver.drain(7, &mut into), 0);
    assert_eq!(into, (1..=10).map(Load).collect::<Vec<_>>());
}

#[test]
fn what_has_no_room_stays_with_the_sender() {
    let (sender, receiver) = bounded(10);
    let mut items: Vec<_> = [4, 4, 4, 1].map(Load).into();
    sender.try_send_all(&mut items).expect("a receiver");
    assert_eq!(items, [Load(4), Load(1)], "no overtaking");
    drop(receiver);
    assert_eq!(sender.try_send_all(&mut items), Err(Closed));
    assert_eq!(items, [Load(4), Load(1)]);
}

#[test]
fn the_receiver_is_woken_by_data_on_an_empty_queue_and_by_the_end() {
    let (sender, receiver) = bounded(10);
    let (count, waker) = counter();
    receiver.set_waker(waker);
    let calls = || count.load(Ordering::SeqCst);
    sender.send(Load(1)).expect("room");
    sender.send(Load(1)).expect("room");
    assert_eq!(calls(), 1);
    receiver.drain(10, &mut Vec::new());
    sender.clone().send_all(&mut vec![Load(1), Load(1)]).expect("room");
    assert_eq!(calls(), 2, "one sender is left");
    drop(sender);
    assert_eq!(calls(), 3);
    assert!(!receiver.is_closed(), "there is still data");
    assert_eq!((receiver.recv(), receiver.recv(), receiver.recv()), (Some(Load(1)), Some(Load(1)), None));
    assert!(receiver.is_closed());
}

#[test]
fn the_sender_is_woken_by_room_after_a_refusal_and_by_the_end() {
    let (sender, receiver) = bounded(2);
    let (count, waker) = counter();
    sender.set_waker(waker);
    let calls = || count.load(Ordering::SeqCst);
    sender.send_all(&mut vec![Load(1), Load(1)]).expect("room");
    receiver.try_recv();
    assert_eq!(calls(), 0, "nobody was refused");
    sender.send(Load(1)).expect("room");
    assert!(sender.try_send(Load(1)).is_err());
    receiver.try_recv();
    receiver.try_recv();
    assert_eq!(calls(), 1);
    drop(receiver);
    assert_eq!(calls(), 2);
    assert_eq!(sender.try_send(Load(1)), Err(Refused::Closed(Load(1))));
    assert_eq!((sender.send(Load(1)), sender.send_over_bound(Load(1))), (Err(Closed), Err(Closed)));
}

#[test]
fn a_timeout_and_an_end_are_told_apart() {
    let (sender, receiver) = bounded::<Load>(2);
    assert_eq!(receiver.recv_timeout(Duration::ZERO), Received::Timeout);
    assert_eq!(receiver.recv_timeout(Duration::from_millis(1)), Received::Timeout);
    sender.send(Load(1)).expect("room");
    assert_eq!(receiver.recv_timeout(Duration::MAX), Received::Item(Load(1)));
    drop(sender);
    assert_eq!(receiver.recv_timeout(Duration::MAX), Received::Closed);
}

#[test]
fn sleepers_on_both_sides_pass_everything_on_in_order() {
    let (sender, receiver) = bounded(50);
    let senders = [0, 1].map(|which| {
        let sender = sender.clone();
        std::thread::spawn(move || {
            for part in 0..1_000 {
                // Even weights from one sender, odd ones from the other, each growing.
                let mut items = (0..5).map(|index| Load(2 * (5 * part + index) + which)).collect();
                sender.send_all(&mut items).expect("a receiver");
            }
        })
    });
    drop(sender);
    let mut next = [0, 1];
    while let Some(Load(weight)) = receiver.recv() {
        assert_eq!(weight, next[weight % 2]);
        next[weight % 2] += 2;
    }
    assert_eq!(next, [10_000, 10_001]);
    senders.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

#[test]
fn a_sleeping_sender_is_told_of_the_end() {
    let (sender, receiver) = bounded(1);
    sender.send(Load(1)).expect("room");
    let thread = std::thread::spawn(move || sender.send(Load(1)));
    drop(receiver);
    assert_eq!(thread.join().expect("no panic"), Err(Closed));
}
