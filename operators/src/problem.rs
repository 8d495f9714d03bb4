//! What is wrong in a definition, and where: the currency between the components, which check
//! their own settings, and the job file, which knows lines and columns.

/// One mistake of a user's definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Keys and indexes from the component's settings down to the value, outermost first.
    pub path: Vec<String>,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Problem {
    /// A problem at the component itself; [`Problem::under`] adds where that stands.
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { path: Vec::new(), message: message.into(), help: help.into() }
    }

    /// The same problem, seen from one level further out.
    #[must_use]
    pub fn under(mut self, key: impl Into<String>) -> Self {
        self.path.insert(0, key.into());
        self
    }
}

/// The candidate that a mistyped word most likely meant, if one is near (edit distance up to 2).
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 2 && *distance < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// `did you mean X?`, or the list of what there is.
pub fn suggestion<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(word, candidates.clone()) {
        return format!("did you mean `{near}`?");
    }
    let mut known: Vec<&str> = candidates.into_iter().collect();
    known.sort_unstable();
    if known.is_empty() {
        "there is none to choose from".into()
    } else {
        format!("there are: {}", known.join(", "))
    }
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a_char) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b_char) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(a_char != *b_char);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested() {
        let known = ["temperature", "energy", "mode"];
        assert_eq!(nearest("temprature", known), Some("temperature"));
        assert_eq!(nearest("enrgy", known), Some("energy"));
        assert_eq!(nearest("pressure", known), None);
        assert_eq!(suggestion("pressure", known), "there are: energy, mode, temperature");
    }
}
