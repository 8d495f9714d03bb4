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
    /// It can, and does what is meant as far as it goes: something was left out.
    Note,
}

impl Severity {
    /// How a line that says it begins.
    fn begin(self) -> &'static str {
        match self {
            Severity::Error => "",
            Severity::Warning => "warning: ",
            Severity::Note => "note: ",
        }
    }
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
    /// The same of other files, which this one names.
    pub others: Vec<Findings>,
}

/// A finding as programs read it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Line {
    /// The file, where it is another one than the job's.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
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
        Self { name: name.to_owned(), text: text.to_owned(), all, others: Vec::new() }
    }

    /// How many errors there are.
    pub fn errors(&self) -> usize {
        let own = self.all.iter().filter(|finding| finding.severity == Severity::Error).count();
        own + self.others.iter().map(Findings::errors).sum::<usize>()
    }

    /// The same without what only says that something was left out.
    #[must_use]
    pub fn without_notes(&self) -> Self {
        let mut findings = self.clone();
        findings.all.retain(|finding| finding.severity != Severity::Note);
        findings.others = self.others.iter().map(Findings::without_notes).collect();
        findings
    }

    /// A JSON list of `{severity, line, column, path, message, help}`, with a `file` where it is not the job's.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&self.lines()).expect("texts and numbers are always JSON")
    }

    /// The findings as programs read them.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = self.lines_of(None);
        for other in &self.others {
            lines.extend(other.lines_of(Some(&other.name)));
        }
        lines
    }

    fn lines_of(&self, file: Option<&str>) -> Vec<Line> {
        let line = |finding: &Finding| Line {
            file: file.map(str::to_owned),
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
            let word = finding.severity.begin();
            let Span { line, column, .. } = finding.span;
            out += &format!("{}:{line}:{column}: {word}{}\n", self.name, finding.message);
            out += &format!("  help: {}\n", finding.help);
        }
        out + &self.others.iter().map(Findings::plain).collect::<String>()
    }

    fn drawn(&self) -> String {
        let handler = GraphicalReportHandler::new();
        let mut out = String::new();
        for finding in &self.all {
            let mut diagnostic = MietteDiagnostic::new(&finding.message).with_help(&finding.help);
            diagnostic = diagnostic.with_severity(match finding.severity {
                Severity::Error => miette::Severity::Error,
                Severity::Warning => miette::Severity::Warning,
                Severity::Note => miette::Severity::Advice,
            });
            let label = Some(finding.path.clone()).filter(|path| !path.is_empty());
            let Span { offset, length, .. } = finding.span;
            diagnostic = diagnostic.with_label(LabeledSpan::new(label, offset, length));
            let language = if self.name.ends_with(".yaml") { "yaml" } else { "json" };
            let source = NamedSource::new(&self.name, self.text.clone()).with_language(language);
            let report = Report::from(diagnostic).with_source_code(source);
            if handler.render_report(&mut out, report.as_ref()).is_err() {
                return self.plain();
            }
        }
        out + &self.others.iter().map(Findings::drawn).collect::<String>()
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
    fn other_files_come_behind() {
        let mut findings = findings();
        let note = Finding { severity: Severity::Note, message: "left".into(), ..findings.all[0].clone() };
        let wrong = Finding { message: "broken".into(), ..findings.all[0].clone() };
        findings.others = vec![Findings::new("m.json", "{}\n", vec![note, wrong])];
        assert_eq!(findings.errors(), 2);
        let expected = "m.json:1:1: note: left\n  help: write c\nm.json:1:1: broken\n  help: write c\n";
        assert!(findings.plain().ends_with(expected), "{}", findings.plain());
        assert!(!findings.without_notes().plain().contains("left"));
        assert!(findings.drawn().contains("m.json:1:1"));
        let json: serde_json::Value = serde_json::from_str(&findings.to_json()).expect("JSON");
        assert_eq!((&json[0]["file"], &json[3]["file"]), (&serde_json::Value::Null, &"m.json".into()));
        assert_eq!(json[2]["severity"], "note");
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
