//! Errors as `application/problem+json` (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::findings::{Findings, Line};

/// What went wrong.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// A name for the kind of problem.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The kind in words.
    pub title: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// What it is here, and what to do.
    pub detail: String,
    /// What is wrong with a job file, where it is that.
    #[serde(skip_serializing_if = "<[Line]>::is_empty")]
    pub findings: Box<[Line]>,
    /// What a twin's ODTE is, where more was demanded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub odte: Option<f64>,
    /// The revision that a twin has, where a later one was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// The name of a kind of problem.
macro_rules! urn {
    ($name:literal) => {
        concat!("urn:twinloom:problem:", $name)
    };
}

/// The kinds of problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    UnknownJob,
    UnknownTwin,
    UnknownProperty,
    NoPath,
    NoMethod,
    BadRequest,
    TooLarge,
    InvalidDefinition,
    Refused,
    NotNow,
    NoHistory,
    NotEntangled,
    NotYet,
    Busy,
    Internal,
}

impl Kind {
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Kind::UnknownJob => (StatusCode::NOT_FOUND, urn!("unknown-job"), "There is no such job"),
            Kind::UnknownTwin => (StatusCode::NOT_FOUND, urn!("unknown-twin"), "There is no such twin"),
            Kind::UnknownProperty => {
                (StatusCode::NOT_FOUND, urn!("unknown-property"), "There is no such property")
            }
            Kind::NoPath => (StatusCode::NOT_FOUND, urn!("no-such-path"), "There is nothing here"),
            Kind::NoMethod => {
                (StatusCode::METHOD_NOT_ALLOWED, urn!("method-not-allowed"), "This cannot be done here")
            }
            Kind::BadRequest => {
                (StatusCode::BAD_REQUEST, urn!("bad-request"), "The request is not understood")
            }
            Kind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, urn!("too-large"), "The request is too large"),
            Kind::InvalidDefinition => {
                (StatusCode::UNPROCESSABLE_ENTITY, urn!("invalid-definition"), "The job file is not valid")
            }
            Kind::Refused => (StatusCode::CONFLICT, urn!("refused"), "The change is refused"),
            Kind::NotNow => (StatusCode::CONFLICT, urn!("not-now"), "The job is not in a state for this"),
            Kind::NoHistory => (StatusCode::NOT_FOUND, urn!("no-history"), "The job keeps no history"),
            Kind::NotEntangled => (
                StatusCode::PRECONDITION_FAILED,
                urn!("not-entangled"),
                "The twin is less entangled than asked for",
            ),
            Kind::NotYet => (
                StatusCode::PRECONDITION_FAILED,
                urn!("not-yet"),
                "The twin has not come to this revision in time",
            ),
            Kind::Busy => (StatusCode::SERVICE_UNAVAILABLE, urn!("no-answer"), "The job does not answer now"),
            Kind::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, urn!("internal"), "Something went wrong in here")
            }
        }
    }
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let (status, name, title) = kind.parts();
        Self {
            kind: name,
            title,
            status: status.as_u16(),
            detail: detail.into(),
            findings: Box::default(),
            odte: None,
            revision: None,
        }
    }

    /// A job file that is not valid.
    pub(super) fn of_findings(findings: &Findings) -> Self {
        let first = findings.all.first().map_or(String::new(), |first| {
            format!("{}:{}: {}", first.span.line, first.span.column, first.message)
        });
        let detail = format!("{} errors; the first: {first}", findings.errors());
        Self { findings: findings.lines().into(), ..Self::new(Kind::InvalidDefinition, detail) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}
