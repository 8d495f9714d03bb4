//! ODTE by T_d, and CPU at the pace of the devices. One fleet a flavour, whose T_d is changed while it runs: what was
//! judged by the one before is out of the window before the next is read.

use std::time::{Duration, Instant};

use operators::life_cycle::Phase;

use crate::Settings;
use crate::broker::Broker;
use crate::flavour::{ALL, Kind};
use crate::site::{Devices, PER_SECOND, Site, plan};
use crate::table::{Many, Table};
use crate::used::Used;

/// T_d, milliseconds.
const DESIRED_MS: [u64; 13] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];
/// Two T_d with so much are enough: with a longer one no update is later.
const ALL_ON_TIME: f64 = 0.99;

/// What the runs of a flavour say.
struct Curve {
    kind: Kind,
    odte: Vec<Many>,
    entangled_at_ms: Vec<Option<u64>>,
    late_ms: [Many; 2],
    cpu: [Many; 3],
    /// CPU that others took meanwhile, cores.
    others: Many,
    failures: u64,
}

/// ODTE against T_d, and CPU.
pub fn measure(settings: &Settings) -> Vec<Table> {
    let [window, start] = [settings.window, settings.cold_start];
    assert!(window > start, "--window must be longer than an endpoint's start, {start:?}");
    let broker = Broker::start();
    let mut curves: Vec<Curve> = ALL
        .map(|kind| Curve {
            kind,
            odte: vec![Many::default(); DESIRED_MS.len()],
            entangled_at_ms: Vec::new(),
            late_ms: Default::default(),
            cpu: Default::default(),
            others: Many::default(),
            failures: 0,
        })
        .into();
    let mut threshold = 0.0;
    for _ in 0..settings.runs {
        for curve in &mut curves {
            threshold = curve.run(settings, &broker);
        }
    }
    let title = format!(
        "ODTE (median of {} runs) by T_d in ms, {} twins at {PER_SECOND}/s, window {} s; – is not measured, as all before was on time; \
         found cold: a start of {} ms in each window",
        settings.runs,
        settings.twins,
        settings.window.as_secs(),
        settings.cold_start.as_millis()
    );
    let head = ["function", "paper"].map(String::from).into_iter();
    let mut odte = Table::new(title, head.chain(DESIRED_MS.map(|ms| ms.to_string())));
    let mut at = Table::new(
        format!(
            "From which T_d on the fleet's mean ODTE is {threshold} or more, by the median and in each run; lateness of all updates; \
             CPU seconds per million events at this pace; what others took of the machine meanwhile"
        ),
        [
            "function",
            "paper",
            "entangled from, ms",
            "each run",
            "late p50, ms",
            "late p99, ms",
            "CPU of the engine",
            "of Python",
            "of the endpoint",
            "failed",
            "others, cores",
        ],
    );
    for curve in &curves {
        let names = curve.kind.names();
        odte.row(names.iter().cloned().chain(curve.odte.iter().map(|one| match one.is_empty() {
            true => "–".into(),
            false => format!("{:.3}", one.median()),
        })));
        let each: Vec<String> = curve.entangled_at_ms.iter().copied().map(shown).collect();
        let medians = curve.odte.iter().filter(|one| !one.is_empty()).map(Many::median);
        let [p50, p99] = [&curve.late_ms[0], &curve.late_ms[1]].map(|many| many.show(2));
        let [engine, python, endpoint] = [0, 1, 2].map(|who: usize| curve.cpu[who].show(0));
        let [name, paper] = names;
        at.row([
            name,
            paper,
            shown(entangled_at_ms(medians, threshold)),
            each.join(", "),
            p50,
            p99,
            engine,
            python,
            endpoint,
            curve.failures.to_string(),
            curve.others.show(2),
        ]);
    }
    vec![odte, at]
}

/// From which T_d on all that was measured is at least the threshold.
fn entangled_at_ms(odte: impl Iterator<Item = f64>, threshold: f64) -> Option<u64> {
    let mut from = None;
    for (ms, odte) in DESIRED_MS.into_iter().zip(odte) {
        from = from.filter(|_| odte >= threshold).or((odte >= threshold).then_some(ms));
    }
    from
}

fn shown(ms: Option<u64>) -> String {
    ms.map_or("never".into(), |ms| ms.to_string())
}

impl Curve {
    /// One run; the threshold that it was judged by.
    fn run(&mut self, settings: &Settings, broker: &Broker) -> f64 {
        let kind = self.kind;
        let endpoint = kind.endpoint(settings);
        let url = broker.settings(1).url;
        let desired = |ms: u64| {
            let text = kind.job(settings, &url, endpoint.as_ref(), 1, Duration::from_millis(ms));
            plan(&text)
        };
        let first = desired(DESIRED_MS[0]);
        let threshold = first.types[0].terms.threshold;
        let site = Site::start(first, 1);
        let devices = Devices::start(broker, settings.twins);
        crate::broker::until("all twins to be heard", || site.events() >= 2 * settings.twins);
        let (used, events, begin) = (Used::now(), site.events(), Instant::now());
        let (mut seen, mut on_time) = (Vec::new(), 0);
        for (place, ms) in DESIRED_MS.into_iter().enumerate() {
            let types = desired(ms).types;
            site.run.set_terms(1, types.into_iter().map(|one| one.terms).collect());
            if let (Kind::Http { is_cold: true, .. }, Some(endpoint)) = (kind, &endpoint) {
                endpoint.chill();
            }
            let (begin, beside) = (Instant::now(), Used::now());
            // The window is closed: a message's time more, and what is judged is of this T_d.
            std::thread::sleep(settings.window + Duration::from_secs(1) / PER_SECOND as u32);
            let survey = site.survey();
            assert!(begin.elapsed() > settings.window, "the window is of this T_d");
            self.odte[place].add(survey.odte_mean);
            let entangled = survey.phases[Phase::Entangled as usize];
            eprintln!(
                "{}: T_d {ms} ms: ODTE {:.3}, {entangled} of {} entangled, others took {:.2} cores",
                kind.names()[0],
                survey.odte_mean,
                survey.twins,
                Used::since(beside).others / begin.elapsed().as_secs_f64()
            );
            seen.push(survey.odte_mean);
            on_time = if survey.odte_mean >= ALL_ON_TIME { on_time + 1 } else { 0 };
            if on_time == 2 {
                break;
            }
        }
        let used = Used::since(used);
        self.others.add(used.others / begin.elapsed().as_secs_f64());
        let millions = (site.events() - events) as f64 / 1e6;
        for (many, seconds) in self.cpu.iter_mut().zip([used.engine, used.python, used.endpoint]) {
            many.add(seconds / millions);
        }
        let late = site.survey().lateness_ms;
        self.late_ms[0].add(late.p50);
        self.late_ms[1].add(late.p99);
        self.entangled_at_ms.push(entangled_at_ms(seen.into_iter(), threshold));
        self.failures += site.failures();
        drop(devices);
        site.end();
        threshold
    }
}
