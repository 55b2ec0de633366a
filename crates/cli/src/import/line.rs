//! One import line: what it may say, and why it is refused.
//!
//! A line is a JSON object with the fields of [`FIELDS`]. Given fields replace what the node has, links are added or
//! get a new weight, and what is not given stays.

use keepstone::{Fingerprint, NodePatch};
use serde_json::{Map, Value};

use crate::json::{self, JsonError};

/// The longest line, in bytes without its end: six times the largest body, which `export` may
/// need to escape it, and more.
pub(crate) const LINE_BYTES_MAX: usize = 512 << 20;

/// What a line may say.
const FIELDS: &str =
    "key, collection, label, body, embedding, fingerprint, links, strength, confidence or delete";

/// What a link of a line may say.
const LINK_FIELDS: &str = "verb, to or weight";

/// A line understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) collection: Option<String>,
    pub(crate) key: String,
    pub(crate) content: Content,
}

/// What happens to the node of a line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    /// It is deleted, and its links both ways.
    Delete,
    /// It is written.
    Write(Box<Fields>),
}

/// The fields given; the others stay as they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fields {
    pub(crate) patch: NodePatch<Value>,
    pub(crate) links: Vec<LinkTo>,
}

/// A link that starts from the node of the line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LinkTo {
    pub(crate) verb: String,
    pub(crate) to: String,
    pub(crate) weight: f64,
}

/// Why a line is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    /// Longer than [`LINE_BYTES_MAX`].
    #[error("the line is too long: expected at most {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// No line at all, such as binary data.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// JSON, but no object.
    #[error("expected a JSON object, found {0}")]
    NotAnObject(&'static str),
    /// A field nobody knows.
    #[error("unknown field {field:?}{inside}: expected {expected}")]
    Unknown {
        /// Its name.
        field: String,
        /// Where it stands, if not in the line itself.
        inside: String,
        /// What is known.
        expected: &'static str,
    },
    /// A field that must be there is not.
    #[error("the field \"{0}\" is missing")]
    Missing(String),
    /// A field holds something else than it should.
    #[error("the field \"{field}\": expected {expected}, found {found}")]
    Field {
        /// Where.
        field: String,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        found: String,
    },
    /// A fingerprint that is none.
    #[error("the field \"fingerprint\": {0}")]
    Fingerprint(String),
    /// Deleting and writing at once.
    #[error("\"delete\": true stands with \"key\" and \"collection\" only, found \"{0}\" beside it")]
    DeleteAndWrite(String),
}

impl Line {
    /// Understands the bytes of one line.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, LineError> {
        if bytes.len() > LINE_BYTES_MAX {
            return Err(LineError::TooLong);
        }
        match json::parse(bytes)? {
            Value::Object(fields) => Self::from_fields(fields),
            other => Err(LineError::NotAnObject(kind_of(&other))),
        }
    }

    fn from_fields(object: Map<String, Value>) -> Result<Self, LineError> {
        let (mut key, mut collection, mut delete) = (None, None, false);
        let mut fields = Fields::default();
        let mut written = None;
        for (name, value) in object {
            match name.as_str() {
                "key" => key = Some(text("key", value)?),
                "collection" => collection = Some(text("collection", value)?),
                "delete" => delete = flag("delete", &value)?,
                _ => {
                    fields.set(&name, value)?;
                    written = Some(name);
                }
            }
        }
        let key = key.ok_or_else(|| LineError::Missing("key".to_owned()))?;
        let content = match (delete, written) {
            (true, Some(field)) => return Err(LineError::DeleteAndWrite(field)),
            (true, None) => Content::Delete,
            (false, _) => Content::Write(Box::new(fields)),
        };
        Ok(Self { collection, key, content })
    }
}

impl Fields {
    fn set(&mut self, name: &str, value: Value) -> Result<(), LineError> {
        let patch = std::mem::take(&mut self.patch);
        self.patch = match name {
            "label" => patch.label(text(name, value)?),
            "body" => patch.with_body(value),
            "strength" => patch.strength(single(name, &value)?),
            "confidence" => patch.confidence(single(name, &value)?),
            "embedding" => patch.embedding(embedding(&value)?),
            "fingerprint" => patch.fingerprint(fingerprint(value)?),
            "links" => {
                self.links = links(value)?;
                patch
            }
            _ => {
                let (field, inside) = (name.to_owned(), String::new());
                return Err(LineError::Unknown { field, inside, expected: FIELDS });
            }
        };
        Ok(())
    }
}

fn embedding(value: &Value) -> Result<Vec<f32>, LineError> {
    let items = value.as_array().ok_or_else(|| wrong("embedding", "a list of numbers", value))?;
    items.iter().enumerate().map(|(place, item)| single(&format!("embedding[{place}]"), item)).collect()
}

fn fingerprint(value: Value) -> Result<Fingerprint, LineError> {
    let hex = text("fingerprint", value)?;
    Fingerprint::from_hex(&hex).map_err(|error| LineError::Fingerprint(error.to_string()))
}

fn links(value: Value) -> Result<Vec<LinkTo>, LineError> {
    let Value::Array(items) = value else { return Err(wrong("links", "a list of links", &value)) };
    items.into_iter().enumerate().map(|(place, item)| link(place, item)).collect()
}

fn link(place: usize, value: Value) -> Result<LinkTo, LineError> {
    let path = |name: &str| format!("links[{place}].{name}");
    let Value::Object(object) = value else {
        return Err(wrong(&format!("links[{place}]"), "an object", &value));
    };
    let (mut verb, mut to, mut weight) = (None, None, 1.0);
    for (name, value) in object {
        match name.as_str() {
            "verb" => verb = Some(text(&path("verb"), value)?),
            "to" => to = Some(text(&path("to"), value)?),
            "weight" => {
                weight = value.as_f64().ok_or_else(|| wrong(&path("weight"), "a number", &value))?;
            }
            _ => {
                let inside = format!(" in links[{place}]");
                return Err(LineError::Unknown { field: name, inside, expected: LINK_FIELDS });
            }
        }
    }
    let missing = |name: &str| LineError::Missing(path(name));
    Ok(LinkTo { verb: verb.ok_or_else(|| missing("verb"))?, to: to.ok_or_else(|| missing("to"))?, weight })
}

fn text(field: &str, value: Value) -> Result<String, LineError> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong(field, "a text", &other)),
    }
}

fn flag(field: &str, value: &Value) -> Result<bool, LineError> {
    value.as_bool().ok_or_else(|| wrong(field, "true or false", value))
}

fn single(field: &str, value: &Value) -> Result<f32, LineError> {
    let number = value.as_f64().ok_or_else(|| wrong(field, "a number", value))?;
    json::to_f32(number).ok_or_else(|| wrong(field, "at most 3.4e38 in size", value))
}

fn wrong(field: &str, expected: &'static str, value: &Value) -> LineError {
    let found = match value {
        Value::Number(number) => number.to_string(),
        other => kind_of(other).to_owned(),
    };
    LineError::Field { field: field.to_owned(), expected, found }
}

const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(line: &str) -> Fields {
        match Line::parse(line.as_bytes()).unwrap().content {
            Content::Write(fields) => *fields,
            Content::Delete => panic!("{line} deletes"),
        }
    }

    #[test]
    fn a_line_says_what_it_says() {
        let line = r#"{"key":"a b","collection":"c","label":"L","body":{"n":[1,2.5,18446744073709551615]},
            "embedding":[1,-0.5],"fingerprint":"00FF000000000001","strength":0.5,"confidence":1,
            "links":[{"verb":"knows","to":"b"},{"verb":"owns","to":"c","weight":-2}],"delete":false}"#;
        let parsed = Line::parse(line.as_bytes()).unwrap();
        assert_eq!((parsed.key.as_str(), parsed.collection.as_deref()), ("a b", Some("c")));
        let fields = fields(line);
        let expected = NodePatch::body(json!({"n": [1, 2.5, u64::MAX]}))
            .label("L")
            .embedding(vec![1.0, -0.5])
            .fingerprint(Fingerprint::from_hex("00ff000000000001").unwrap())
            .strength(0.5)
            .confidence(1.0);
        assert_eq!(fields.patch, expected);
        let links: Vec<_> = fields.links.iter().map(|l| (l.verb.as_str(), l.to.as_str(), l.weight)).collect();
        assert_eq!(links, [("knows", "b", 1.0), ("owns", "c", -2.0)]);
    }

    #[test]
    fn a_body_of_null_is_a_body_and_no_body_is_none() {
        assert_eq!(fields(r#"{"key":"a","body":null}"#).patch, NodePatch::body(Value::Null));
        assert_eq!(fields(r#"{"key":"a"}"#), Fields::default());
        let delete = Line::parse(br#"{"delete":true,"key":"a"}"#).unwrap();
        assert_eq!(delete.content, Content::Delete);
    }

    #[test]
    fn every_wrong_line_is_refused_with_its_reason() {
        let cases = [
            ("", "not valid JSON: EOF"),
            ("nonsense", "not valid JSON"),
            ("[]", "expected a JSON object, found a list"),
            ("\"a\"", "expected a JSON object, found a text"),
            (r#"{"key":"a"} x"#, "trailing characters"),
            (r#"{"key":"a""#, "EOF"),
            ("{}", "the field \"key\" is missing"),
            (r#"{"key":1}"#, "the field \"key\": expected a text, found 1"),
            (r#"{"key":null}"#, "the field \"key\": expected a text, found null"),
            (r#"{"key":"a","key":"b"}"#, "the field \"key\" stands twice"),
            (r#"{"key":"a","colour":"red"}"#, "unknown field \"colour\": expected key, collection"),
            (r#"{"key":"a","collection":7}"#, "the field \"collection\": expected a text, found 7"),
            (r#"{"key":"a","label":null}"#, "the field \"label\": expected a text, found null"),
            (r#"{"key":"a","body":1e999}"#, "number out of range at column 19"),
            (r#"{"key":"a","body":{"n":18446744073709551616}}"#, "integer out of range at column 24"),
            (r#"{"key":"a","embedding":"x"}"#, "\"embedding\": expected a list of numbers, found a text"),
            (r#"{"key":"a","embedding":[1,"x"]}"#, "\"embedding[1]\": expected a number, found a text"),
            (r#"{"key":"a","embedding":[1e39]}"#, "\"embedding[0]\": expected at most 3.4e38 in size"),
            (
                r#"{"key":"a","fingerprint":"xyz"}"#,
                "\"fingerprint\": a fingerprint has a multiple of 64 bits",
            ),
            (r#"{"key":"a","fingerprint":"000000000000000x"}"#, "found 'x' at place 15"),
            (r#"{"key":"a","links":{}}"#, "\"links\": expected a list of links, found an object"),
            (r#"{"key":"a","links":[1]}"#, "\"links[0]\": expected an object, found 1"),
            (r#"{"key":"a","links":[{"to":"b"}]}"#, "the field \"links[0].verb\" is missing"),
            (r#"{"key":"a","links":[{"verb":"v"}]}"#, "the field \"links[0].to\" is missing"),
            (
                r#"{"key":"a","links":[{"verb":"v","to":"b","why":1}]}"#,
                "unknown field \"why\" in links[0]: expected verb, to or weight",
            ),
            (
                r#"{"key":"a","links":[{"verb":"v","to":"b","weight":"1"}]}"#,
                "\"links[0].weight\": expected a number, found a text",
            ),
            (r#"{"key":"a","delete":1}"#, "the field \"delete\": expected true or false, found 1"),
            (r#"{"key":"a","delete":true,"body":1}"#, "found \"body\" beside it"),
            (r#"{"key":"a","strength":"x"}"#, "\"strength\": expected a number, found a text"),
        ];
        for (input, expected) in cases {
            let message = Line::parse(input.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(expected), "{input}\n  expected: {expected}\n  found:    {message}");
        }
    }
}
