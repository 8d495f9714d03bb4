//! Why twins are as they are, in words: the verdict first, with the numbers that it rests on.

use dataflows::ask::Group;
use operators::view::{Cause, TwinView};

use crate::summary::instant;

/// The verdict on a twin.
pub(super) fn of_twin(twin: &TwinView) -> String {
    let since = twin.since_us.map_or(String::new(), |since_us| format!(" since {}", clock(since_us)));
    let measure = &twin.measure;
    let limit = duration(twin.desired_timeliness_us);
    let late = measure.received - measure.on_time;
    let lateness = |read: fn(&operators::entanglement::Lateness) -> f64| {
        twin.lateness.as_ref().map_or("-".to_owned(), |one| duration(read(one) as i64))
    };
    let (transport, compute) = (lateness(|one| one.transport_us), lateness(|one| one.compute_us));
    match twin.summary.cause {
        Cause::Nothing => format!("entangled{since}: ODTE {:.3}", measure.odte),
        Cause::Settling => format!("bound{since}, not judged yet"),
        Cause::NeverHeard => "known, and never heard".to_owned(),
        Cause::Silent => match twin.heard_us {
            Some(heard_us) => format!("silent: last heard at {}", clock(heard_us)),
            None => "silent".to_owned(),
        },
        Cause::SourceLost => format!("its sources are lost{since}"),
        Cause::LateInTransport => format!(
            "late in transport{since}: {late:.0} of {:.0} messages took longer than {limit}; transport {transport}, compute {compute} on average",
            measure.received
        ),
        Cause::LateInCompute => format!(
            "late in compute{since}: {late:.0} of {:.0} messages took longer than {limit}; transport {transport}, compute {compute} on average",
            measure.received
        ),
        Cause::ClockWrong => format!(
            "its clock is wrong{since}: {late:.0} of {:.0} messages claim times that are not believed; it is {}",
            measure.received,
            twin.lateness.as_ref().map_or("-".to_owned(), |one| skew(one.transport_min_us as i64))
        ),
        Cause::MessagesMissing => format!(
            "messages missing{since}: {:.0} of {:.0} expected came in {}",
            measure.received,
            measure.expected,
            duration(twin.window_us)
        ),
        Cause::Down => format!("down{since}, as its presence says"),
        Cause::WasDown => format!(
            "was down{since}: up for {:.0} % of the last {}",
            measure.availability * 100.0,
            duration(twin.window_us)
        ),
        Cause::Over => format!("{}{since}: it takes no more updates", twin.summary.phase.word()),
    }
}

/// The verdict on a group of twins.
pub(super) fn of_group(group: &Group) -> String {
    let count = match group.twins {
        1 => "1 twin".to_owned(),
        twins => format!("{twins} twins"),
    };
    let of = match group.prefix.as_str() {
        "" => format!("of type {}", group.twin_type),
        prefix => format!("`{prefix}…` of type {}", group.twin_type),
    };
    let since = match group.since_us {
        0 => String::new(),
        since_us => format!(" since {}", clock(since_us)),
    };
    let shared = group.shared.iter().map(|(name, value)| format!("{name} {value}"));
    let shared = match shared.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => none,
        shared => format!(" with {shared}"),
    };
    format!("{}{since}: {count} {of}{shared}", group.cause.word().replace('_', " "))
}

/// The time of day of an instant, to the second.
fn clock(at_us: i64) -> String {
    let text = instant(at_us);
    text.get(11..19).unwrap_or(&text).to_owned()
}

/// How a clock stands whose offset is this (rule 3.5).
fn skew(offset_us: i64) -> String {
    let word = if offset_us < 0 { "ahead" } else { "behind" };
    let hours = offset_us.unsigned_abs() as f64 / 3_600e6;
    match hours {
        2.0.. => format!("{} h {word}", trimmed(hours)),
        _ => format!("{} {word}", duration(offset_us.saturating_abs())),
    }
}

/// A duration in the unit that people would choose.
fn duration(us: i64) -> String {
    match us {
        ..=-1 | 0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{} ms", trimmed(us as f64 / 1e3)),
        _ => format!("{} s", trimmed(us as f64 / 1e6)),
    }
}

fn trimmed(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use operators::entanglement::{Lateness, Measure};
    use operators::life_cycle::Phase;
    use operators::view::TwinSummary;

    use super::*;

    fn twin(cause: Cause) -> TwinView {
        let (timeliness, reliability, availability, odte) = (0.25, 0.5, 1.0, 0.125);
        TwinView {
            summary: TwinSummary {
                twin: "p".into(),
                twin_type: "press".into(),
                phase: Phase::Done,
                cause,
                odte,
                timeliness,
                reliability,
                availability,
                revision: 3,
                digital_at_us: None,
            },
            at_us: 0,
            since_us: Some(7_987_000_000),
            heard_us: Some(3_600_000_000),
            update: 3,
            change: 1,
            properties: Vec::new(),
            profiles: Vec::new(),
            attributes: Vec::new(),
            relationships: Vec::new(),
            measure: Measure {
                timeliness,
                reliability,
                reliability_unclamped: reliability,
                availability,
                odte,
                received: 40.0,
                on_time: 10.0,
                expected: 80.0,
            },
            lateness: Some(Lateness { transport_us: 1_234_567.0, compute_us: 250.0, transport_min_us: 1.0 }),
            desired_timeliness_us: 500_000,
            threshold: 0.9,
            window_us: 60_000_000,
            unbind_after_us: None,
            functions: Vec::new(),
            waiting: (0, 0),
            events: Vec::new(),
        }
    }

    #[test]
    fn verdicts_say_what_is_low_and_since_when() {
        for (cause, expected) in [
            (Cause::Nothing, "entangled since 02:13:07: ODTE 0.125"),
            (Cause::Settling, "bound since 02:13:07, not judged yet"),
            (Cause::NeverHeard, "known, and never heard"),
            (Cause::Silent, "silent: last heard at 01:00:00"),
            (Cause::SourceLost, "its sources are lost since 02:13:07"),
            (
                Cause::LateInTransport,
                "late in transport since 02:13:07: 30 of 40 messages took longer than 500 ms; transport 1.23 s, compute 250 us on average",
            ),
            (
                Cause::ClockWrong,
                "its clock is wrong since 02:13:07: 30 of 40 messages claim times that are not believed; it is 1 us behind",
            ),
            (Cause::MessagesMissing, "messages missing since 02:13:07: 40 of 80 expected came in 60 s"),
            (Cause::Down, "down since 02:13:07, as its presence says"),
            (Cause::WasDown, "was down since 02:13:07: up for 100 % of the last 60 s"),
            (Cause::Over, "done since 02:13:07: it takes no more updates"),
        ] {
            assert_eq!(of_twin(&twin(cause)), expected);
        }
    }

    #[test]
    fn a_skew_has_the_unit_that_people_would_choose() {
        for (offset_us, expected) in [
            (-10_799_998_976, "3 h ahead"),
            (-90_000_000, "90 s ahead"),
            (1_234_000, "1.23 s behind"),
            (691_200_000_000, "192 h behind"),
            (i64::MIN, "2562047788.02 h ahead"),
        ] {
            assert_eq!(skew(offset_us), expected);
        }
    }

    #[test]
    fn groups_say_what_they_share() {
        let group = Group {
            cause: Cause::LateInTransport,
            twin_type: "press".into(),
            prefix: "gw-3".into(),
            twins: 31,
            since_us: 7_987_000_000,
            named: Vec::new(),
            shared: Vec::new(),
        };
        assert_eq!(of_group(&group), "late in transport since 02:13:07: 31 twins `gw-3…` of type press");
        let shared = vec![("hall".to_owned(), "north".to_owned()), ("floor".to_owned(), "2".to_owned())];
        let in_a_hall = Group { shared, ..group.clone() };
        assert_eq!(
            of_group(&in_a_hall),
            "late in transport since 02:13:07: 31 twins `gw-3…` of type press with hall north, floor 2"
        );
        let one = Group { twins: 1, prefix: String::new(), since_us: 0, ..group };
        assert_eq!(of_group(&one), "late in transport: 1 twin of type press");
    }
}
