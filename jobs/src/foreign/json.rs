//! A model file as a tree that knows where everything stands, as [`crate::document`] is for job files. YAML's parser
//! is not used for JSON: tabs and pairs of surrogates are good in the one, and not in the other.
//!
//! `serde_json` says whether a text is JSON; what is here only finds the places in one that is.

use super::files::{Place, Wrong};

/// A value, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Json {
    /// Where; of a list or map its first character.
    pub place: Place,
    /// What.
    pub value: Value,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A number, as it was written.
    Number(serde_json::Number),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// Keys and values, in their order.
    Map(Vec<Member>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_place: Place,
    /// The value.
    pub value: Json,
}

impl Member {
    /// Where to look: at the value, or at the key of one that may go on for many lines.
    pub fn shown(&self) -> Place {
        match self.value.value {
            Value::List(_) | Value::Map(_) => self.key_place,
            _ => self.value.place,
        }
    }
}

impl Json {
    /// The members of a map; none where it is no map.
    pub fn members(&self) -> &[Member] {
        match &self.value {
            Value::Map(members) => members,
            _ => &[],
        }
    }

    /// The member of a key.
    pub fn member(&self, key: &str) -> Option<&Member> {
        self.members().iter().find(|member| member.key == key)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.member(key).map(|member| &member.value)
    }

    /// The text, where it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a key.
    pub fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key)?.text()
    }

    /// The number, where it is one.
    pub fn number(&self) -> Option<f64> {
        match &self.value {
            Value::Number(number) => number.as_f64(),
            _ => None,
        }
    }

    /// The flag of a key.
    pub fn flag_of(&self, key: &str) -> Option<bool> {
        match self.get(key)?.value {
            Value::Boolean(flag) => Some(flag),
            _ => None,
        }
    }

    /// The items of a list; of anything else, itself, as JSON-LD has no difference between the two.
    pub fn items(&self) -> &[Json] {
        match &self.value {
            Value::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    /// The items of a key; none where there is no such key.
    pub fn items_of(&self, key: &str) -> &[Json] {
        self.get(key).map_or(&[], Json::items)
    }

    /// Whether it is keys and values.
    pub fn is_map(&self) -> bool {
        matches!(self.value, Value::Map(_))
    }

    /// The value that a JSON Pointer leads to.
    pub fn at(&self, pointer: &str) -> Option<&Json> {
        pointer.split('/').skip(1).try_fold(self, |json, token| {
            let token = token.replace("~1", "/").replace("~0", "~");
            match &json.value {
                Value::List(items) => items.get(token.parse::<usize>().ok()?),
                _ => json.get(&token),
            }
        })
    }

    /// How many values it is made of.
    pub fn size(&self) -> usize {
        match &self.value {
            Value::List(items) => 1 + items.iter().map(Json::size).sum::<usize>(),
            Value::Map(members) => 1 + members.iter().map(|member| member.value.size()).sum::<usize>(),
            _ => 1,
        }
    }
}

/// Reads the text of a file, which has this number.
pub(super) fn parse(file: usize, text: &str) -> Result<Json, Wrong> {
    if let Err(error) = serde_json::from_str::<serde_json::Value>(text) {
        let before: usize =
            text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let mut offset = (before + error.column().saturating_sub(1)).min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let reason = error.to_string();
        let reason = reason.split(" at line ").next().unwrap_or_default();
        let help = "mend the JSON here, or just before; comments and trailing commas are none";
        let place = Place { file, offset, length: usize::from(offset < text.len()) };
        return Err(Wrong::new(place, format!("the JSON cannot be read: {reason}"), help));
    }
    Walk { file, text, at: 0 }.value()
}

/// A walk through a text that is known to be JSON.
struct Walk<'a> {
    file: usize,
    text: &'a str,
    at: usize,
}

impl Walk<'_> {
    /// The next character that is no space.
    fn next(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        bytes.get(self.at).copied().unwrap_or_default()
    }

    fn place(&self, offset: usize) -> Place {
        Place { file: self.file, offset, length: self.at - offset }
    }

    fn value(&mut self) -> Result<Json, Wrong> {
        let first = self.next();
        let start = self.at;
        let opening = Place { file: self.file, offset: start, length: 1 };
        Ok(match first {
            b'[' => {
                self.at += 1;
                let mut items = Vec::new();
                while self.goes_on(b']') {
                    items.push(self.value()?);
                }
                Json { place: opening, value: Value::List(items) }
            }
            b'{' => {
                self.at += 1;
                let mut members: Vec<Member> = Vec::new();
                while self.goes_on(b'}') {
                    let (key, key_place) = self.string();
                    if members.iter().any(|member| member.key == key) {
                        let message = format!("`{key}` stands here twice");
                        return Err(Wrong::new(key_place, message, "rename or remove one"));
                    }
                    self.next();
                    // The colon.
                    self.at += 1;
                    members.push(Member { key, key_place, value: self.value()? });
                }
                Json { place: opening, value: Value::Map(members) }
            }
            b'"' => {
                let (text, place) = self.string();
                Json { place, value: Value::Text(text) }
            }
            _ => {
                let rest = &self.text[start..];
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c));
                self.at += end.unwrap_or(rest.len());
                let value = match serde_json::from_str(&self.text[start..self.at]) {
                    Ok(serde_json::Value::Bool(flag)) => Value::Boolean(flag),
                    Ok(serde_json::Value::Number(number)) => Value::Number(number),
                    _ => Value::Null,
                };
                Json { place: self.place(start), value }
            }
        })
    }

    /// Whether there is one more in a list or map; goes behind the comma, or behind the end.
    fn goes_on(&mut self, end: u8) -> bool {
        let mut next = self.next();
        if next == b',' {
            self.at += 1;
            next = self.next();
        }
        self.at += usize::from(next == end);
        next != end
    }

    fn string(&mut self) -> (String, Place) {
        self.next();
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        while bytes[self.at] != b'"' {
            self.at += if bytes[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        let text = serde_json::from_str(&self.text[start..self.at]).expect("the text is known to be JSON");
        (text, self.place(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_its_place() {
        let text = "{\n\t\"a\" : [1, -2.5e3, \"x\\\"\\ud83d\\ude00\"],\n \"ü/~\":{\"c\":null,\"d\":true} }";
        let json = parse(0, text).expect("it is JSON");
        for (pointer, piece) in [
            ("", "{"),
            ("/a", "["),
            ("/a/0", "1"),
            ("/a/1", "-2.5e3"),
            ("/a/2", "\"x\\\"\\ud83d\\ude00\""),
            ("/ü~1~0", "{"),
            ("/ü~1~0/c", "null"),
            ("/ü~1~0/d", "true"),
        ] {
            let place = json.at(pointer).unwrap_or_else(|| panic!("nothing at {pointer}")).place;
            assert_eq!(&text[place.offset..place.offset + place.length], piece, "{pointer}");
        }
        assert_eq!(json.at("/a/2").and_then(Json::text), Some("x\"😀"));
        assert_eq!(json.at("/a/1").and_then(Json::number), Some(-2500.0));
        assert_eq!(json.size(), 8);
        assert!(json.at("/a/3").is_none() && json.at("/b").is_none());
        let key = json.members()[1].shown();
        assert_eq!(&text[key.offset..key.offset + key.length], "\"ü/~\"");
    }

    #[test]
    fn what_is_no_json_is_told_with_its_place() {
        for (text, offset, expected) in [
            ("", 0, "the JSON cannot be read: EOF while parsing a value"),
            ("{\"a\": 1,\n \"b\": }", 15, "the JSON cannot be read: expected value"),
            ("{\"a\": 1 // one\n}", 8, "the JSON cannot be read: expected `,` or `}`"),
            ("{\"a\": 1, \"b\": {\"c\": 1, \"c\": 2}}", 23, "`c` stands here twice"),
            ("[1] 2", 4, "the JSON cannot be read: trailing characters"),
        ] {
            let wrong = parse(0, text).expect_err(text);
            assert_eq!(
                (wrong.place.map(|place| place.offset), wrong.message.as_str()),
                (Some(offset), expected)
            );
        }
        let deep = "[".repeat(200) + &"]".repeat(200);
        let wrong = parse(0, &deep).expect_err("it is too deep");
        assert_eq!(wrong.message, "the JSON cannot be read: recursion limit exceeded");
    }
}
