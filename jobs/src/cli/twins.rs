//! `twinloom twin ...`: the twins of a server's jobs.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Failure;
use super::remote::{RemoteArguments, path, with_query};

/// What to do with twins.
#[derive(Debug, Subcommand)]
pub(super) enum TwinCommand {
    /// List those of a job, by id
    List(ListArguments),
    /// Show one
    Get(TwinArguments),
    /// Follow the changes of one, or of all of a job, until Ctrl-C
    Tap(TapArguments),
    /// Retire one: it takes no more updates, and still answers
    Retire(TwinArguments),
    /// Let go of one
    Dismiss(TwinArguments),
    /// Say why one is as it is; without an id, which twins of the job are in trouble, and what they share
    Why(WhyArguments),
}

/// Which twins.
#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// The job's name
    job: String,
    /// Those whose id begins so
    #[arg(long)]
    prefix: Option<String>,
    /// Those in one of these phases, such as `unbound,disentangled`
    #[arg(long)]
    lifecycle: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    remote: RemoteArguments,
}

/// Which twin.
#[derive(Debug, Args)]
pub(super) struct TwinArguments {
    /// The job's name
    job: String,
    /// The twin's id
    twin: String,
    #[command(flatten)]
    remote: RemoteArguments,
}

/// What is followed.
#[derive(Debug, Args)]
pub(super) struct TapArguments {
    /// The job's name
    job: String,
    /// The twin's id; all where it is left out
    twin: Option<String>,
    /// Only these kinds, such as `lifecycle,event`
    #[arg(long)]
    kinds: Option<String>,
    /// End after so many
    #[arg(long)]
    count: Option<u64>,
    #[command(flatten)]
    remote: RemoteArguments,
}

/// What is explained.
#[derive(Debug, Args)]
pub(super) struct WhyArguments {
    /// The job's name
    job: String,
    /// The twin's id
    twin: Option<String>,
    #[command(flatten)]
    remote: RemoteArguments,
}

pub(super) fn execute(command: &TwinCommand) -> Result<(), Failure> {
    match command {
        TwinCommand::List(arguments) => list(arguments),
        TwinCommand::Get(TwinArguments { job, twin, remote }) => {
            let shown: Value = remote.get(&path(&["jobs", job, "twins", twin]))?;
            match remote.json {
                true => println!("{shown}"),
                false => print_pretty(&shown),
            }
            Ok(())
        }
        TwinCommand::Retire(arguments) => end(arguments, "retire"),
        TwinCommand::Dismiss(arguments) => end(arguments, "dismiss"),
        TwinCommand::Tap(arguments) => tap(arguments),
        TwinCommand::Why(arguments) => why(arguments),
    }
}

fn end(TwinArguments { job, twin, remote }: &TwinArguments, how: &str) -> Result<(), Failure> {
    let ended: Value = remote.post(&path(&["jobs", job, "twins", twin, how]), "")?;
    match remote.json {
        true => println!("{ended}"),
        false => println!("{twin} is {}", ended["lifecycle"].as_str().unwrap_or_default()),
    }
    Ok(())
}

fn list(arguments: &ListArguments) -> Result<(), Failure> {
    let ListArguments { job, prefix, lifecycle, limit, remote } = arguments;
    let mut left = *limit;
    let mut cursor: Option<String> = None;
    while left > 0 {
        let mut query = vec![("limit", left.min(1_000).to_string())];
        query.extend(prefix.iter().map(|prefix| ("prefix", prefix.clone())));
        query.extend(lifecycle.iter().map(|phases| ("lifecycle", phases.clone())));
        query.extend(cursor.iter().map(|cursor| ("cursor", cursor.clone())));
        let page: Value = remote.get(&with_query(&path(&["jobs", job, "twins"]), &query))?;
        let twins = page["twins"].as_array().cloned().unwrap_or_default();
        for twin in &twins {
            match remote.json {
                true => println!("{twin}"),
                false => println!("{}", line(twin)),
            }
        }
        left = left.saturating_sub(twins.len());
        cursor = page["next"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    Ok(())
}

fn line(twin: &Value) -> String {
    let word = |key: &str| twin[key].as_str().unwrap_or_default();
    let number = |key: &str| twin[key].as_f64().unwrap_or(0.0);
    let (t, r, a) = (number("timeliness"), number("reliability"), number("availability"));
    let cause = match word("cause") {
        "nothing" => String::new(),
        cause => cause.replace('_', " "),
    };
    let line = format!(
        "{:<24} {:<12} odte {:.3}  T {t:.2} R {r:.2} A {a:.2}  revision {:<8} {cause}",
        word("twin"),
        word("lifecycle"),
        number("odte"),
        twin["revision"],
    );
    line.trim_end().to_owned()
}

fn tap(arguments: &TapArguments) -> Result<(), Failure> {
    let TapArguments { job, twin, kinds, count, remote } = arguments;
    let of = match twin {
        Some(twin) => path(&["jobs", job, "twins", twin, "stream"]),
        None => path(&["jobs", job, "stream"]),
    };
    let query: Vec<(&str, String)> = kinds.iter().map(|kinds| ("kinds", kinds.clone())).collect();
    let mut left = count.unwrap_or(u64::MAX);
    remote.follow(&with_query(&of, &query), |name, data| {
        match name {
            "missed" => eprintln!("missed: {data}"),
            _ => {
                println!("{data}");
                left -= 1;
            }
        }
        left > 0
    })
}

fn why(WhyArguments { job, twin, remote }: &WhyArguments) -> Result<(), Failure> {
    let Some(twin) = twin else {
        let troubles: Value = remote.get(&path(&["jobs", job, "why"]))?;
        if remote.json {
            println!("{troubles}");
            return Ok(());
        }
        let groups = troubles["groups"].as_array().cloned().unwrap_or_default();
        if groups.is_empty() {
            println!("no twin of {job} is in trouble");
        }
        for group in groups {
            let named = group["named"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let named: Vec<&str> = named.collect();
            println!("{}: {}", group["verdict"].as_str().unwrap_or_default(), named.join(", "));
        }
        return Ok(());
    };
    let why: Value = remote.get(&path(&["jobs", job, "twins", twin, "why"]))?;
    if remote.json {
        println!("{why}");
        return Ok(());
    }
    let twin = &why["twin"];
    let number = |key: &str| twin[key].as_f64();
    let shown = |key: &str| number(key).map_or("-".to_owned(), |number| format!("{number:.3}"));
    let count = |key: &str| format!("{:.0}", number(key).unwrap_or(0.0));
    println!("{}", why["verdict"].as_str().unwrap_or_default());
    println!("  odte  {} of {} demanded", shown("odte"), shown("threshold"));
    println!(
        "  T     {}: {} of {} within {} ms",
        shown("timeliness"),
        count("on_time"),
        count("received"),
        number("desired_timeliness_ms").unwrap_or(0.0)
    );
    println!(
        "  R     {}: {} of {} expected in {} ms",
        shown("reliability"),
        count("received"),
        count("expected"),
        count("window_ms")
    );
    println!("  A     {}", shown("availability"));
    println!(
        "  late  transport {} ms, compute {} ms; clock offset {} ms",
        shown("transport_ms"),
        shown("compute_ms"),
        shown("clock_offset_ms")
    );
    for function in why["functions"].as_array().into_iter().flatten() {
        let values = function["properties"].as_object().into_iter().flatten();
        let values = values.map(|(property, version)| match version.as_u64() {
            Some(version) => format!("{property} by v{version}"),
            None => format!("{property} has no value"),
        });
        let breaker = if function["is_breaker_open"] == true { "; its circuit breaker is open" } else { "" };
        let name = function["function"].as_str().unwrap_or_default();
        let kept = Some(&function["kept"]).filter(|kept| !kept.is_null());
        let parts: Vec<String> = values.chain(kept.map(|kept| format!("keeps {kept}"))).collect();
        println!("  function {name} v{}: {}{breaker}", function["version"], parts.join(", "));
    }
    if let Some(waiting) = why["updates_waiting"].as_u64().filter(|waiting| *waiting > 0) {
        println!("  {waiting} updates wait for answers of functions");
    }
    for (title, rows) in [("updates", &why["updates"]), ("life", &why["lifecycle"])] {
        let rows = rows.as_array().filter(|rows| !rows.is_empty());
        rows.into_iter().for_each(|rows| {
            println!("  {title}");
            rows.iter().for_each(|row| println!("    {row}"));
        });
    }
    Ok(())
}

fn print_pretty(value: &Value) {
    println!("{}", serde_json::to_string_pretty(value).unwrap_or_default());
}
