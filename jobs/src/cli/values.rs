//! Values of arguments: durations, rates and shares carry their unit, as in job files.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use connectors::mqtt::MqttSettings;
use humantime_serde::re::humantime;
use operators::entanglement::ExpectedRate;

use crate::fleet::{Addresses, FleetSettings};

/// Slowest device: a measurement a year.
const PERIOD_SECONDS_MAX: f64 = 365.0 * 86_400.0;

/// Reads `30s`, `5m`, `250ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| {
        format!("`{text}` is no duration; write a number with its unit, such as 250ms, 30s or 5m")
    })
}

/// A duration, as it is read.
pub(super) fn shown(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// Reads an instant: milliseconds since 1970, or an RFC 3339 text. Answers microseconds.
pub(super) fn instant_us(text: &str) -> Result<i64, String> {
    let millis = text.parse::<i64>().ok().and_then(|millis| millis.checked_mul(1_000));
    millis.or_else(|| operators::time::parse_rfc3339(text)).ok_or_else(|| {
        format!("`{text}` is no instant; write 1646847376150 (milliseconds since 1970) or 2022-03-09T17:36:16.150Z")
    })
}

/// A rate, as written, and the time between two messages.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    pub(super) text: String,
    pub(super) period: Duration,
}

/// Reads `1/s`, `0.2/s`, `6/m`.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    match ExpectedRate::parse(text)? {
        ExpectedRate::Fixed(per_second) if 1.0 / per_second <= PERIOD_SECONDS_MAX => {
            let period = Duration::from_secs_f64(1.0 / per_second);
            Ok(Rate { text: text.to_owned(), period })
        }
        _ => Err("a simulated device sends at some rate; write for example 1/s".into()),
    }
}

/// Reads a share: `0.25` or `25%`.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let number = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse().map(|percent: f64| percent / 100.0),
        None => text.parse(),
    };
    match number {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("`{text}` is no share; write a number from 0 to 1, or 0% to 100%")),
    }
}

/// What chance and network do to a simulated fleet.
#[derive(Clone, Debug, Args)]
pub(super) struct FleetArguments {
    /// How often each device measures
    #[arg(long, default_value = "1/s", value_parser = rate)]
    pub(super) rate: Rate,
    /// Mean delay between measuring and sending
    #[arg(long, default_value = "0ms", value_parser = duration)]
    delay: Duration,
    /// How much more or less the delay may be, evenly
    #[arg(long, default_value = "0ms", value_parser = duration)]
    jitter: Duration,
    /// How much of a delay's deviation is that of the device's last, 0 to 1
    #[arg(long, default_value = "0", value_parser = share)]
    correlation: f64,
    /// Share of the messages that are lost, such as 0.01 or 1%
    #[arg(long, default_value = "0", value_parser = share)]
    loss: f64,
    /// The same seed sends the same values
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How far the devices' clocks are ahead
    #[arg(long, default_value = "0s", value_parser = duration)]
    ahead: Duration,
}

impl FleetArguments {
    /// The fleet of `twins` devices with ids that begin with `prefix`, on a bus that tells them apart so.
    pub(super) fn settings(&self, twins: u32, prefix: &str, addresses: Addresses) -> FleetSettings {
        FleetSettings {
            twins,
            period: self.rate.period,
            delay: self.delay,
            jitter: self.jitter,
            correlation: self.correlation,
            loss: self.loss,
            seed: self.seed,
            skew_us: operators::time::duration_us(self.ahead),
            prefix: prefix.to_owned(),
            addresses,
            ..FleetSettings::default()
        }
    }
}

/// How a broker is logged in to.
#[derive(Clone, Debug, Args)]
pub(super) struct LoginArguments {
    /// The user to log in as; the password is taken from the variable MQTT_PASSWORD
    #[arg(long, value_name = "NAME")]
    pub(super) user: Option<String>,
    /// The CA that the broker's certificate is to be of, a PEM file
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
}

impl LoginArguments {
    /// The connection to a broker.
    pub(super) fn settings(&self, url: &str) -> MqttSettings {
        let password = self.user.as_ref().and_then(|_| std::env::var("MQTT_PASSWORD").ok());
        MqttSettings {
            user: self.user.clone(),
            password: password.as_deref().map(Into::into),
            ca: self.ca.clone(),
            ..MqttSettings::new(url)
        }
    }
}

/// All cores, at most 8.
pub(super) fn workers_default() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_rates_are_read() {
        for (text, expected) in [
            ("0.25", Some(0.25)),
            ("25%", Some(0.25)),
            ("1", Some(1.0)),
            ("1.1", None),
            ("-1%", None),
            ("x", None),
        ] {
            assert_eq!(share(text).ok(), expected, "{text}");
        }
        for (text, expected_ms) in [
            ("1/s", Some(1_000)),
            ("0.2/s", Some(5_000)),
            ("6/m", Some(10_000)),
            ("none", None),
            ("1e-9/d", None),
        ] {
            let found = rate(text).ok().map(|rate| rate.period.as_millis());
            assert_eq!(found, expected_ms, "{text}");
        }
    }
}
