//! The bus that a simulated fleet speaks on, by its URL: `mqtt://host:port` or `kafka://host:port`.

use std::sync::Arc;

use connectors::alarm::Alarm;
use connectors::disk::SystemDisk;
use connectors::kafka::{self, KafkaError, KafkaSettings};
use connectors::mqtt::{self, MqttError, MqttSettings};
use connectors::sink::{SinkHandle, SinkSetup};
use connectors::store::FolderStore;

use crate::fleet::{Addresses, RECORDS_TOPIC, Template};

/// A bus.
#[derive(Clone, Debug)]
pub(crate) enum FleetBus {
    /// An MQTT broker.
    Mqtt(MqttSettings),
    /// A Kafka cluster.
    Kafka(KafkaSettings),
}

/// Why a fleet cannot speak on its bus.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BusError {
    /// The MQTT broker.
    #[error(transparent)]
    Mqtt(#[from] MqttError),
    /// The Kafka cluster.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
}

/// The scheme of a Kafka cluster.
const KAFKA: &str = "kafka://";

impl FleetBus {
    /// The bus at a URL; `mqtt` is the connection to it, where it is a broker of MQTT.
    pub(crate) fn parse(url: &str, mqtt: MqttSettings) -> Result<Self, String> {
        let bus = match url.strip_prefix(KAFKA) {
            Some(brokers) => {
                let brokers = brokers.trim_end_matches('/');
                FleetBus::Kafka(KafkaSettings::new(&brokers.split(',').collect::<Vec<_>>()))
            }
            None => FleetBus::Mqtt(mqtt),
        };
        match &bus {
            FleetBus::Mqtt(mqtt) => mqtt.check()?,
            FleetBus::Kafka(kafka) => kafka.check()?,
        }
        Ok(bus)
    }

    /// How its messages tell devices apart; on MQTT, by their topics.
    pub(crate) fn addresses(&self, topic: &Template) -> Addresses {
        match self {
            FleetBus::Mqtt(_) => Addresses::Topics(topic.clone()),
            FleetBus::Kafka(_) => Addresses::Keys,
        }
    }

    /// Makes what a fleet needs to speak, and what else is named.
    pub(crate) fn prepare(&self, topics: &[&str]) -> Result<(), BusError> {
        if let FleetBus::Kafka(kafka) = self {
            let topics = [&[RECORDS_TOPIC], topics].concat();
            kafka::admin::make_topics("simulated fleet", kafka, &topics)?;
        }
        Ok(())
    }

    /// What a fleet publishes through.
    pub(crate) fn sink(&self, client_id: &str) -> Result<SinkHandle, BusError> {
        let name = "simulated fleet";
        Ok(match self {
            FleetBus::Mqtt(settings) => mqtt::sink::start(name, settings, client_id)?,
            FleetBus::Kafka(settings) => {
                let setup = SinkSetup {
                    name: name.into(),
                    job: name.into(),
                    process: 0,
                    generation: 1,
                    // It has no outbox.
                    store: Arc::new(FolderStore::new(Arc::new(SystemDisk), std::env::temp_dir())),
                    unsent: Vec::new(),
                    alarm: Arc::<Alarm>::default(),
                };
                kafka::sink::start(&setup, settings)?
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_bus() {
        for (url, expected) in [
            ("mqtt://localhost:1883", Ok("mqtt")),
            ("kafka://localhost:9092", Ok("kafka")),
            ("kafka://a:1,b:2/", Ok("kafka")),
            ("kafka://localhost", Err("host:port")),
            ("http://localhost", Err("mqtt://host")),
        ] {
            let found = FleetBus::parse(url, MqttSettings::new(url)).map(|bus| match bus {
                FleetBus::Mqtt(_) => "mqtt",
                FleetBus::Kafka(_) => "kafka",
            });
            match (found, expected) {
                (Err(reason), Err(part)) => assert!(reason.contains(part), "{url}: {reason}"),
                (found, expected) => {
                    assert_eq!(found.as_deref(), Ok(expected.unwrap_or("an error")), "{url}")
                }
            }
        }
    }
}
