//! `twinloom simulate`: publishes what a fleet of the paper's devices would.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use connectors::clock::SystemClock;
use connectors::mqtt::MqttSettings;
use connectors::sink::SinkHandle;
use std::sync::atomic::Ordering;

use super::Failure;
use super::values::{self, FleetArguments, LoginArguments};

use crate::fleet::{FleetSettings, PAYLOAD, TOPIC, Template};
use crate::fleet_bus::FleetBus;
use crate::signals::Signals;
use crate::simulation::{Simulated, Simulation};
use crate::summary::thousands;

/// How often it is looked whether the broker is reached.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Arguments of `simulate`.
#[derive(Debug, Args)]
pub(super) struct SimulateArguments {
    /// The bus: mqtt://127.0.0.1:1883, or kafka://127.0.0.1:9092 (topic device.telemetry, the id is the key)
    #[arg(long, value_name = "URL")]
    broker: String,
    /// How many devices
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    twins: u32,
    #[command(flatten)]
    fleet: FleetArguments,
    /// End after this time [default: at Ctrl-C]
    #[arg(long, value_parser = values::duration)]
    duration: Option<Duration>,
    /// Beginning of the devices' ids
    #[arg(long, default_value = "device", value_parser = prefix)]
    prefix: String,
    /// MQTT: 0 at most once, 1 at least once, 2 exactly once
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// MQTT: the topic of each device
    #[arg(long, default_value = TOPIC)]
    topic: String,
    /// What a device says, with {at} (milliseconds since 1970), {temperature}, {energy} and {twin}
    #[arg(long, default_value = PAYLOAD)]
    payload: String,
    #[command(flatten)]
    login: LoginArguments,
    /// Print one JSON object at the end, to standard output
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(arguments: &SimulateArguments) -> Result<(), Failure> {
    let mqtt = MqttSettings { qos: arguments.qos, ..arguments.login.settings(&arguments.broker) };
    let bus = FleetBus::parse(&arguments.broker, mqtt).map_err(Failure::Usage)?;
    let topic = Template::new(&arguments.topic);
    if !topic.names_the_twin() {
        let reason = format!("`{}` is the same for all devices; write {{twin}} in it", arguments.topic);
        return Err(Failure::Usage(reason));
    }
    let signals = Signals::listen().map_err(Failure::of)?;
    let client_id = format!("twinloom-simulate-{}-{}", arguments.prefix, std::process::id());
    bus.prepare(&[]).map_err(Failure::of)?;
    let sink = bus.sink(&client_id).map_err(Failure::of)?;
    let fleet = FleetSettings {
        payload: Template::new(&arguments.payload),
        ..arguments.fleet.settings(arguments.twins, &arguments.prefix, bus.addresses(&topic))
    };
    let simulated = match wait_for_broker(&sink, &signals, arguments.duration) {
        false => Simulated { measured: 0, lost: 0, published: 0, unpublished: 0, seconds: 0.0 },
        true => {
            let simulation = Simulation::start(fleet, sink, Arc::new(SystemClock));
            let simulation = simulation.map_err(Failure::of)?;
            tracing::info!(broker = %arguments.broker, twins = arguments.twins, "fleet started");
            // Beyond a century nobody waits.
            let longest = Duration::from_secs(100 * 365 * 86_400);
            signals.wait(arguments.duration.unwrap_or(longest).min(longest));
            simulation.stop()
        }
    };
    match arguments.json {
        true => println!("{}", serde_json::to_string(&simulated).map_err(Failure::of)?),
        false => println!(
            "{} messages published in {:.1} s, {} lost on purpose, {} not taken by the broker",
            thousands(simulated.published),
            simulated.seconds,
            thousands(simulated.lost),
            thousands(simulated.unpublished)
        ),
    }
    match simulated.published {
        0 => Err(Failure::Failed(format!(
            "no message was published; check that a broker listens on {}",
            arguments.broker
        ))),
        _ => Ok(()),
    }
}

/// Devices of which nobody hears would only fill the queue with what is old. Whether the broker
/// was reached before an end was asked for.
fn wait_for_broker(sink: &SinkHandle, signals: &Signals, duration: Option<Duration>) -> bool {
    let start = Instant::now();
    while !sink.stats.connected.load(Ordering::Relaxed) {
        let is_over = duration.is_some_and(|duration| start.elapsed() >= duration);
        if is_over || signals.wait(LOOK_INTERVAL) {
            return false;
        }
    }
    true
}

/// A prefix stands in a topic as it is.
fn prefix(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match text.chars().all(is_plain) && (1..=64).contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err("write letters, digits, `-`, `_` or `.`, up to 64".into()),
    }
}
