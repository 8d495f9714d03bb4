//! Functions of a job while it runs: which there are, and how they are changed.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::jobs::{Body, changed, text};
use super::problem::{Kind, Problem};
use super::query::Query;
use super::{Api, Path};
use crate::service::{FunctionPut, FunctionState, Putting, Service, ServiceError};
use crate::sources;

/// Functions of a job.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FunctionList {
    functions: Vec<FunctionState>,
}

/// How a function is put.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct PutParameters {
    /// The type of twin, where several are possible.
    #[serde(rename = "type")]
    twin_type: Option<String>,
    /// What the body is: `yaml` (a function as in a job file), `python` (its source), or
    /// `wasm` (a module, or its text); sources have 1 MB at most.
    #[param(inline)]
    language: Option<Language>,
    /// Type of the property of the function's name, where the job does not declare it: `double`, `boolean`, ...
    property: Option<String>,
    /// Percent of the twins for which it is to run beside the version that runs, above 0 and at most 100: what it
    /// gives is compared with what that gives, and forgotten.
    #[param(minimum = 0, maximum = 100)]
    shadow: Option<f64>,
}

/// What the body is.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Language {
    Yaml,
    Python,
    Wasm,
}

/// Which function.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct TypeParameters {
    /// The type of twin, where several are possible.
    #[serde(rename = "type")]
    twin_type: Option<String>,
}

/// The functions of a job, with their versions and what is counted of them.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/functions", tag = "functions", params(("job" = String, Path)),
    responses((status = 200, body = FunctionList), (status = 400, body = Problem), (status = 404, body = Problem),
              (status = 409, body = Problem))
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Path(job): Path<String>,
) -> Result<Json<FunctionList>, Problem> {
    api.job(&job)?;
    let functions = changed(&api, move |service| service.functions(&job)).await?;
    Ok(Json(FunctionList { functions }))
}

/// Puts a function in the place of one that there is, or a new one. It is checked first; twins keep their state,
/// and revisions go on.
#[utoipa::path(
    put, path = "/v1/jobs/{job}/functions/{function}", tag = "functions",
    params(("job" = String, Path), ("function" = String, Path), PutParameters),
    request_body(content = String, content_type = "application/yaml", description = "a function"),
    responses((status = 200, body = FunctionPut), (status = 400, body = Problem), (status = 404, body = Problem),
              (status = 409, body = Problem), (status = 413, body = Problem), (status = 422, body = Problem))
)]
pub(super) async fn put(
    State(api): State<Arc<Api>>,
    Path((job, function)): Path<(String, String)>,
    Query(parameters): Query<PutParameters>,
    body: Body,
) -> Result<Json<FunctionPut>, Problem> {
    let body = body.bytes()?;
    api.job(&job)?;
    let PutParameters { twin_type, language, property, shadow } = parameters;
    let is_percent = |percent: &f64| *percent > 0.0 && *percent <= 100.0;
    if !shadow.as_ref().is_none_or(is_percent) {
        let detail = "shadow is a percentage of the twins, above 0 and at most 100";
        return Err(Problem::new(Kind::BadRequest, detail));
    }
    if shadow.is_some() && property.is_some() {
        let detail = "a version in a shadow run writes what is declared; leave out property";
        return Err(Problem::new(Kind::BadRequest, detail));
    }
    let putting = match language.unwrap_or(Language::Yaml) {
        Language::Yaml => Putting::Yaml(text(body)?),
        Language::Python => Putting::Python(text(body)?),
        Language::Wasm => {
            let code = sources::text_of(body);
            Putting::Wasm(code.map_err(|error| Problem::new(Kind::BadRequest, error))?)
        }
    };
    let put = move |service: &Service| match shadow {
        Some(percent) => service.try_function(&job, &function, twin_type.as_deref(), putting, percent),
        None => service.put_function(&job, &function, twin_type.as_deref(), putting, property),
    };
    Ok(Json(changed(&api, put).await?))
}

/// Goes back to the version of a function before the one that runs.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/functions/{function}/rollback", tag = "functions",
    params(("job" = String, Path), ("function" = String, Path), TypeParameters),
    responses((status = 200, body = FunctionPut), (status = 400, body = Problem), (status = 404, body = Problem),
              (status = 409, body = Problem), (status = 422, body = Problem))
)]
pub(super) async fn rollback(
    State(api): State<Arc<Api>>,
    Path(place): Path<(String, String)>,
    Query(parameters): Query<TypeParameters>,
) -> Result<Json<FunctionPut>, Problem> {
    change(api, place, parameters, Service::roll_back_function).await.map(Json)
}

/// Has the version in a shadow run take the place of the one that runs.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/functions/{function}/promote", tag = "functions",
    params(("job" = String, Path), ("function" = String, Path), TypeParameters),
    responses((status = 200, body = FunctionPut), (status = 400, body = Problem), (status = 404, body = Problem),
              (status = 409, body = Problem), (status = 422, body = Problem))
)]
pub(super) async fn promote(
    State(api): State<Arc<Api>>,
    Path(place): Path<(String, String)>,
    Query(parameters): Query<TypeParameters>,
) -> Result<Json<FunctionPut>, Problem> {
    change(api, place, parameters, Service::promote_function).await.map(Json)
}

/// Ends a shadow run; the version that runs goes on.
#[utoipa::path(
    delete, path = "/v1/jobs/{job}/functions/{function}/shadow", tag = "functions",
    params(("job" = String, Path), ("function" = String, Path), TypeParameters),
    responses((status = 200, body = FunctionPut), (status = 400, body = Problem), (status = 404, body = Problem),
              (status = 409, body = Problem), (status = 422, body = Problem))
)]
pub(super) async fn drop_shadow(
    State(api): State<Arc<Api>>,
    Path(place): Path<(String, String)>,
    Query(parameters): Query<TypeParameters>,
) -> Result<Json<FunctionPut>, Problem> {
    change(api, place, parameters, Service::drop_trial).await.map(Json)
}

/// Takes a function away; its property keeps its last value.
#[utoipa::path(
    delete, path = "/v1/jobs/{job}/functions/{function}", tag = "functions",
    params(("job" = String, Path), ("function" = String, Path), TypeParameters),
    responses((status = 204, description = "It is gone"), (status = 400, body = Problem),
              (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem))
)]
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    Path(place): Path<(String, String)>,
    Query(parameters): Query<TypeParameters>,
) -> Result<StatusCode, Problem> {
    change(api, place, parameters, Service::remove_function).await.map(|_| StatusCode::NO_CONTENT)
}

type Change = fn(&Service, &str, &str, Option<&str>) -> Result<FunctionPut, ServiceError>;

async fn change(
    api: Arc<Api>,
    (job, function): (String, String),
    TypeParameters { twin_type }: TypeParameters,
    change: Change,
) -> Result<FunctionPut, Problem> {
    api.job(&job)?;
    changed(&api, move |service| change(service, &job, &function, twin_type.as_deref())).await
}
