//! What is wrong with a job file, and how it is shown: drawn on a terminal, one line a problem
//! where a program or an editor reads, JSON where that is asked for.

use std::io::{IsTerminal, Write};

use miette::{GraphicalReportHandler, LabeledSpan, MietteDiagnostic, NamedSource, Report};
use serde::Serialize;

use crate::document::Span;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The job cannot run.
    Error,
    /// It can, and likely does not do what is meant.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands.
    pub span: Span,
    /// Keys down to it, with dots.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

/// What is wrong with one file.
#[derive(Clone, Debug)]
pub struct Findings {
    /// Name of the file.
    pub name: String,
    /// Its text.
    pub text: String,
    /// What is wrong, in the order of the text.
    pub all: Vec<Finding>,
}

/// A finding as programs read it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Line {
    severity: Severity,
    line: usize,
    column: usize,
    path: String,
    message: String,
    help: String,
}

impl Findings {
    /// What was found in a file.
    pub fn new(name: &str, text: &str, mut all: Vec<Finding>) -> Self {
        all.sort_by_key(|finding| (finding.span.line, finding.span.column));
        all.dedup();
        Self { name: name.to_owned(), text: text.to_owned(), all }
    }

    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.all.iter().filter(|finding| finding.severity == Severity::Error).count()
    }

    /// A JSON list of `{severity, line, column, path, message, help}`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&self.lines()).expect("texts and numbers are always JSON")
    }

    /// The findings as programs read them.
    pub fn lines(&self) -> Vec<Line> {
        let line = |finding: &Finding| Line {
            severity: finding.severity,
            line: finding.span.line,
            column: finding.span.column,
            path: finding.path.clone(),
            message: finding.message.clone(),
            help: finding.help.clone(),
        };
        self.all.iter().map(line).collect()
    }

    /// Shows all on standard error, drawn where that is a terminal.
    pub fn print(&self) {
        let mut stderr = std::io::stderr().lock();
        let text = match stderr.is_terminal() {
            true => self.drawn(),
            false => self.plain(),
        };
        // Nobody is left to tell that standard error is gone.
        _ = stderr.write_all(text.as_bytes());
    }

    /// `file:line:column: message`, and what to write instead on a line of its own.
    pub fn plain(&self) -> String {
        let mut out = String::new();
        for finding in &self.all {
            let word = match finding.severity {
                Severity::Error => "",
                Severity::Warning => "warning: ",
            };
            let Span { line, column, .. } = finding.span;
            out += &format!("{}:{line}:{column}: {word}{}\n", self.name, finding.message);
            out += &format!("  help: {}\n", finding.help);
        }
        out
    }

    fn drawn(&self) -> String {
        let handler = GraphicalReportHandler::new();
        let mut out = String::new();
        for finding in &self.all {
            let mut diagnostic = MietteDiagnostic::new(&finding.message).with_help(&finding.help);
            diagnostic = diagnostic.with_severity(match finding.severity {
                Severity::Error => miette::Severity::Error,
                Severity::Warning => miette::Severity::Warning,
            });
            let label = Some(finding.path.clone()).filter(|path| !path.is_empty());
            let Span { offset, length, .. } = finding.span;
            diagnostic = diagnostic.with_label(LabeledSpan::new(label, offset, length));
            let source = NamedSource::new(&self.name, self.text.clone()).with_language("yaml");
            let report = Report::from(diagnostic).with_source_code(source);
            if handler.render_report(&mut out, report.as_ref()).is_err() {
                return self.plain();
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Findings {
        let finding = |severity, line, offset, message: &str| Finding {
            severity,
            span: Span { offset, length: 1, line, column: 1 },
            path: "a.b".into(),
            message: message.into(),
            help: "write c".into(),
        };
        let all = vec![finding(Severity::Warning, 2, 5, "late"), finding(Severity::Error, 1, 0, "wrong")];
        Findings::new("job.yaml", "a: 1\nb: 2\n", all)
    }

    #[test]
    fn findings_are_shown_in_the_order_of_the_text() {
        let findings = findings();
        assert_eq!(findings.errors(), 1);
        let expected = "job.yaml:1:1: wrong\n  help: write c\njob.yaml:2:1: warning: late\n  help: write c\n";
        assert_eq!(findings.plain(), expected);
        let drawn = findings.drawn();
        for piece in ["wrong", "late", "job.yaml:1:1", "write c", "a.b"] {
            assert!(drawn.contains(piece), "{piece} in {drawn}");
        }
    }

    #[test]
    fn programs_read_json() {
        let json: serde_json::Value = serde_json::from_str(&findings().to_json()).expect("JSON");
        assert_eq!(json[0]["line"], 1);
        assert_eq!(json[0]["severity"], "error");
        assert_eq!(json[1]["path"], "a.b");
        assert_eq!(json[1]["help"], "write c");
    }
}
