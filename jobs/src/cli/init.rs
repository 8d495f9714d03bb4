//! `twinloom init [FILE]`: writes a first job file.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use clap::Args;

use super::Failure;

/// The job of a newcomer, commented line by line; the demo runs it too.
pub(super) const FIRST_JOB: &str = include_str!("../../../examples/first.yaml");
/// The same on Kafka.
pub(super) const FIRST_KAFKA_JOB: &str = include_str!("../../../examples/first-kafka.yaml");

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(super) struct InitArguments {
    /// The file to write; one that exists is left as it is
    #[arg(value_name = "FILE", default_value = "first.yaml")]
    file: PathBuf,
    /// A job on Kafka rather than MQTT
    #[arg(long)]
    kafka: bool,
}

pub(super) fn execute(arguments: &InitArguments) -> Result<(), Failure> {
    let shown = arguments.file.display();
    let opened = OpenOptions::new().write(true).create_new(true).open(&arguments.file);
    let job = if arguments.kafka { FIRST_KAFKA_JOB } else { FIRST_JOB };
    let written = opened.and_then(|mut file| file.write_all(job.as_bytes()));
    match written {
        Ok(()) => {
            println!("wrote {shown}\n  twinloom validate {shown}\n  twinloom run {shown}");
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Failure::Failed(format!(
            "{shown} exists and is left as it is; name another file: twinloom init FILE"
        ))),
        Err(error) => Err(Failure::Failed(format!(
            "cannot write {shown}: {error}; check that the folder exists and may be written"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Job;

    #[test]
    fn a_first_job_is_written_once_and_is_valid() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        for kafka in [false, true] {
            let arguments = InitArguments { file: folder.path().join(format!("{kafka}.yaml")), kafka };
            execute(&arguments).expect("the folder is empty");
            assert!(matches!(execute(&arguments), Err(Failure::Failed(text)) if text.contains("exists")));
            let job = Job::open(&arguments.file, None).expect("the example is valid");
            assert!(job.warnings.all.is_empty());
            assert_eq!(job.outline(), "1 type, 1 stream, 1 function, 1 listener");
        }
    }
}
