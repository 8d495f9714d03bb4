//! Parameters in the path and behind the `?`, with an error that says which of them is wrong.

use axum::extract::{FromRequestParts, Path as Places, Query as Parameters};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::{Kind, Problem};

/// The parameters of a request.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Parameters::<T>::from_request_parts(parts, state).await {
            Ok(Parameters(found)) => Ok(Self(found)),
            Err(error) => Err(Problem::new(Kind::BadRequest, error.body_text())),
        }
    }
}

/// The parameters in the path of a request, decoded.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Places::<T>::from_request_parts(parts, state).await {
            Ok(Places(found)) => Ok(Self(found)),
            Err(error) => Err(Problem::new(Kind::BadRequest, error.body_text())),
        }
    }
}
