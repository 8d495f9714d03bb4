//! How often each twin speaks on a stream.

use super::Heard;
use super::writing::duration;

/// Fewer messages of a twin say nothing of its rate.
const MESSAGES_MIN: usize = 4;
/// How far the middle of the gaps may be spread, against their median, for a stream to be regular.
const SPREAD_MAX: f64 = 0.5;
/// Periods that people choose, seconds: what is within a twentieth of one is it.
const PERIODS: [f64; 16] =
    [0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 300.0, 600.0, 3600.0];

/// A device that speaks when something changes may be silent for so many times its longest gap so far, ..
const SILENCE_GAPS: f64 = 10.0;
/// .. and for so many seconds at least.
const SILENCE_MIN: f64 = 300.0;

/// What is known of a rate.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rate {
    /// As a job file writes it.
    pub text: String,
    /// Seconds between two messages, where they are regular.
    pub period: Option<f64>,
    /// What was seen.
    pub seen: String,
}

/// The rate of a stream, from the messages of each twin in the order of their arrival. Messages that hold many elements
/// are no measure of how often each is taken.
pub(super) fn rate<'a>(twins: impl Iterator<Item = &'a [&'a Heard]>, has_elements: bool) -> Rate {
    let none = |seen: String| Rate { text: "none".into(), period: None, seen };
    let (mut gaps, mut messages, mut spoke) = (Vec::new(), 0, 0);
    for all in twins {
        let live: Vec<i64> = all.iter().filter(|one| !one.retained).map(|one| one.arrived_us).collect();
        messages += live.len();
        spoke += usize::from(!live.is_empty());
        if live.len() >= MESSAGES_MIN {
            gaps.extend(live.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6));
        }
    }
    if messages == 0 {
        return none("only what the broker had kept".into());
    }
    if gaps.is_empty() {
        return none(format!(
            "{messages} messages of {spoke} twins, too few to tell a rate; listen longer with --for"
        ));
    }
    gaps.sort_by(f64::total_cmp);
    let at = |share: f64| gaps[((gaps.len() - 1) as f64 * share).round() as usize];
    let (low, median, high) = (at(0.1), at(0.5), at(0.9));
    let seen = format!("every {} s, mostly {} to {}", short(median), short(low), short(high));
    if median <= 0.0 || (high - low) / median > SPREAD_MAX {
        let silence = (gaps[gaps.len() - 1] * SILENCE_GAPS).max(SILENCE_MIN);
        return Rate {
            text: format!("{{on_change: {{silence_max: {}}}}}", duration(silence)),
            period: None,
            seen: format!("irregular: {seen}; ? how long it may be silent is a guess"),
        };
    }
    let close = PERIODS.iter().find(|period| (median / **period - 1.0).abs() < 0.05);
    let period = close.copied().unwrap_or_else(|| rounded(median));
    let seen = if has_elements { format!("{seen}; messages, not elements") } else { seen };
    Rate { text: text(period), period: Some(period), seen }
}

/// `1/s`, `0.2/s`, `6/m`: the largest unit of time in which it is a plain number.
fn text(period: f64) -> String {
    let units = [("s", 1.0), ("m", 60.0), ("h", 3_600.0)];
    let per = |seconds: f64| seconds / period;
    let plain =
        |rate: f64| (0.1..=600.0).contains(&rate) && (rate * 10.0 - (rate * 10.0).round()).abs() < 1e-9;
    let (unit, seconds) = units
        .into_iter()
        .find(|(_, seconds)| plain(per(*seconds)))
        .unwrap_or_else(|| units.into_iter().find(|(_, seconds)| per(*seconds) >= 0.5).unwrap_or(units[2]));
    format!("{}/{unit}", rounded(per(seconds)))
}

/// To two digits that say something.
fn rounded(number: f64) -> f64 {
    if number <= 0.0 {
        return 0.0;
    }
    let scale = 10f64.powi(1 - number.log10().floor() as i32);
    let rounded = (number * scale).round() / scale;
    // Without what floating point leaves behind.
    format!("{rounded:.6}").parse().unwrap_or(rounded)
}

fn short(seconds: f64) -> String {
    format!("{seconds:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(arrivals: &[i64]) -> String {
        let heard: Vec<Heard> = arrivals
            .iter()
            .map(|ms| Heard {
                topic: "t".into(),
                payload: vec![b'1'],
                arrived_us: ms * 1_000,
                retained: false,
            })
            .collect();
        let heard: Vec<&Heard> = heard.iter().collect();
        rate(std::iter::once(heard.as_slice()), false).text
    }

    #[test]
    fn regular_streams_have_a_rate() {
        for (arrivals, expected) in [
            (&[0, 1_000, 2_010, 2_990, 4_000][..], "1/s"),
            (&[0, 5_010, 9_990, 15_000], "0.2/s"),
            (&[0, 10_000, 20_000, 30_000], "0.1/s"),
            (&[0, 60_000, 120_000, 180_000], "1/m"),
            (&[0, 30_000, 60_000, 90_000], "2/m"),
            (&[0, 3_000, 6_000, 9_000], "20/m"),
            (&[0, 100, 200, 300, 400], "10/s"),
            (&[0, 100, 5_000, 5_100, 30_000], "{on_change: {silence_max: 5m}}"),
            (&[0, 100, 5_000, 5_100, 95_000], "{on_change: {silence_max: 15m}}"),
            (&[0, 1_000], "none"),
            (&[], "none"),
        ] {
            assert_eq!(of(arrivals), expected, "{arrivals:?}");
        }
    }
}
