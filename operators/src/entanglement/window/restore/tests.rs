//! Tables of windows that no twin has, and of what a window holds when its length has changed.

use super::*;
use crate::entanglement::Entanglement;
use crate::entanglement::window::Coarse;
use crate::fixture::twin_type;

const SECOND_US: i64 = 1_000_000;
const WINDOW_US: i64 = 10 * SECOND_US;
const NEWEST_US: i64 = 1_700_000_000 * SECOND_US;

/// So many observations, the newest at [`NEWEST_US`], each third late, on two streams in turn.
fn window(observations: i64, gap_us: i64, window_us: i64) -> Window {
    let mut window = Window::default();
    for number in (0..observations).rev() {
        let (on_time, stream) = (number % 3 != 0, (number % 2) as u8);
        let at_us = NEWEST_US - number * gap_us;
        let observation = Observation { at_us, transport_us: 20_000, compute_us: 150, on_time, stream };
        window.observe(observation, window_us, 2);
    }
    window
}

fn exact() -> Exact {
    match window(6, SECOND_US, WINDOW_US) {
        Window::Exact(exact) => exact,
        Window::Coarse(_) => panic!("six observations are kept one by one"),
    }
}

fn coarse() -> Coarse {
    match window(100, SECOND_US / 10, WINDOW_US) {
        Window::Coarse(coarse) => coarse,
        Window::Exact(_) => panic!("a hundred observations are not kept one by one"),
    }
}

fn check(window: Window, expected: Result<(), &'static str>) {
    let found = window.check(2, WINDOW_US, NEWEST_US);
    assert_eq!(found, expected.map_err(SnapshotError::Contradiction), "{window:?}");
}

#[test]
fn single_observations_that_no_twin_has_are_refused() {
    check(Window::default(), Ok(()));
    check(Window::Exact(exact()), Ok(()));
    type Damage = fn(&mut Exact);
    let cases: [(Damage, Result<(), &'static str>); 9] = [
        (|window| window.kept[2].packed |= u32::from(NO_STREAM) << super::super::STREAM_SHIFT, Ok(())),
        (|window| window.kept = window.kept.repeat(11), Err("a window has too many single observations")),
        (|window| window.base_us = i64::MIN, Err("a window begins at no time")),
        (|window| window.base_us += SECOND_US, Err("an observation is newer than its twin")),
        (|window| window.kept.swap(1, 2), Err("observations are out of order")),
        (|window| window.on_time += 1, Err("a window miscounts what was on time")),
        (|window| window.kept.clear(), Err("an empty window has observations that were on time")),
        (
            |window| window.kept[3].packed |= 6 << super::super::STREAM_SHIFT,
            Err("an observation is of no stream of its type"),
        ),
        (|window| window.kept[3].transport_us = f32::NAN, Err("a lateness is not finite")),
    ];
    for (damage, expected) in cases {
        let mut window = exact();
        damage(&mut window);
        check(Window::Exact(window), expected);
    }
}

#[test]
fn sub_windows_that_no_twin_has_are_refused() {
    check(Window::Coarse(coarse()), Ok(()));
    type Damage = fn(&mut Coarse);
    let cases: [(Damage, &'static str); 9] = [
        (|window| window.newest += 1_000, "a window is ahead of its twin"),
        (|window| window.newest = i64::MAX, "a window is ahead of its twin"),
        (|window| window.newest = i64::MIN, "a window begins at no time"),
        (|window| window.ring = window.ring[1..].into(), "a window has too many or too few sub-windows"),
        (|window| window.received -= 1, "a window miscounts its observations"),
        (|window| window.on_time += 1, "a window miscounts what was on time"),
        (
            |window| {
                window.ring[3].on_time += 100;
                window.on_time += 100;
            },
            "more observations were on time than there are",
        ),
        (|window| window.ring[64].compute_us = f32::INFINITY, "a lateness is not finite"),
        (|window| window.by_stream = None, "a window counts for other streams"),
    ];
    for (damage, expected) in cases {
        let mut window = coarse();
        damage(&mut window);
        check(Window::Coarse(window), Err(expected));
    }
}

#[test]
fn what_is_read_takes_no_more_memory_than_it_needs() {
    let mut window = exact();
    window.kept.reserve(100);
    let bytes = postcard::to_stdvec(&window).expect("it has parts of known length");
    let read: Exact = postcard::from_bytes(&bytes).expect("it was written");
    assert_eq!((read.kept.capacity(), &read), (6, &window));
    let change = change(WINDOW_US, 3 * SECOND_US);
    assert_eq!(read.adapt(&change).kept.capacity(), 4);
}

fn change(before_us: i64, now_us: i64) -> WindowChange {
    WindowChange { before_us, now_us, streams: vec![Some(0), Some(1)], streams_now: 2 }
}

/// What a window holds after its length has changed, beside what one of the shorter length holds. Single
/// observations are the same; in sub-windows, those near the shorter one's begin may differ.
#[test]
fn a_changed_window_holds_what_the_shorter_one_held() {
    let minute_us = 60 * SECOND_US;
    for (observations, gap_us, before_us, now_us, off_max) in [
        (6, SECOND_US, WINDOW_US, 3 * SECOND_US, 0.0),
        (6, SECOND_US, WINDOW_US, minute_us, 0.0),
        (40, SECOND_US, minute_us, WINDOW_US, 0.0),
        // Ticks of 64 microseconds, and back to those of one.
        (50, minute_us, 1_440 * minute_us, 10 * minute_us, 1.0),
        (9, minute_us, 10 * minute_us, 1_440 * minute_us, 0.0),
        (100, SECOND_US / 10, WINDOW_US, 5 * SECOND_US, 2.0),
        (100, SECOND_US / 10, WINDOW_US, minute_us, 2.0),
        (1_000, SECOND_US / 50, WINDOW_US, 3 * SECOND_US, 8.0),
        (1_000, SECOND_US / 50, 3 * SECOND_US, WINDOW_US, 4.0),
    ] {
        let adapted = window(observations, gap_us, before_us).adapt(&change(before_us, now_us));
        adapted.check(2, now_us, NEWEST_US).expect("it is a window of its type now");
        let shorter_us = before_us.min(now_us);
        let expected = window(observations, gap_us, shorter_us).counts(NEWEST_US, shorter_us);
        let found = adapted.counts(NEWEST_US, now_us);
        let name = format!("{observations} from {before_us} to {now_us}: {found:?}, not {expected:?}");
        assert!((found.received - expected.received).abs() <= off_max, "{name}");
        assert!((found.on_time - expected.on_time).abs() <= off_max, "{name}");
        let by_stream = adapted.counts_by_stream(NEWEST_US, now_us);
        assert!((by_stream[0] + by_stream[1] - found.received).abs() < 1e-9, "{name}: {by_stream:?}");
    }
}

#[test]
fn streams_of_sub_windows_are_followed() {
    for (before, streams, streams_now, expected) in [
        (2, vec![Some(1), Some(0)], 2, [50.0, 50.0, 0.0]),
        (2, vec![None, Some(2)], 3, [0.0, 0.0, 50.0]),
        (2, vec![None, None], 2, [0.0, 0.0, 0.0]),
        // The whole is the one stream's.
        (1, vec![Some(2)], 3, [0.0, 0.0, 100.0]),
    ] {
        let mut window = coarse();
        if before == 1 {
            window.by_stream = None;
        }
        let change = WindowChange { before_us: WINDOW_US, now_us: WINDOW_US, streams, streams_now };
        let adapted = Window::Coarse(window).adapt(&change);
        let counts = adapted.counts_by_stream(NEWEST_US, WINDOW_US);
        assert_eq!(counts[..3], expected, "{change:?}");
        assert_eq!(adapted.counts(NEWEST_US, WINDOW_US).received, 100.0, "{change:?}");
    }
}

/// A type with the most streams has no number to spare for observations of one that is gone.
#[test]
fn observations_of_no_stream_leave_a_type_with_the_most_streams() {
    for (streams_now, expected) in [(2, 6), (STREAMS_MAX - 1, 6), (STREAMS_MAX, 3)] {
        let streams = vec![Some(0), None];
        let change = WindowChange { before_us: WINDOW_US, now_us: WINDOW_US, streams, streams_now };
        let adapted = exact().adapt(&change);
        adapted.check(streams_now, WINDOW_US, NEWEST_US).expect("it is a window of its type now");
        assert_eq!(adapted.kept.len(), expected, "{streams_now} streams");
    }
}

/// Nothing is expected of the time that the shorter window has forgotten.
#[test]
fn rule_4_4_a_longer_window_expects_no_more_than_it_can_know() {
    let terms = |window: &str| {
        let parts = format!(r#"{{"entanglement": {{"window": "{window}"}}, "streams": {{"a": "1/s"}}}}"#);
        twin_type("press", &parts).terms
    };
    let (before, now) = (terms("10s"), terms("60s"));
    let change = WindowChange {
        before_us: before.window_us,
        now_us: now.window_us,
        streams: vec![Some(0)],
        streams_now: 1,
    };
    for (seconds, expected) in [(5, (6.0, 5.0)), (30, (11.0, 10.0))] {
        let mut entanglement = Entanglement::default();
        entanglement.bind(0);
        for second in 0..=seconds {
            let at_us = second * SECOND_US;
            let observation = Observation { at_us, transport_us: 0, compute_us: 0, on_time: true, stream: 0 };
            entanglement.observe(observation, &before);
        }
        let measure = entanglement.adapt(&change, seconds * SECOND_US).measure(seconds * SECOND_US, &now);
        assert_eq!((measure.received, measure.expected), expected, "after {seconds} s");
    }
}
