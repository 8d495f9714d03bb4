//! Twins: lists, one, its properties, its history, and why it is as it is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dataflows::ask::{Question, Reply, Selection};
use operators::view;
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::problem::{Kind, Problem};
use super::shapes::{
    FunctionOfTwin, GroupView, HistoryView, PropertyView, Troubles, TwinList, TwinView, WhyView, json_of,
    phase,
};
use super::{Api, Path, Query, why};
use crate::live::{LiveJob, Period, Rows};
use crate::summary::instant;

/// Most twins of one page.
const LIMIT_MAX: usize = 1_000;
/// Twins of a page where nothing else is asked for.
const LIMIT_DEFAULT: usize = 100;
/// Most rows of one answer.
const ROWS_MAX: usize = 10_000;
/// How long a read waits for a revision.
const REVISION_WAIT: Duration = Duration::from_secs(1);
/// How often it looks.
const REVISION_LOOK: Duration = Duration::from_millis(10);
/// How often history is read again, where what it is read from goes meanwhile.
const READ_ATTEMPTS: usize = 3;
/// Rows of history that an explanation shows.
const EXPLAINED_ROWS: usize = 10;

/// Which twins.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Most twins of this page, 1 to 1,000 (default 100)
    limit: Option<usize>,
    /// `next` of the page before
    cursor: Option<String>,
    /// Those whose id begins so
    prefix: Option<String>,
    /// Those of this type
    #[serde(rename = "type")]
    twin_type: Option<String>,
    /// Those in one of these phases, with commas: `bound,disentangled`
    lifecycle: Option<String>,
    /// Those whose ODTE is at most this
    odte_max: Option<f64>,
}

/// How a twin is read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReadParams {
    /// Only these members of the answer, with commas: `properties,odte`
    fields: Option<String>,
    /// Answer 412 where ODTE is less than this
    min_odte: Option<f64>,
    /// Wait, at most 1 s, until the twin has come to this revision
    at_least: Option<u64>,
}

/// Which rows of a twin's history.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryParams {
    /// `state` (default), `entanglement`, `lifecycle`, `events` or `physical`
    table: Option<String>,
    /// Rows of this instant or later, as RFC 3339
    from: Option<String>,
    /// Rows before this instant, as RFC 3339
    to: Option<String>,
    /// The newest so many, 1 to 10,000 (default 100)
    limit: Option<usize>,
}

/// Twins of a job, by id.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/twins", tag = "twins", params(("job" = String, Path), ListParams),
    responses((status = 200, body = TwinList), (status = 400, body = Problem),
              (status = 400, body = Problem), (status = 404, body = Problem),
              (status = 503, body = Problem))
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Path(job): Path<String>,
    Query(params): Query<ListParams>,
) -> Result<Json<TwinList>, Problem> {
    let job = api.job(&job)?;
    let limit = limit_of(params.limit, LIMIT_DEFAULT, LIMIT_MAX)?;
    let selection = Selection {
        after: params.cursor,
        // One more, to know whether there is one.
        limit: limit + 1,
        prefix: params.prefix.unwrap_or_default(),
        twin_type: params.twin_type,
        phases: params.lifecycle.as_deref().map_or(Ok(Vec::new()), phases_of)?,
        odte_max: params.odte_max,
    };
    let Some(Reply::List(mut twins)) = job.ask(Question::List(selection)).await else {
        return Err(no_answer(&job));
    };
    let has_more = twins.len() > limit;
    twins.truncate(limit);
    let next = twins.last().filter(|_| has_more).map(|last| last.twin.clone());
    Ok(Json(TwinList { twins: twins.into_iter().map(Into::into).collect(), next }))
}

/// A twin as it is now. The worker that owns it answers, and says the revision and the instant.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/twins/{twin}", tag = "twins",
    params(("job" = String, Path), ("twin" = String, Path), ReadParams),
    responses((status = 200, body = TwinView), (status = 304, description = "It is as the caller knows it"),
              (status = 400, body = Problem), (status = 404, body = Problem), (status = 412, body = Problem),
              (status = 503, body = Problem))
)]
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    Path((job, twin)): Path<(String, String)>,
    Query(params): Query<ReadParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let job = api.job(&job)?;
    answer(&job, &twin, params, &headers).await
}

/// The twin with this id, of whichever job has it, where only one has.
#[utoipa::path(
    get, path = "/v1/twins/{twin}", tag = "twins", params(("twin" = String, Path), ReadParams),
    responses((status = 200, body = TwinView), (status = 304, description = "It is as the caller knows it"),
              (status = 400, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem),
              (status = 412, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn read_alias(
    State(api): State<Arc<Api>>,
    Path(twin): Path<String>,
    Query(params): Query<ReadParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    check_id(&twin)?;
    let mut having = Vec::new();
    for job in api.board.all() {
        if let Some(Reply::Twin(Some(_))) = job.ask(Question::Twin(twin.clone())).await {
            having.push(job);
        }
    }
    match &having[..] {
        [job] => answer(job, &twin, params, &headers).await,
        [] => Err(Problem::new(Kind::UnknownTwin, format!("no job has a twin `{twin}`"))),
        jobs => {
            let names: Vec<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
            let detail = format!(
                "the jobs {} have a twin `{twin}` each; read /v1/jobs/{}/twins/..",
                names.join(", "),
                names[0]
            );
            Err(Problem::new(Kind::Refused, detail))
        }
    }
}

pub(super) async fn answer(
    job: &LiveJob,
    id: &str,
    params: ReadParams,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let twin = match params.at_least {
        Some(revision) => view_at(job, id, revision).await?,
        None => view(job, id).await?,
    };
    if let Some(least) = params.min_odte
        && twin.measure.odte < least
    {
        let odte = twin.measure.odte;
        let detail = format!("`{id}` has ODTE {odte:.3}, less than {least}: {}", why::of_twin(&twin));
        return Err(Problem { odte: Some(odte), ..Problem::new(Kind::NotEntangled, detail) });
    }
    let view = TwinView::new(job, twin);
    let mut body = serde_json::to_value(view).unwrap_or_default();
    let etag = etag(&body);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if known.is_some_and(|known| known.split(',').any(|one| one.trim() == etag || one.trim() == "*")) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    if let (Some(fields), Value::Object(members)) = (&params.fields, &mut body) {
        let wanted: Vec<&str> = fields.split(',').map(str::trim).collect();
        if let Some(unknown) = wanted.iter().find(|field| !members.contains_key(**field)) {
            let known: Vec<&str> = members.keys().map(String::as_str).collect();
            let detail = format!("there is no field `{unknown}`; there are {}", known.join(", "));
            return Err(Problem::new(Kind::BadRequest, detail));
        }
        members.retain(|name, _| wanted.contains(&name.as_str()));
    }
    Ok(([(header::ETAG, etag)], Json(body)).into_response())
}

/// The tag of a twin as it is: of all but the instant that it was looked at. It is weak, as that differs.
fn etag(twin: &Value) -> String {
    let mut twin = twin.clone();
    if let Value::Object(members) = &mut twin {
        members.shift_remove("at");
    }
    format!("W/\"{:016x}\"", operators::id::hash(twin.to_string().as_bytes()))
}

/// One property of a twin.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/twins/{twin}/properties/{name}", tag = "twins",
    params(("job" = String, Path), ("twin" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = PropertyView), (status = 400, body = Problem),
              (status = 400, body = Problem), (status = 404, body = Problem),
              (status = 503, body = Problem))
)]
pub(super) async fn property(
    State(api): State<Arc<Api>>,
    Path((job, twin, name)): Path<(String, String, String)>,
) -> Result<Json<PropertyView>, Problem> {
    let job = api.job(&job)?;
    let twin = view(&job, &twin).await?;
    let twin_type = &twin.summary.twin_type;
    let of_type = job.properties.iter().find(|(known, _)| known == twin_type);
    if !of_type.is_some_and(|(_, names)| names.contains(&name)) {
        let names = of_type.map_or(String::new(), |(_, names)| names.join(", "));
        let detail = format!("type `{twin_type}` has no property `{name}`; it has {names}");
        return Err(Problem::new(Kind::UnknownProperty, detail));
    }
    let held = twin.properties.iter().find(|(known, _)| *known == name);
    let unit = job.units.iter().find(|(known, property, _)| known == twin_type && *property == name);
    Ok(Json(PropertyView {
        value: held.map_or(Value::Null, |(_, held)| json_of(held)),
        unit: unit.map(|(_, _, unit)| unit.clone()),
        revision: twin.summary.revision,
        at: instant(twin.at_us),
        name,
    }))
}

/// Rows of a twin's history, out of the archive and of what is on its way there: up to the last one.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/twins/{twin}/history", tag = "twins",
    params(("job" = String, Path), ("twin" = String, Path), HistoryParams),
    responses((status = 200, body = HistoryView), (status = 400, body = Problem),
              (status = 400, body = Problem), (status = 404, body = Problem),
              (status = 503, body = Problem))
)]
pub(super) async fn history(
    State(api): State<Arc<Api>>,
    Path((job, twin)): Path<(String, String)>,
    Query(params): Query<HistoryParams>,
) -> Result<Json<HistoryView>, Problem> {
    let job = api.job(&job)?;
    check_id(&twin)?;
    let table = params.table.unwrap_or_else(|| "state".into());
    if !["state", "entanglement", "lifecycle", "events", "physical"].contains(&table.as_str()) {
        let detail =
            format!("there is no table `{table}`; write state, entanglement, lifecycle, events or physical");
        return Err(Problem::new(Kind::BadRequest, detail));
    }
    let period = Period {
        from_us: params.from.as_deref().map_or(Ok(i64::MIN), instant_of)?,
        to_us: params.to.as_deref().map_or(Ok(i64::MAX), instant_of)?,
    };
    let limit = limit_of(params.limit, LIMIT_DEFAULT, ROWS_MAX)?;
    let rows = rows(&api, &job, table, twin, period, limit).await?;
    Ok(Json(HistoryView { rows }))
}

/// Why a twin is as it is: the verdict, what T, R and A are made of, its last updates and steps.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/twins/{twin}/why", tag = "twins",
    params(("job" = String, Path), ("twin" = String, Path)),
    responses((status = 200, body = WhyView), (status = 400, body = Problem), (status = 400, body = Problem),
              (status = 404, body = Problem),
              (status = 503, body = Problem))
)]
pub(super) async fn why_one(
    State(api): State<Arc<Api>>,
    Path((job, id)): Path<(String, String)>,
) -> Result<Json<WhyView>, Problem> {
    let job = api.job(&job)?;
    let twin = view(&job, &id).await?;
    let cause = twin.summary.cause;
    let others = match cause.is_trouble() {
        true => groups(&job).await?.into_iter().filter(|group| group.cause == cause).collect(),
        false => Vec::new(),
    };
    let mut verdict = why::of_twin(&twin);
    if cause == operators::view::Cause::SourceLost {
        verdict += &troubles(&job);
    }
    let like: u64 = others.iter().map(|group| group.twins).sum();
    if like > 1 {
        verdict = format!("{verdict}; so are {} other twins", like - 1);
    }
    let always = Period { from_us: i64::MIN, to_us: i64::MAX };
    let mut shown = [Vec::new(), Vec::new()];
    for (shown, table) in shown.iter_mut().zip(["physical", "lifecycle"]) {
        // Without history the explanation is shorter, and no worse.
        *shown = rows(&api, &job, table.into(), id.clone(), always, EXPLAINED_ROWS).await.unwrap_or_default();
    }
    let [updates, lifecycle] = shown;
    let entries = job.running.as_ref().map(|one| one.metrics.functions()).unwrap_or_default();
    let of_twin = |one| FunctionOfTwin::new(one, &twin.summary.twin_type, &entries);
    let functions = twin.functions.iter().cloned().map(of_twin).collect();
    Ok(Json(WhyView {
        functions,
        updates_waiting: twin.waiting.0 as u64,
        verdict,
        cause: cause.word(),
        twin: TwinView::new(&job, twin),
        others: others.into_iter().map(GroupView::from).collect(),
        updates,
        lifecycle,
    }))
}

/// What is known of the sources of a job that are not reached.
fn troubles(job: &LiveJob) -> String {
    let sources = job.running.as_ref().map(|one| one.metrics.sources()).unwrap_or_default();
    let lost = sources.iter().filter(|(_, stats)| !stats.connected.load(Ordering::Relaxed));
    lost.filter_map(|(name, stats)| Some(format!("; {name}: {}", stats.trouble()?))).collect()
}

/// Which twins of a job are in trouble, grouped by cause and by what they share.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/why", tag = "twins", params(("job" = String, Path)),
    responses((status = 200, body = Troubles), (status = 400, body = Problem),
              (status = 404, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn why_all(
    State(api): State<Arc<Api>>,
    Path(job): Path<String>,
) -> Result<Json<Troubles>, Problem> {
    let job = api.job(&job)?;
    let groups = groups(&job).await?;
    Ok(Json(Troubles { groups: groups.into_iter().map(GroupView::from).collect() }))
}

async fn groups(job: &LiveJob) -> Result<Vec<dataflows::ask::Group>, Problem> {
    match job.ask(Question::Troubles).await {
        Some(Reply::Troubles(groups)) => Ok(groups),
        _ => Err(no_answer(job)),
    }
}

/// Reads history where it holds up nobody, and not for too many at once: of files, and of what the job's writers have
/// that is in none yet.
async fn rows(
    api: &Api,
    job: &LiveJob,
    table: String,
    twin: String,
    period: Period,
    limit: usize,
) -> Result<Rows, Problem> {
    let Some(history) = job.history.clone() else {
        let detail = format!("`{}` has no archive; add `archive: {{path: ./archive}}` to it", job.name);
        return Err(Problem::new(Kind::NoHistory, detail));
    };
    // It is never closed.
    let _turn = api.readers.acquire().await;
    let mut attempts = 1..=READ_ATTEMPTS;
    loop {
        let (of, listed) = (history.clone(), table.clone());
        let listed = wait(move || of.listed(&listed)).await?;
        let listed = listed.map_err(|error| Problem::new(Kind::Busy, error.to_string()))?;
        let asked = job.ask(Question::Recent { table: table.clone(), twin: twin.clone() }).await;
        let (of, table, twin) = (history.clone(), table.clone(), twin.clone());
        let read = wait(move || {
            let recent = match asked {
                Some(Reply::Recent(recent)) => recent,
                _ => of.of_checkpoint()?,
            };
            of.rows(&listed, &recent, &table, &twin, period, limit)
        });
        match read.await? {
            Ok(rows) => return Ok(rows),
            // Files became visible while this was read, and what they were made of has gone.
            Err(error) if error.is_gone() && attempts.next().is_some() => {}
            Err(error) => return Err(Problem::new(Kind::Busy, error.to_string())),
        }
    }
}

/// Does what may wait for the disk on a thread for that.
async fn wait<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|error| Problem::new(Kind::Internal, error.to_string()))
}

async fn view(job: &LiveJob, twin: &str) -> Result<view::TwinView, Problem> {
    check_id(twin)?;
    match job.ask(Question::Twin(twin.to_owned())).await {
        Some(Reply::Twin(Some(view))) => Ok(*view),
        Some(_) => {
            let detail = format!("`{}` has no twin `{twin}`; /v1/jobs/{0}/twins lists them", job.name);
            Err(Problem::new(Kind::UnknownTwin, detail))
        }
        None => Err(no_answer(job)),
    }
}

/// The twin once it has come to a revision.
async fn view_at(job: &LiveJob, twin: &str, revision: u64) -> Result<view::TwinView, Problem> {
    let until = Instant::now() + REVISION_WAIT;
    loop {
        let view = view(job, twin).await?;
        if view.summary.revision >= revision {
            return Ok(view);
        }
        if Instant::now() >= until {
            let has = view.summary.revision;
            let detail = format!("`{twin}` has revision {has}, and not {revision} within 1 s");
            return Err(Problem { revision: Some(has), ..Problem::new(Kind::NotYet, detail) });
        }
        tokio::time::sleep(REVISION_LOOK).await;
    }
}

pub(super) fn no_answer(job: &LiveJob) -> Problem {
    let detail = match &job.reason {
        Some(reason) => format!("`{}` does not run: {reason}", job.name),
        None => format!("the workers of `{}` do not answer; its log says why", job.name),
    };
    Problem::new(Kind::Busy, detail)
}

/// Rule 8.1.
fn check_id(twin: &str) -> Result<(), Problem> {
    match operators::id::check(twin) {
        Ok(()) => Ok(()),
        Err(reason) => Err(Problem::new(Kind::BadRequest, format!("this is no id of a twin: {reason}"))),
    }
}

fn limit_of(asked: Option<usize>, default: usize, most: usize) -> Result<usize, Problem> {
    match asked.unwrap_or(default) {
        limit if (1..=most).contains(&limit) => Ok(limit),
        limit => Err(Problem::new(Kind::BadRequest, format!("limit={limit} is not in 1 to {most}"))),
    }
}

fn phases_of(text: &str) -> Result<Vec<operators::life_cycle::Phase>, Problem> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let read = |word: &str| {
        phase(word).ok_or_else(|| {
            let detail = format!(
                "there is no phase `{word}`; write unbound, bound, entangled, disentangled, done or stopped"
            );
            Problem::new(Kind::BadRequest, detail)
        })
    };
    words.map(read).collect()
}

fn instant_of(text: &str) -> Result<i64, Problem> {
    operators::time::parse_rfc3339(text).ok_or_else(|| {
        let detail = format!("`{text}` is no instant; write 2026-11-25T10:00:00Z");
        Problem::new(Kind::BadRequest, detail)
    })
}
