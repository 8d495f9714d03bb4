//! Jobs that read Sparkplug B from a real mosquitto, with edge nodes that behave and edge nodes that do not.
//!
//! ```text
//!   edge node ──► mosquitto ──► twinloom run ──► states, archive
//!       ▲                           │
//!       └──── NCMD: be born again ──┘
//! ```

use crate::encoder::{BOOLEAN, DOUBLE, Metric, bd_seq, payload};
use crate::harness::archive::Archive;
use crate::harness::broker::Broker;
use crate::harness::client::{Client, Message};
use crate::harness::program::{Running, start, twinloom};
use crate::harness::site::{Site, is_state, listener, metric};
use crate::harness::{free_port, until};

/// Meters behind gateways, and the gateways themselves.
const JOB: &str = r#"
job: line
connections:
  floor: {mqtt: {url: "URL", qos: 1}}
types:
  meter:
    properties: {power: {type: double}, breaker: {type: boolean}}
    physical:
      spb:
        from: floor
        decode: sparkplug_b
        group: plant7
        twin: "{edge}:{device}"
        properties: {power: Power/Active, breaker: Breaker/Closed}
        expected_rate: none
    entanglement: {window: 60s, settle: 0s, clock: {behind_max: 40000d}}
  gateway:
    properties: {load: {type: double}}
    physical:
      spb:
        from: floor
        decode: sparkplug_b
        group: plant7
        twin: "{edge}"
        properties: {load: Load}
        expected_rate: none
    entanglement: {window: 60s, settle: 0s, clock: {behind_max: 40000d}}
digital: [{to: floor}]
archive: {path: archive}
checkpoint: {interval: 100ms}
"#;

/// An edge node with two meters.
struct Node {
    name: &'static str,
    client: Client,
    seq: u8,
    connection: u64,
    at_ms: u64,
}

const METERS: [&str; 2] = ["m-1", "m-2"];

/// The edge node that shows that the job listens.
const PROBE: &str = "probe";

impl Node {
    fn new(broker: &Broker, name: &'static str) -> Self {
        Self { name, client: broker.client(name), seq: 0, connection: 1, at_ms: 1_767_225_600_000 }
    }

    fn publish(&mut self, kind: &str, device: &str, metrics: &[Metric]) {
        let topic = match device {
            "" => format!("spBv1.0/plant7/{kind}/{}", self.name),
            _ => format!("spBv1.0/plant7/{kind}/{}/{device}", self.name),
        };
        self.at_ms += 1;
        self.client.publish(&topic, payload(Some(self.seq.into()), self.at_ms, metrics));
        self.seq = self.seq.wrapping_add(1);
    }

    /// The births of the node and its meters, whose aliases are other ones each time.
    fn is_born(&mut self) {
        self.seq = 0;
        let load = Metric::named("Load").alias(self.alias(0)).of(DOUBLE).double(0.5);
        let rebirth = Metric::named("Node Control/Rebirth").of(BOOLEAN).boolean(false);
        let connection = bd_seq(self.connection);
        self.publish("NBIRTH", "", &[connection, rebirth, load]);
        for (number, meter) in METERS.into_iter().enumerate() {
            let alias = self.alias(10 * (number as u64 + 1));
            let power = Metric::named("Power/Active").alias(alias).of(DOUBLE).double(0.0);
            let breaker = Metric::named("Breaker/Closed").alias(alias + 1).of(BOOLEAN).boolean(true);
            let other = Metric::named("Current/L1").alias(alias + 2).of(DOUBLE).double(1.0);
            self.publish("DBIRTH", meter, &[power, breaker, other]);
        }
    }

    fn alias(&self, number: u64) -> u64 {
        1_000 * self.connection + number
    }

    fn says_power(&mut self, meter: usize, power: f64) {
        let alias = self.alias(10 * (meter as u64 + 1));
        self.publish("DDATA", METERS[meter], &[Metric::with_alias(alias).double(power)]);
    }

    /// Something that is lost on its way.
    fn loses(&mut self) {
        self.seq = self.seq.wrapping_add(1);
    }

    fn dies(&mut self) {
        let topic = format!("spBv1.0/plant7/NDEATH/{}", self.name);
        self.client.publish(&topic, payload(None, 1, &[bd_seq(self.connection)]));
        self.connection += 1;
    }
}

/// How often a node was asked to be born again.
const REQUESTS: &str = r#"twinloom_source_requests_total{source="floor"}"#;

/// The job on a port that shows its metrics.
fn run(site: &Site) -> (Running, u16) {
    let port = free_port();
    (site.run(&["--listen", &format!("127.0.0.1:{port}")]), port)
}

/// Has a node born until the job has heard it: it may have begun to listen in the middle, so only the others' dead
/// letters count.
fn bind(broker: &Broker, listener: &Client) {
    let mut probe = Node::new(broker, PROBE);
    until("the job to take births", || {
        probe.is_born();
        listener.messages().iter().any(|one| is_state(one) && one.says("twin", "probe:m-2")).then_some(())
    });
}

/// Reasons of the dead letters, those of the probe left out.
fn reasons(archive: &Archive) -> Vec<String> {
    let Some(letters) = archive.get("dead_letters") else { return Vec::new() };
    let topics = letters.cells("topic").into_iter().zip(letters.cells("reason"));
    let others = topics.filter(|(topic, _)| !topic.to_string().contains(PROBE));
    others.map(|(_, reason)| reason.as_str().unwrap_or_default().to_owned()).collect()
}

/// The powers of a twin, as its states came.
fn until_power(listener: &Client, twin: &str, power: f64) {
    listener.until_heard(&format!("{twin} to have power {power}"), |one| {
        is_state(one) && one.says("twin", twin) && one.json()["properties"]["power"] == power
    });
}

fn requests(listener: &Client, node: &str) -> Vec<Message> {
    let topic = format!("spBv1.0/plant7/NCMD/{node}");
    listener.messages().into_iter().filter(|one| one.topic == topic).collect()
}

#[test]
fn births_data_and_gaps() {
    let broker = Broker::started();
    let site = Site::of(JOB, &broker);
    let (job, port) = run(&site);
    let mut listener = listener(&broker);
    listener.subscribe("spBv1.0/plant7/NCMD/+");
    let (mut good, mut lossy) = (Node::new(&broker, "good"), Node::new(&broker, "lossy"));
    bind(&broker, &listener);
    good.is_born();
    lossy.is_born();
    for number in 1..=300 {
        good.says_power(number % 2, number as f64);
        lossy.says_power(0, number as f64);
    }
    good.publish("NDATA", "", &[Metric::with_alias(good.alias(0)).double(0.75)]);
    until_power(&listener, "good:m-1", 300.0);
    until_power(&listener, "lossy:m-1", 300.0);
    listener.until_heard("the load of a gateway", |one| {
        is_state(one) && one.says("twin", "good") && one.json()["properties"]["load"] == 0.75
    });
    assert!(requests(&listener, "good").is_empty() && requests(&listener, "lossy").is_empty());

    let before = metric(port, "twinloom_dead_letters_total").unwrap_or_default();
    let requests_before = metric(port, REQUESTS).unwrap_or_default();

    // After a gap nothing is taken until the node, which is asked for it once, is born again; then it has other
    // aliases.
    lossy.loses();
    for _ in 0..5 {
        lossy.says_power(0, 999.0);
    }
    listener.until_heard("a request to be born again", |one| one.topic == "spBv1.0/plant7/NCMD/lossy");
    until("the dead letters of a gap", || {
        (metric(port, "twinloom_dead_letters_total")? == before + 5.0).then_some(())
    });
    lossy.connection += 1;
    lossy.is_born();
    lossy.says_power(1, 301.0);
    until_power(&listener, "lossy:m-2", 301.0);
    let asked = requests(&listener, "lossy");
    assert_eq!(asked.len(), 1, "{asked:?}");
    let command = String::from_utf8_lossy(&asked[0].payload).into_owned();
    assert!(command.contains("Node Control/Rebirth") && !asked[0].retained, "{command}");
    assert_eq!(metric(port, REQUESTS), Some(requests_before + 1.0));

    let (summary, archive) = site.end(job, "TERM");
    // Three gateways, and two meters of each.
    assert_eq!(summary["twins"], 9, "{summary}");
    let reasons = reasons(&archive);
    assert_eq!(reasons.len(), 5, "{reasons:?}");
    assert!(
        reasons.iter().all(|reason| reason.contains("messages of the edge node were lost")),
        "{reasons:?}"
    );
    let states = listener.messages();
    assert!(!states.iter().any(|one| is_state(one) && one.json()["properties"]["power"] == 999.0));
}

/// What was born before a kill is known after it: from the checkpoint, and what came since from the journal.
#[test]
fn aliases_and_numbers_survive_a_kill() {
    let broker = Broker::started();
    let site = Site::of(JOB, &broker);
    let (job, port) = run(&site);
    let mut listener = listener(&broker);
    listener.subscribe("spBv1.0/plant7/NCMD/+");
    let mut nodes = ["a", "b", "c", "d"].map(|name| Node::new(&broker, name));
    bind(&broker, &listener);
    nodes.iter_mut().for_each(Node::is_born);
    // The births are in a checkpoint, and in no journal that is read again.
    let completed = || metric(port, "twinloom_checkpoints_total").unwrap_or_default();
    let (seen, mut power) = (completed(), 0.0);
    until("two checkpoints more", || {
        power += 1.0;
        nodes.iter_mut().for_each(|node| node.says_power(0, power));
        (completed() >= seen + 2.0).then_some(())
    });
    job.signal("KILL");
    job.wait();

    // What is said meanwhile waits at the broker.
    nodes.iter_mut().for_each(|node| node.says_power(1, 77.0));
    let job = site.run(&[]);
    nodes.iter_mut().for_each(|node| node.says_power(0, 88.0));
    for node in ["a", "b", "c", "d"] {
        until_power(&listener, &format!("{node}:m-2"), 77.0);
        until_power(&listener, &format!("{node}:m-1"), 88.0);
    }
    // Over a clean stop on another number of workers as well.
    job.signal("TERM");
    job.wait().succeeded();
    let arguments = ["run", "job.yaml", "--json", "--data", "data", "--workers", "3"];
    let job = start(&mut twinloom(site.path(), &arguments));
    nodes.iter_mut().for_each(|node| node.says_power(0, 99.0));
    for node in ["a", "b", "c", "d"] {
        until_power(&listener, &format!("{node}:m-1"), 99.0);
    }
    assert!(["a", "b", "c", "d"].iter().all(|node| requests(&listener, node).is_empty()), "nobody was asked");
    nodes[0].dies();
    nodes[0].is_born();
    nodes[0].says_power(0, 100.0);
    until_power(&listener, "a:m-1", 100.0);
    job.signal("TERM");
    job.wait().succeeded();
    assert_eq!(reasons(&site.archive()), [""; 0]);
}
