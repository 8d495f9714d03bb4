//! The command line: one file a command.

#[macro_use]
mod output;

mod apply;
mod checkpoint;
mod deadletter;
mod demo;
mod explain;
mod functions;
mod init;
mod jobs;
mod kept;
mod rehearse;
mod remote;
mod run;
mod schema;
mod serve;
mod simulate;
mod test;
mod top;
mod twins;
mod validate;
mod values;

use std::error::Error;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::causes::with_causes;
use crate::job::JobError;

/// Exit code of a usage that cannot work.
const USAGE: u8 = 2;
/// Exit code of a definition that is not valid (EX_CONFIG of sysexits).
const INVALID: u8 = 78;

/// Runs fleets of digital twins as dataflow jobs.
///
/// Begin with `twinloom demo`; then `twinloom init` writes a first job file to change.
#[derive(Debug, Parser)]
#[command(name = "twinloom", version, propagate_version = true)]
struct Cli {
    /// What is logged to standard error: error, warn, info, debug, or a filter as in RUST_LOG
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<String>,
    /// How lines of the log are written
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// How lines of the log are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a simulated fleet and its twins; needs nothing installed
    Demo(demo::DemoArguments),
    /// Write a first job file, commented; or draft one from what a broker brings (--from mqtt://host)
    Init(init::InitArguments),
    /// Say what is wrong with a job file; needs no broker and no secrets
    Validate(validate::ValidateArguments),
    /// Show what a job is made of: steps, operators, state of a twin, and what is promised
    Explain(explain::ExplainArguments),
    /// Show step by step what a job would do with a message; needs no broker and calls no function outside
    Try(rehearse::TryArguments),
    /// Run the cases beside a job on recorded time: what devices say, and what its twins are to be; touches no broker
    Test(test::TestArguments),
    /// Print the JSON Schema of job files, by which editors complete and check them
    Schema,
    /// Run a job until its input ends, or Ctrl-C
    Run(run::RunArguments),
    /// Publish what a fleet of devices would
    Simulate(simulate::SimulateArguments),
    /// Run the jobs that are applied to this server, until Ctrl-C
    Serve(serve::ServeArguments),
    /// Show what applying a job file to a server would change
    Plan(apply::ApplyArguments),
    /// Submit a job file to a server, or change its job; the same file twice is no change
    Apply(apply::ApplyArguments),
    /// List the jobs of a server, pause, resume, cancel and dismiss them
    #[command(subcommand)]
    Job(jobs::JobCommand),
    /// Read and follow the twins of a server's jobs, and ask why they are as they are
    #[command(subcommand)]
    Twin(twins::TwinCommand),
    /// Show live how the fleet of a server's job is, until Ctrl-C
    Top(top::TopArguments),
    /// List the functions of a server's jobs, and change them while they run
    #[command(subcommand)]
    Function(functions::FunctionCommand),
    /// Look at what a job keeps over crashes
    #[command(subcommand)]
    Checkpoint(checkpoint::CheckpointCommand),
    /// Look at what could not be taken, and why
    #[command(subcommand)]
    Deadletter(deadletter::DeadletterCommand),
}

/// Why a command ends without success.
#[derive(Debug)]
enum Failure {
    /// The arguments cannot work.
    Usage(String),
    /// The definition is not valid; that has been shown.
    Invalid,
    /// Something else went wrong.
    Failed(String),
}

impl Failure {
    /// An error with everything that caused it.
    fn of(error: impl Error) -> Self {
        Self::Failed(with_causes(&error))
    }

    /// A job that there is not; findings are shown, as JSON where that is asked for.
    fn of_job(error: JobError, json: bool) -> Self {
        match error {
            JobError::Invalid(findings) => {
                if json {
                    println!("{}", findings.to_json());
                } else {
                    findings.print();
                }
                Self::Invalid
            }
            error @ JobError::Unreadable { .. } => Self::of(error),
        }
    }
}

/// What `main` does.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too; nobody is left to tell that output is gone.
            _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let level = match &cli.command {
        Command::Run(_) | Command::Serve(_) | Command::Simulate(_) => "info",
        // The screen is not to be written over.
        Command::Demo(demo) if demo.has_screen() => "off",
        _ => "warn",
    };
    let outcome = start_log(cli.log.as_deref(), level, cli.log_format).and_then(|()| match cli.command {
        Command::Demo(arguments) => demo::execute(&arguments),
        Command::Init(arguments) => init::execute(&arguments),
        Command::Validate(arguments) => validate::execute(&arguments),
        Command::Explain(arguments) => explain::execute(&arguments),
        Command::Try(arguments) => rehearse::execute(&arguments),
        Command::Top(arguments) => top::execute(&arguments),
        Command::Test(arguments) => test::execute(&arguments),
        Command::Schema => schema::execute(),
        Command::Run(arguments) => run::execute(&arguments),
        Command::Simulate(arguments) => simulate::execute(&arguments),
        Command::Serve(arguments) => serve::execute(&arguments),
        Command::Plan(arguments) => apply::plan(&arguments),
        Command::Apply(arguments) => apply::apply(&arguments),
        Command::Function(command) => functions::execute(&command),
        Command::Job(command) => jobs::execute(&command),
        Command::Twin(command) => twins::execute(&command),
        Command::Checkpoint(command) => checkpoint::execute(&command),
        Command::Deadletter(command) => deadletter::execute(&command),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Invalid) => ExitCode::from(INVALID),
        Err(Failure::Usage(text)) => {
            eprintln!("error: {text}");
            ExitCode::from(USAGE)
        }
        Err(Failure::Failed(text)) => {
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Logs to standard error: by `--log`, else RUST_LOG, else the command's own level.
fn start_log(asked: Option<&str>, level: &str, format: LogFormat) -> Result<(), Failure> {
    let from_environment = std::env::var(EnvFilter::DEFAULT_ENV).ok();
    let text = asked.or(from_environment.as_deref()).unwrap_or(level);
    let filter = EnvFilter::try_new(text).map_err(|error| {
        Failure::Usage(format!("`{text}` is no log filter: {error}; write error, warn, info or debug"))
    })?;
    // The embedded broker and the MQTT client speak of every packet.
    let filter = match asked.is_none() && from_environment.is_none() {
        true => filter
            .add_directive("rumqttd=off".parse().expect("a directive"))
            .add_directive("rumqttc=off".parse().expect("a directive")),
        false => filter,
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(format == LogFormat::Text && std::io::stderr().is_terminal())
        .with_target(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_are_read() {
        for (line, is_good) in [
            ("run job.yaml", true),
            ("run job.yaml --workers 2 --data d --duration 30s --json --listen 127.0.0.1:0", true),
            ("run job.yaml --hosts hosts --process 1", true),
            ("run job.yaml --hosts hosts", false),
            ("run job.yaml --process 1", false),
            ("run job.yaml --workers 0", false),
            ("run job.yaml --duration 30", false),
            ("run", false),
            ("validate job.yaml --json --log debug", true),
            ("init", true),
            ("init my.yaml", true),
            ("init -o my.yaml --from mqtt://h --topic device/# --for 2s", true),
            ("init --topic device/#", false),
            ("init --kafka --from mqtt://h", false),
            ("simulate --broker mqtt://localhost", true),
            ("simulate", false),
            (
                "simulate --broker mqtt://h --twins 5 --rate 0.2/s --delay 50ms --jitter 50ms --correlation 0.25 --loss 1% --seed 3 --prefix p --qos 1",
                true,
            ),
            ("simulate --broker mqtt://h --rate none", false),
            ("simulate --broker mqtt://h --loss 2", false),
            ("simulate --broker mqtt://h --qos 3", false),
            ("run job.yaml --until 1646847376150 --fresh", true),
            ("run job.yaml --until noon", false),
            ("checkpoint list job.yaml --data d --json", true),
            ("checkpoint show job.yaml --id 3-17", true),
            ("checkpoint show job.yaml --id 17", false),
            ("checkpoint verify job.yaml", true),
            ("checkpoint export job.yaml --output twins.jsonl", true),
            ("deadletter list job.yaml --limit 5", true),
            ("deadletter show job.yaml plant 42", true),
            ("deadletter show job.yaml plant", false),
            ("demo --twins 10 --rate 2/s --duration 5s --json", true),
            ("serve", false),
            ("run job.yaml --log-format json", true),
            ("run job.yaml --log-format xml", false),
            ("schema", true),
            ("test job.yaml", true),
            ("test job.yaml --cases c.yaml --filter late --json", true),
            ("test", false),
            ("serve --data d --listen 127.0.0.1:0 --workers 2", true),
            ("plan job.yaml", true),
            ("apply job.yaml --server 127.0.0.1:9000 --json", true),
            ("job list --json", true),
            ("job show", false),
            ("job cancel line", true),
            ("twin list line --lifecycle bound --prefix p --limit 5", true),
            ("twin get line", false),
            ("twin get line p-1", true),
            ("twin tap line p-1 --kinds state --count 3", true),
            ("twin why line", true),
            ("top line --interval 2s --server 127.0.0.1:1", true),
            ("top line --once --json", true),
            ("top", false),
            ("twin why line p-1 --json", true),
        ] {
            let words = std::iter::once("twinloom").chain(line.split(' '));
            assert_eq!(Cli::try_parse_from(words).is_ok(), is_good, "{line}");
        }
    }
}
