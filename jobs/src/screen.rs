//! The live screen: how the fleet is, redrawn in place.
//!
//! What is drawn is a function of a [`View`]; only [`Screen`] knows the terminal.

use std::io;
use std::time::Duration;

use console::{Term, truncate_str};
use dataflows::{Survey, Worst};
use operators::life_cycle::Phase;

use crate::summary::thousands;

/// How many of the least entangled twins are shown.
const WORST_SHOWN: usize = 5;
/// Widest bar, in characters.
const BAR_WIDTH: u64 = 40;

/// What is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct View<'a> {
    /// Name of the job.
    pub job: &'a str,
    /// Since the start of the job, or of looking at it.
    pub elapsed: Duration,
    /// Accepted physical events since the start.
    pub events: u64,
    /// Of the last second or so.
    pub events_per_second: f64,
    /// What could not be taken since the start.
    pub dead_letters: u64,
    /// How the fleet is.
    pub survey: Option<&'a Survey>,
}

impl View<'_> {
    /// The lines of the screen.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("twinloom  {}  {} s   (Ctrl-C ends it)", self.job, self.elapsed.as_secs()),
            String::new(),
            format!(
                "events    {:>12}   {:>10.0}/s   dead letters {}",
                thousands(self.events),
                self.events_per_second,
                thousands(self.dead_letters)
            ),
        ];
        let Some(survey) = self.survey else {
            lines.push("waiting for the twins".into());
            return lines;
        };
        lines.push(format!(
            "latency   p50 {:>8.2} ms   p99 {:>8.2} ms   (compute p50 {:.2} ms, p99 {:.2} ms)",
            survey.lateness_ms.p50, survey.lateness_ms.p99, survey.compute_ms.p50, survey.compute_ms.p99
        ));
        let twins: Vec<String> = Phase::ALL
            .iter()
            .zip(survey.phases)
            .filter(|(phase, count)| **phase != Phase::Stopped || *count > 0)
            .map(|(phase, count)| format!("{} {}", phase.word(), thousands(count)))
            .collect();
        lines.push(format!("twins     {:>12}   {}", thousands(survey.twins), twins.join("  ")));
        lines.push(String::new());
        lines.push(format!(
            "ODTE      mean {:.3}   95 % of the twins have at least {:.3}",
            survey.odte_mean, survey.odte_p05
        ));
        lines.extend(histogram(&survey.odte_histogram));
        lines.push(String::new());
        lines.push("least entangled".into());
        if survey.worst.is_empty() {
            lines.push("  none: all twins are at 1.000".into());
        }
        for worst in survey.worst.iter().take(WORST_SHOWN) {
            let phase = worst.phase.word();
            lines.push(format!("  {:<20} {phase:<12} {:.3}  {}", worst.twin, worst.odte, cause(worst)));
        }
        lines
    }
}

/// A bar a tenth of ODTE, the best on top; empty ones below the last are left out.
fn histogram(counts: &[u64; 10]) -> Vec<String> {
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let lowest = counts.iter().position(|count| *count > 0).unwrap_or(9);
    let bar = |tenth: usize| {
        let count = counts[tenth];
        // A single twin among a million still shows.
        let width = (count * BAR_WIDTH).div_ceil(most) as usize;
        let (low, high) = (tenth as f64 / 10.0, (tenth + 1) as f64 / 10.0);
        format!("  {low:.1} to {high:.1}  {:<40} {}", "█".repeat(width), thousands(count))
    };
    (lowest..10).rev().map(bar).collect()
}

/// Which of T, R and A is low, and for T whether transport or compute is late.
pub fn cause(worst: &Worst) -> String {
    let Worst { timeliness, reliability, availability, .. } = *worst;
    if availability < timeliness && availability < reliability {
        return format!("A {availability:.2}: the device was down");
    }
    if reliability < timeliness {
        return format!("R {reliability:.2}: updates are missing");
    }
    if timeliness >= 1.0 {
        return "T, R and A are all 1".into();
    }
    let why = match (worst.transport_ms, worst.compute_ms) {
        (Some(transport_ms), _) if transport_ms < 0.0 => {
            format!("the device's clock is {:.1} s ahead", -transport_ms / 1e3)
        }
        (Some(transport_ms), Some(compute_ms)) if compute_ms > transport_ms => {
            format!("compute takes {compute_ms:.1} ms (transport {transport_ms:.1} ms)")
        }
        (Some(transport_ms), Some(compute_ms)) => {
            format!("transport takes {transport_ms:.1} ms (compute {compute_ms:.1} ms)")
        }
        _ => "no update in the window".into(),
    };
    format!("T {timeliness:.2}: {why}")
}

/// A terminal on which a view is redrawn in place.
#[derive(Debug)]
pub struct Screen {
    term: Term,
    drawn: usize,
}

impl Screen {
    /// The screen, where standard output is a terminal.
    pub fn open() -> Option<Self> {
        let term = Term::buffered_stdout();
        (term.is_term() && term.features().is_attended()).then_some(Self { term, drawn: 0 })
    }

    /// Draws a view in the place of the last.
    pub fn draw(&mut self, view: &View<'_>) -> io::Result<()> {
        let (height, width) = self.term.size();
        self.term.clear_last_lines(self.drawn)?;
        let lines = view.lines();
        // The terminal would scroll what does not fit, and the next view would not find its place.
        let shown = &lines[..lines.len().min(usize::from(height).saturating_sub(1))];
        for line in shown {
            self.term.write_line(&truncate_str(line, usize::from(width), ""))?;
        }
        self.drawn = shown.len();
        self.term.flush()
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn worst(twin: &str, [t, r, a]: [f64; 3], transport_ms: Option<f64>, compute_ms: f64) -> Worst {
        Worst {
            twin: twin.into(),
            phase: Phase::Disentangled,
            odte: t * r * a,
            timeliness: t,
            reliability: r,
            availability: a,
            transport_ms,
            compute_ms: transport_ms.map(|_| compute_ms),
        }
    }

    #[test]
    fn the_cause_is_named() {
        for (worst, expected) in [
            (
                worst("a", [0.2, 1.0, 1.0], Some(120.0), 1.0),
                "T 0.20: transport takes 120.0 ms (compute 1.0 ms)",
            ),
            (
                worst("a", [0.2, 1.0, 1.0], Some(1.0), 120.0),
                "T 0.20: compute takes 120.0 ms (transport 1.0 ms)",
            ),
            (
                worst("a", [0.0, 1.0, 1.0], Some(-7_200_000.0), 1.0),
                "T 0.00: the device's clock is 7200.0 s ahead",
            ),
            (worst("a", [0.0, 0.0, 1.0], None, 0.0), "T 0.00: no update in the window"),
            (worst("a", [1.0, 0.5, 1.0], Some(1.0), 1.0), "R 0.50: updates are missing"),
            (worst("a", [1.0, 0.9, 0.5], Some(1.0), 1.0), "A 0.50: the device was down"),
            (worst("a", [1.0, 1.0, 1.0], Some(1.0), 1.0), "T, R and A are all 1"),
        ] {
            assert_eq!(cause(&worst), expected);
        }
    }

    #[test]
    fn the_screen_shows_how_the_fleet_is() {
        let mut survey = crate::summary::tests::survey();
        survey.worst = vec![worst("device-7", [0.25, 1.0, 1.0], Some(1_200.0), 0.3)];
        let view = View {
            job: "first-twins",
            elapsed: Duration::from_secs(12),
            events: 12_000,
            events_per_second: 1_000.4,
            dead_letters: 0,
            survey: Some(&survey),
        };
        let shown: String = view.lines().iter().map(|line| format!("{}\n", line.trim_end())).collect();
        expect![[r#"
            twinloom  first-twins  12 s   (Ctrl-C ends it)

            events          12,000         1000/s   dead letters 0
            latency   p50     1.25 ms   p99     4.50 ms   (compute p50 0.05 ms, p99 0.40 ms)
            twins            1,000   unbound 1  bound 0  entangled 990  disentangled 9  done 0

            ODTE      mean 0.988   95 % of the twins have at least 0.950
              0.9 to 1.0  ████████████████████████████████████████ 990
              0.8 to 0.9  █                                        1
              0.7 to 0.8                                           0
              0.6 to 0.7                                           0
              0.5 to 0.6                                           0
              0.4 to 0.5                                           0
              0.3 to 0.4                                           0
              0.2 to 0.3                                           0
              0.1 to 0.2                                           0
              0.0 to 0.1  █                                        9

            least entangled
              device-7             disentangled 0.250  T 0.25: transport takes 1200.0 ms (compute 0.3 ms)
        "#]]
        .assert_eq(&shown);
        let empty = View { survey: None, ..view };
        assert_eq!(empty.lines().last().map(String::as_str), Some("waiting for the twins"));
    }
}
