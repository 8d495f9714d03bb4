//! Makes the topics that a demo or a simulated fleet needs. A job makes none: its topics are their owner's.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;

use super::{KafkaError, KafkaSettings, client};

/// How long the cluster may take.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Makes these topics, with as many partitions and copies as the cluster makes by default; those that are there
/// stay as they are.
pub fn make_topics(name: &str, settings: &KafkaSettings, topics: &[&str]) -> Result<(), KafkaError> {
    settings.check().map_err(|reason| KafkaError::Settings { name: name.to_owned(), reason })?;
    let failed = |reason: String| KafkaError::Topics { name: name.to_owned(), reason };
    let admin: AdminClient<DefaultClientContext> =
        client::config(settings).create().map_err(|error| client::not_started(name, &error))?;
    // Who may use topics that are there may not always make some.
    let there = admin.inner().fetch_metadata(None, ANSWER_MAX);
    let there = there.map_err(|error| failed(client::reason(&error)))?;
    let is_there = |name: &str| there.topics().iter().any(|topic| topic.name() == name);
    let missing = topics.iter().filter(|topic| !is_there(topic));
    let new: Vec<NewTopic<'_>> =
        missing.map(|topic| NewTopic::new(topic, -1, TopicReplication::Fixed(-1))).collect();
    if new.is_empty() {
        return Ok(());
    }
    let options = AdminOptions::new().request_timeout(Some(ANSWER_MAX)).operation_timeout(Some(ANSWER_MAX));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(|error| KafkaError::Thread { name: name.to_owned(), error })?;
    let answers = runtime.block_on(admin.create_topics(&new, &options));
    for answer in answers.map_err(|error| failed(client::reason(&error)))? {
        match answer {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(failed(format!("{topic}: {code}"))),
        }
    }
    Ok(())
}
