//! `twinloom init [FILE]`: writes a first job file; with `--from`, one that is drafted from what a broker brings.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::Failure;
use super::values::{self, LoginArguments};
use crate::drafting::{self, Listened};
use crate::listening;

/// The job of a newcomer, commented line by line; the demo runs it too.
pub(super) const FIRST_JOB: &str = include_str!("../../../examples/first.yaml");
/// The same on Kafka.
pub(super) const FIRST_KAFKA_JOB: &str = include_str!("../../../examples/first-kafka.yaml");
/// What a draft is called.
const DRAFT: &str = "job.yaml";
/// What the first job is called.
const FIRST: &str = "first.yaml";

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(super) struct InitArguments {
    /// The file to write; one that exists is left as it is [default: first.yaml, of a draft job.yaml]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The same
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    output: Option<PathBuf>,
    /// A job on Kafka rather than MQTT
    #[arg(long)]
    kafka: bool,
    /// Draft the job from what this broker brings: mqtt://host:port, or mqtts://host:port
    #[arg(long, value_name = "URL", conflicts_with = "kafka")]
    from: Option<String>,
    /// The topics to listen to, as MQTT filters them
    #[arg(long, value_name = "FILTER", default_value = "#", requires = "from")]
    topic: String,
    /// How long to listen
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = values::duration, requires = "from")]
    time: Duration,
    #[command(flatten)]
    login: LoginArguments,
}

pub(super) fn execute(arguments: &InitArguments) -> Result<(), Failure> {
    let file = arguments.file.as_ref().or(arguments.output.as_ref());
    match &arguments.from {
        Some(url) => {
            let file = file.cloned().unwrap_or_else(|| DRAFT.into());
            // Before it is listened for a minute.
            if file.exists() {
                return Err(exists(&file));
            }
            write(&file, &draft(url, arguments)?)
        }
        None if arguments.login.user.is_some() || arguments.login.ca.is_some() => {
            Err(Failure::Usage("--user and --ca are of a broker: name it with --from mqtt://host".into()))
        }
        None => {
            let job = if arguments.kafka { FIRST_KAFKA_JOB } else { FIRST_JOB };
            write(&file.cloned().unwrap_or_else(|| FIRST.into()), job)
        }
    }
}

/// Listens, and drafts a job.
fn draft(url: &str, arguments: &InitArguments) -> Result<String, Failure> {
    let InitArguments { topic, time, login, .. } = arguments;
    let settings = login.settings(url);
    let mut mqtt = json!({ "url": url });
    for (key, value) in [
        ("user", login.user.clone()),
        ("password", settings.password.as_ref().map(|_| "${MQTT_PASSWORD}".to_owned())),
        ("ca", login.ca.as_ref().map(|ca| ca.display().to_string())),
    ] {
        if let Some(value) = value {
            mqtt[key] = value.into();
        }
    }
    eprintln!("listening to {topic} at {url} for {}", values::shown(*time));
    let heard = listening::listen(&settings, topic, *time).map_err(Failure::of)?;
    let listened = Listened {
        // JSON is YAML.
        connection: json!({ "mqtt": mqtt }).to_string(),
        url: url.to_owned(),
        filter: topic.clone(),
        seconds: time.as_secs_f64(),
    };
    drafting::draft(&heard, &listened).map_err(Failure::of)
}

fn write(file: &Path, job: &str) -> Result<(), Failure> {
    let shown = file.display();
    let opened = OpenOptions::new().write(true).create_new(true).open(file);
    match opened.and_then(|mut file| file.write_all(job.as_bytes())) {
        Ok(()) => {
            println!("wrote {shown}\n  twinloom validate {shown}\n  twinloom run {shown}");
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(exists(file)),
        Err(error) => Err(Failure::Failed(format!(
            "cannot write {shown}: {error}; check that the folder exists and may be written"
        ))),
    }
}

fn exists(file: &Path) -> Failure {
    let shown = file.display();
    Failure::Failed(format!("{shown} exists and is left as it is; name another file: twinloom init FILE"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Job;

    #[test]
    fn a_first_job_is_written_once_and_is_valid() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        for job in [FIRST_JOB, FIRST_KAFKA_JOB] {
            let file = folder.path().join(format!("{}.yaml", job.len()));
            write(&file, job).expect("the folder is empty");
            assert!(matches!(write(&file, job), Err(Failure::Failed(text)) if text.contains("exists")));
            let job = Job::open(&file, None).expect("the example is valid");
            assert!(job.warnings.all.is_empty());
            assert_eq!(job.outline(), "1 type, 1 stream, 1 function, 1 listener");
        }
    }
}
