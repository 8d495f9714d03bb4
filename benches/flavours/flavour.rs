//! Where the one function of the twins may run: `t` in degrees Celsius, `f` in degrees Fahrenheit.

use std::time::Duration;

use crate::Settings;
use crate::endpoint::Endpoint;

/// A way to run the function.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// Not at all: what is measured against it is the function's.
    Nothing,
    /// Compiled into the engine.
    Linear,
    /// An expression in the engine.
    Cel,
    /// A module in WebAssembly, on the worker's thread.
    Wasm,
    /// A process beside the engine.
    Python,
    /// Behind HTTP.
    Http {
        /// What the network takes, there and back.
        delay_ms: u64,
        /// Most calls in a request.
        batch: usize,
        /// Whether it is found cold.
        is_cold: bool,
    },
}

/// Functions that the paper's flavours have, in the order in which they go away from the twin.
pub const ALL: [Kind; 8] = [
    Kind::Linear,
    Kind::Cel,
    Kind::Wasm,
    Kind::Python,
    Kind::http(0),
    Kind::http(5),
    Kind::http(50),
    Kind::Http { delay_ms: 50, batch: 1, is_cold: true },
];

/// Many calls in one request.
pub const BATCHED: Kind = Kind::Http { delay_ms: 0, batch: 50, is_cold: false };

/// The paper's device.
const JOB: &str = r#"
job: flavours
connections: {plant: {mqtt: {url: "URL"}}}
types:
  device:
    properties: {t: {type: double, unit: Cel}PROPERTIES}
    physical:
      telemetry:
        from: plant
        topics: ["device/{twin}/telemetry/device_state"]
        at: {pointer: /timestamp, format: unix_us}
        properties: {t: /data/iot.sensor.temperature}
        expected_rate: 10/s
    augmentation: FUNCTIONS
    entanglement: {window: WINDOW, desired_timeliness: DESIRED, settle: 0s}
digital: [{to: plant, kinds: [state]}]
"#;

impl Kind {
    /// A warm endpoint behind a network.
    pub const fn http(delay_ms: u64) -> Self {
        Self::Http { delay_ms, batch: 1, is_cold: false }
    }

    /// What it is called here, and in the paper.
    pub fn names(self) -> [String; 2] {
        let (name, paper): (String, &str) = match self {
            Self::Nothing => ("no function".into(), ""),
            Self::Linear => ("built in (`linear`)".into(), "MDT"),
            Self::Cel => ("`cel`".into(), "MDT-f"),
            Self::Wasm => ("`wasm`".into(), "MDT-f"),
            Self::Python => ("`python`".into(), "MDT-f"),
            Self::Http { delay_ms, batch, is_cold } => {
                let batch = if batch > 1 { format!(", batch: {batch}") } else { String::new() };
                let cold = if is_cold { ", found cold" } else { "" };
                let paper = if delay_ms > 10 { "SCDT" } else { "SEDT" };
                (format!("`http`, {delay_ms} ms{batch}{cold}"), paper)
            }
        };
        [name, paper.into()]
    }

    /// The endpoint that it needs.
    pub fn endpoint(self, settings: &Settings) -> Option<Endpoint> {
        match self {
            Self::Http { delay_ms, .. } => {
                Some(Endpoint::start(Duration::from_millis(delay_ms), settings.cold_start))
            }
            _ => None,
        }
    }

    /// The function as it stands in a job file; it adds `offset`.
    pub fn function(self, settings: &Settings, endpoint: Option<&Endpoint>, offset: u32) -> String {
        let quoted = |code: String| serde_json::Value::from(code).to_string();
        let of = "of: [t]";
        match self {
            Self::Nothing => String::new(),
            Self::Linear => format!("{{linear: {{of: t, factor: 1.8, offset: {offset}}}}}"),
            Self::Cel => format!("{{cel: \"t * 1.8 + {offset}.0\"}}"),
            Self::Wasm => {
                let code = quoted(format!(
                    "(module (func (export \"call\") (param f64) (result f64) \
                     (f64.add (f64.mul (local.get 0) (f64.const 1.8)) (f64.const {offset}))))"
                ));
                format!("{{wasm: {{code: {code}}}, {of}}}")
            }
            Self::Python => {
                let code = format!("def f(state):\n    return {{'f': state['t'] * 1.8 + {offset}}}\n");
                let interpreter = quoted(settings.interpreter.clone());
                format!("{{python: {{code: {}, interpreter: {interpreter}}}, {of}}}", quoted(code))
            }
            Self::Http { batch, .. } => {
                let url = endpoint.map_or("", |endpoint| endpoint.url.as_str());
                // The endpoint looks at no query: a version more is another url.
                format!("{{http: {{url: \"{url}?{offset}\", batch: {batch}}}, {of}}}")
            }
        }
    }

    /// The job with the function, in this version of it.
    pub fn job(
        self,
        settings: &Settings,
        broker: &str,
        endpoint: Option<&Endpoint>,
        version: u32,
        desired: Duration,
    ) -> String {
        let function = self.function(settings, endpoint, 31 + version);
        let function = function.strip_suffix('}').map(|open| format!("{open}, version: {version}}}"));
        let functions: Vec<(String, String)> = function.into_iter().map(|one| ("f".into(), one)).collect();
        with_functions(&functions, broker, settings.window, desired)
    }
}

/// The job with these functions, by name, each of which writes a property.
pub fn with_functions(
    functions: &[(String, String)],
    broker: &str,
    window: Duration,
    desired: Duration,
) -> String {
    let properties = functions.iter().map(|(name, _)| format!(", {name}: {{type: double}}"));
    let entries: Vec<String> =
        functions.iter().map(|(name, function)| format!("{name}: {function}")).collect();
    JOB.replace("URL", broker)
        .replace("WINDOW", &format!("{}ms", window.as_millis()))
        .replace("DESIRED", &format!("{}us", desired.as_micros()))
        .replace("PROPERTIES", &properties.collect::<String>())
        .replace("FUNCTIONS", &format!("{{{}}}", entries.join(", ")))
}
