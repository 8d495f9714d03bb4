//! HTTP endpoints as a job names them: webhooks, and functions behind HTTP.

use indexmap::IndexMap;
use reqwest::header::{HeaderName, HeaderValue};

use crate::secret::Secret;

/// Whether a text is the address of an HTTP endpoint.
pub(crate) fn is_url(text: &str) -> bool {
    let url = url::Url::parse(text);
    url.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Headers as a job names them, or what is wrong with one; values are not told.
pub(crate) fn headers(headers: &IndexMap<String, Secret>) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let pair = |(name, value): (&String, &Secret)| {
        let header = name.parse::<HeaderName>().map_err(|_| {
            format!("headers: `{name}` is no name of a header; write for example Authorization")
        })?;
        let value = HeaderValue::from_str(value.reveal())
            .map_err(|_| format!("headers: the value of `{name}` has a line break; write one line"))?;
        Ok((header, value))
    };
    headers.iter().map(pair).collect()
}
