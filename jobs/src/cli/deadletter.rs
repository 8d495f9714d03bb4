//! `twinloom deadletter`: what could not be taken, and why. The job may run meanwhile.

use clap::{Args, Subcommand};
use connectors::archive::{self, KeptLetter};
use serde_json::json;

use super::Failure;
use super::kept::KeptArguments;
use crate::summary::instant;

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(super) enum DeadletterCommand {
    /// List the newest dead letters of a job, newest first
    List(ListArguments),
    /// Show one whole
    Show(ShowArguments),
}

/// How many.
#[derive(Debug, Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    kept: KeptArguments,
    /// At most this many
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
}

/// Which one.
#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    #[command(flatten)]
    kept: KeptArguments,
    /// The source, as `list` names it
    source: String,
    /// The position in it
    position: i64,
}

pub(super) fn execute(command: &DeadletterCommand) -> Result<(), Failure> {
    match command {
        DeadletterCommand::List(list) => {
            let letters = read(&list.kept, list.limit, |_| true)?;
            letters.iter().for_each(|letter| match list.kept.json {
                true => println!("{}", line(letter)),
                false => println!(
                    "{}  {} {}  {}: {}",
                    instant(letter.at_us),
                    letter.source,
                    letter.position,
                    letter.topic,
                    letter.reason
                ),
            });
            if letters.is_empty() && !list.kept.json {
                println!("no dead letters");
            }
            Ok(())
        }
        DeadletterCommand::Show(show) => {
            let is_it =
                |letter: &KeptLetter| letter.source == show.source && letter.position == show.position;
            // One message may hold many elements, each with a letter of its own.
            let letters = read(&show.kept, 4_096, is_it)?;
            if letters.is_empty() {
                let text = format!(
                    "no dead letter at {} {}; `deadletter list` shows the newest",
                    show.source, show.position
                );
                return Err(Failure::Failed(text));
            }
            letters.iter().for_each(|letter| match show.kept.json {
                true => println!("{}", line(letter)),
                false => println!(
                    "arrived  {}\nsource   {} {}\ntopic    {}\nreason   {}\npayload  {}\n",
                    instant(letter.at_us),
                    letter.source,
                    letter.position,
                    letter.topic,
                    letter.reason,
                    letter.payload
                ),
            });
            Ok(())
        }
    }
}

fn read(
    arguments: &KeptArguments,
    count_max: usize,
    wanted: impl Fn(&KeptLetter) -> bool,
) -> Result<Vec<KeptLetter>, Failure> {
    let kept = arguments.open()?;
    let definition = &kept.job.definition;
    let Some(history) = &definition.archive else {
        return Err(Failure::Failed(
            "the job has no archive, which dead letters are kept in; add `archive: {path: ./archive}`".into(),
        ));
    };
    // Before the first checkpoint there are only files of earlier data folders.
    let parts = kept.manifest(None).map(|manifest| manifest.archive).unwrap_or_default();
    let segments = kept.data.join(dataflows::SEGMENTS);
    archive::dead_letters(&kept.disk, &history.path, &segments, &definition.job, &parts, count_max, wanted)
        .map_err(Failure::of)
}

fn line(letter: &KeptLetter) -> serde_json::Value {
    json!({
        "at": instant(letter.at_us),
        "source": letter.source,
        "position": letter.position,
        "topic": letter.topic,
        "reason": letter.reason,
        "payload": letter.payload,
    })
}
