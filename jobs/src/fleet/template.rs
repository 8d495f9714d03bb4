//! Topics and messages of simulated devices: text with words in braces.

/// Text with `{twin}`, `{at}`, `{temperature}` and `{energy}` in it, cut at its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Twin,
    At,
    Temperature,
    Energy,
}

/// What the words of a template stand for in one message.
pub(super) struct Words {
    /// The device's id.
    pub(super) twin: String,
    /// When it was measured, milliseconds since 1970.
    pub(super) at: String,
    pub(super) temperature: String,
    pub(super) energy: String,
}

const WORDS: [(&str, Part); 4] = [
    ("{twin}", Part::Twin),
    ("{at}", Part::At),
    ("{temperature}", Part::Temperature),
    ("{energy}", Part::Energy),
];

impl Template {
    /// Cuts a text at its words; braces around anything else are text.
    pub fn new(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((at, word, part)) = first_word(rest) {
            parts.extend((at > 0).then(|| Part::Text(rest[..at].to_owned())));
            parts.push(part);
            rest = &rest[at + word.len()..];
        }
        parts.extend((!rest.is_empty()).then(|| Part::Text(rest.to_owned())));
        Self(parts)
    }

    /// Whether it says whose a message is.
    pub fn names_the_twin(&self) -> bool {
        self.0.contains(&Part::Twin)
    }

    pub(super) fn fill(&self, words: &Words) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => text,
            Part::Twin => &words.twin,
            Part::At => &words.at,
            Part::Temperature => &words.temperature,
            Part::Energy => &words.energy,
        });
        parts.map(String::as_str).collect()
    }
}

fn first_word(text: &str) -> Option<(usize, &'static str, Part)> {
    let found = WORDS.into_iter().filter_map(|(word, part)| Some((text.find(word)?, word, part)));
    found.min_by_key(|(at, ..)| *at)
}
