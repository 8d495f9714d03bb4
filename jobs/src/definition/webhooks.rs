//! `digital: [{webhook: URL, group: 30s}]`: a listener that names its endpoint itself. That is a connection which only
//! this listener has; so it becomes one, under a name of its own, before the definition is read, and whatever holds
//! for connections holds for it: secrets, checks, limits.

use crate::document::{Content, Document, Entry, Node};
use crate::findings::{Finding, Severity};

/// Keys of a listener that are its webhook's; `webhook` itself is the url.
const KEYS: [&str; 5] = ["webhook", "group", "timeout", "give_up_after", "headers"];

/// Makes connections of the webhooks that stand in `digital`, each where it stands.
pub(crate) fn take_out(document: &mut Document) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Content::Mapping(parts) = &mut document.root.content else { return findings };
    let connections = parts.iter().find(|part| part.key == "connections");
    let mut names: Vec<String> = match connections.map(|part| &part.value.content) {
        Some(Content::Mapping(connections)) => connections.iter().map(|entry| entry.key.clone()).collect(),
        _ => Vec::new(),
    };
    let mut made = Vec::new();
    let digital = parts.iter_mut().find(|part| part.key == "digital");
    if let Some(Content::Sequence(listeners)) = digital.map(|part| &mut part.value.content) {
        for (index, listener) in listeners.iter_mut().enumerate() {
            let Content::Mapping(keys) = &mut listener.content else { continue };
            let Some(at) = keys.iter().find(|entry| entry.key == "webhook").map(|entry| entry.key_span)
            else {
                continue;
            };
            let (taken, kept): (Vec<Entry>, Vec<Entry>) =
                keys.drain(..).partition(|entry| KEYS.contains(&entry.key.as_str()));
            *keys = kept;
            if keys.iter().any(|entry| entry.key == "to") {
                findings.push(Finding {
                    severity: Severity::Error,
                    span: at,
                    path: format!("digital.{index}.webhook"),
                    message: "`to` and `webhook` both say where the events go".into(),
                    help: "leave one of them out".into(),
                });
                continue;
            }
            let mut free = (index + 1..).map(|number| format!("webhook-{number}"));
            let name = free.find(|name| !names.contains(name)).expect("there are more numbers than names");
            names.push(name.clone());
            let scalar = Content::Scalar { text: name.clone(), plain: false };
            keys.push(Entry { key: "to".into(), key_span: at, value: Node { span: at, content: scalar } });
            let map = |key: String, entries| {
                let value = Node { span: at, content: Content::Mapping(entries) };
                Entry { key, key_span: at, value }
            };
            made.push(map(name, vec![map("webhook".into(), settings(taken))]));
        }
    }
    // Connections that are missing, or no map, are told of by whoever reads them.
    let connections = parts.iter_mut().find(|part| part.key == "connections");
    if let Some(Content::Mapping(connections)) = connections.map(|part| &mut part.value.content) {
        connections.extend(made);
    }
    findings
}

/// The settings of a webhook: its keys, or what stands under it.
fn settings(taken: Vec<Entry>) -> Vec<Entry> {
    let mut settings = Vec::new();
    for entry in taken {
        match entry.value.content {
            Content::Mapping(entries) if entry.key == "webhook" => settings.extend(entries),
            _ if entry.key == "webhook" => settings.push(Entry { key: "url".into(), ..entry }),
            _ => settings.push(entry),
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::definition::ConnectionSettings;
    use crate::job::Job;

    /// What comes of a job with this listener.
    fn check(listener: &str, expected: Expect) {
        let text = format!(
            "job: line
connections: {{plant: {{mqtt: {{url: \"mqtt://localhost:1883\"}}}}}}
types:
  press:
    properties: {{t: {{type: double}}}}
    physical:
      s: {{from: plant, topics: [\"{{twin}}\"], at: arrival, properties: {{t: /t}}, expected_rate: none}}
digital:
  - {{to: plant}}
  - {listener}
"
        );
        let found = match Job::parse("job.yaml", &text, None) {
            Ok(job) => {
                let listener = &job.definition.digital[1];
                match &job.definition.connections[&listener.to] {
                    ConnectionSettings::Webhook(webhook) => {
                        let kinds: Vec<&str> = listener.kinds.iter().map(|kind| kind.word()).collect();
                        format!("{}: {} after {:?}, {kinds:?}\n", listener.to, webhook.url, webhook.group)
                    }
                    other => panic!("{other:?}"),
                }
            }
            Err(findings) => findings.plain(),
        };
        expected.assert_eq(&found);
    }

    #[test]
    fn a_listener_names_its_webhook_itself() {
        check(
            "{webhook: \"${ALERT_URL}\", kinds: [lifecycle], group: 30s}",
            expect![[r#"
                webhook-2: ${ALERT_URL} after 30s, ["lifecycle"]
            "#]],
        );
        check(
            "{webhook: {url: \"https://example.com/in\"}, kinds: [lifecycle]}",
            expect![[r#"
                webhook-2: https://example.com/in after 1s, ["lifecycle"]
            "#]],
        );
    }

    #[test]
    fn mistakes_are_told_where_they_stand() {
        check(
            "{webhook: \"ftp://example.com\"}",
            expect![[r#"
            job.yaml:10:15: url `ftp://example.com` is no address of a webhook
              help: write https://host/path
        "#]],
        );
        check(
            "{webhook: \"https://example.com\", to: plant}",
            expect![[r#"
            job.yaml:10:6: `to` and `webhook` both say where the events go
              help: leave one of them out
        "#]],
        );
        check(
            "{webhook: \"https://example.com\", group: often}",
            expect![[r#"
            job.yaml:10:45: `often` is not a duration
              help: write a number with its unit, such as 250ms, 60s or 5m
        "#]],
        );
        check(
            "{webhook: \"https://example.com\", retries: 7}",
            expect![[r#"
            job.yaml:10:38: unknown key `retries`
              help: there are: exactly_once, kinds, retain, to, topic
        "#]],
        );
        check(
            "{webhook: [a]}",
            expect![[r#"
            job.yaml:10:6: a list is not a text
              help: write a text
        "#]],
        );
    }
}
