//! `${NAME}` and `${file:/path}` in the texts of `connections`, of functions behind `http`, and in `archive.path`.
//!
//! They are put in only where the job runs, so that `validate` needs none of them; `$${` is a
//! plain `${`. A secret is never shown: messages name the variable or file, not what it holds.

use crate::document::{Content, Document, Span};
use crate::findings::{Finding, Severity};

/// Gives the value of a secret, or says why there is none.
pub type Lookup<'a> = &'a dyn Fn(Reference<'_>) -> Result<String, String>;

/// What a `${...}` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference<'a> {
    /// A variable of the environment.
    Variable(&'a str),
    /// A file, of which the text is taken without the line end.
    File(&'a str),
}

/// Most bytes of a secret in a file.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Looks in the environment and on the disk.
pub fn from_environment(reference: Reference<'_>) -> Result<String, String> {
    match reference {
        Reference::Variable(name) => std::env::var(name).map_err(|error| match error {
            std::env::VarError::NotPresent => format!("the variable {name} is not set"),
            std::env::VarError::NotUnicode(_) => format!("the variable {name} is not UTF-8"),
        }),
        Reference::File(path) => {
            let cannot = |error: std::io::Error| format!("cannot read {path}: {error}");
            if std::fs::metadata(path).map_err(cannot)?.len() > FILE_BYTES_MAX {
                return Err(format!("{path} has more than {FILE_BYTES_MAX} bytes"));
            }
            let text = std::fs::read_to_string(path).map_err(cannot)?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        }
    }
}

/// Whether a text has a secret still to be put in.
pub fn is_pending(text: &str) -> bool {
    text.replace("$${", "").contains("${")
}

/// Puts the secrets in, or (without a lookup) only checks how they are written.
pub fn resolve(document: &mut Document, lookup: Option<Lookup<'_>>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in places(document) {
        let mut found = path.iter().try_fold(&mut document.root, |node, key| node.child_mut(key));
        let Some(node) = &mut found else { continue };
        let mut change = |text: &str, span: Span| -> Result<Option<String>, ()> {
            if !text.contains("${") {
                return Ok(None);
            }
            match fill(text, lookup) {
                Ok(filled) => return Ok(lookup.map(|_| filled)),
                Err((message, help)) => findings.push(Finding {
                    severity: Severity::Error,
                    span,
                    path: path.join("."),
                    message,
                    help,
                }),
            }
            Ok(None)
        };
        // `change` never refuses: it lists what is wrong and goes on.
        _ = node.change_texts(&mut change);
    }
    findings
}

/// The paths of the parts that may have secrets.
fn places(document: &Document) -> Vec<Vec<String>> {
    let owned = |path: &[&str]| path.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    let mut places = vec![owned(&["connections"]), owned(&["archive", "path"])];
    for twin_type in keys(document, &["types"]) {
        places.push(owned(&["types", twin_type, "shadow", "http"]));
        for function in keys(document, &["types", twin_type, "augmentation"]) {
            places.push(owned(&["types", twin_type, "augmentation", function, "http"]));
        }
    }
    places
}

fn keys<'d>(document: &'d Document, path: &[&str]) -> Vec<&'d str> {
    match document.find(path).map(|node| &node.content) {
        Some(Content::Mapping(entries)) => entries.iter().map(|entry| entry.key.as_str()).collect(),
        _ => Vec::new(),
    }
}

fn fill(text: &str, lookup: Option<Lookup<'_>>) -> Result<String, (String, String)> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(open) = rest.find("${") {
        if rest[..open].ends_with('$') {
            filled.push_str(&rest[..open - 1]);
            filled.push_str("${");
            rest = &rest[open + 2..];
            continue;
        }
        filled.push_str(&rest[..open]);
        let help = "write ${NAME} or ${file:/run/secrets/name}; a plain ${ is written $${";
        let Some(close) = rest[open..].find('}') else {
            return Err(("a `${` has no end".into(), help.into()));
        };
        let inner = &rest[open + 2..open + close];
        let reference = match inner.strip_prefix("file:") {
            Some(path) if !path.is_empty() => Reference::File(path),
            None if is_name(inner) => Reference::Variable(inner),
            _ => return Err((format!("`${{{inner}}}` names no secret"), help.into())),
        };
        if let Some(lookup) = lookup {
            let value = lookup(reference).map_err(|reason| {
                let help = match reference {
                    Reference::Variable(name) => {
                        format!("set it where the job runs: export {name}=...")
                    }
                    Reference::File(path) => {
                        format!("make {path} readable for the user who runs the job")
                    }
                };
                (reason, help)
            })?;
            filled.push_str(&value);
        }
        rest = &rest[open + close + 1..];
    }
    filled.push_str(rest);
    Ok(filled)
}

fn is_name(text: &str) -> bool {
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Content, parse};

    fn lookup(reference: Reference<'_>) -> Result<String, String> {
        match reference {
            Reference::Variable("USER_NAME") => Ok("ann".into()),
            Reference::File("/run/pw") => Ok("s{cr}t".into()),
            _ => Err("there is none".into()),
        }
    }

    #[test]
    fn secrets_are_put_in_where_the_job_runs() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${USER_NAME}", "ann"),
            ("a-${USER_NAME}-${file:/run/pw}", "a-ann-s{cr}t"),
            ("$${USER_NAME}", "${USER_NAME}"),
            ("${NOBODY}", "error 1:32: there is none"),
            ("${file:/nowhere}", "error 1:32: there is none"),
            ("${}", "error 1:32: `${}` names no secret"),
            ("${a b}", "error 1:32: `${a b}` names no secret"),
            ("${USER_NAME", "error 1:32: a `${` has no end"),
        ] {
            let yaml = format!("connections: {{p: {{mqtt: {{user: \"{text}\"}}}}}}");
            let mut document = parse("job.yaml", &yaml).expect("well formed");
            let findings = resolve(&mut document, Some(&lookup));
            let node = document.find(&["connections", "p", "mqtt", "user"]);
            let found = match (findings.first(), node.map(|node| &node.content)) {
                (Some(finding), _) => {
                    let span = finding.span;
                    format!("error {}:{}: {}", span.line, span.column, finding.message)
                }
                (None, Some(Content::Scalar { text, .. })) => text.clone(),
                _ => "nothing".into(),
            };
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn without_a_lookup_only_the_writing_is_checked() {
        let yaml = "connections: {p: {mqtt: {user: \"${NOBODY}\", password: \"${\"}}}";
        let mut document = parse("job.yaml", yaml).expect("well formed");
        let findings = resolve(&mut document, None);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].message, "a `${` has no end");
        let node = document.find(&["connections", "p", "mqtt", "user"]);
        let text = node.map(|node| format!("{node:?}")).unwrap_or_default();
        assert!(text.contains("${NOBODY}"), "{text}");
        assert!(is_pending("x${A}") && !is_pending("x$${A}") && !is_pending("x"));
    }
}
