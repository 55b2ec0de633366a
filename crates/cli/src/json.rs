//! JSON read strictly and written canonically: equal content has equal bytes, and reading what was written gives the
//! content again.
//!
//! Reading: an integer literal is an `i64` or a `u64`, every other number a finite `f64`, anything outside is refused;
//! so is an object that names a field twice. Writing: object fields in the order of their bytes, no blanks, numbers
//! with the fewest digits that read back as the same number.

use std::fmt::{self, Write as _};

use serde::de;
use serde_json::{Map, Number, Value};

/// Why a text is not acceptable JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    /// An integer that neither `i64` nor `u64` holds.
    #[error("integer out of range at column {column}: expected -2^63 to 2^64 - 1, found {found}")]
    Integer {
        /// Counted from 1.
        column: usize,
        /// The literal.
        found: String,
    },
    /// A number that no finite `f64` is near to.
    #[error("number out of range at column {column}: expected at most 1.8e308 in size, found {found}")]
    Float {
        /// Counted from 1.
        column: usize,
        /// The literal.
        found: String,
    },
    /// Not JSON, nested too deep, or a field named twice.
    #[error("not valid JSON: {0}")]
    Syntax(String),
}

/// Reads one JSON text.
pub(crate) fn parse(text: &[u8]) -> Result<Value, JsonError> {
    // The order matters: the parser would round an integer that is too large without a word.
    check_numbers(text)?;
    let syntax = |error: serde_json::Error| JsonError::Syntax(without_line(&error));
    let mut parser = serde_json::Deserializer::from_slice(text);
    let value = de::DeserializeSeed::deserialize(Strict, &mut parser).map_err(syntax)?;
    parser.end().map_err(syntax)?;
    Ok(value)
}

/// The message of a parser's error for a text of one line: the column is enough.
fn without_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

/// Longest literal that a message repeats.
const LITERAL_SHOWN_MAX: usize = 40;

/// Looks at every number outside strings.
fn check_numbers(text: &[u8]) -> Result<(), JsonError> {
    let mut rest = text;
    let mut column = 1;
    let mut in_string = false;
    while let Some((first, after)) = rest.split_first() {
        let mut taken = 1;
        match first {
            b'"' => in_string = !in_string,
            b'\\' if in_string => taken = 2,
            b'-' | b'0'..=b'9' if !in_string => {
                let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                taken += after.iter().take_while(|byte| is_part(byte)).count();
                check_number(rest.get(..taken).unwrap_or(rest), column)?;
            }
            _ => {}
        }
        rest = rest.get(taken..).unwrap_or_default();
        column += taken;
    }
    Ok(())
}

fn check_number(literal: &[u8], column: usize) -> Result<(), JsonError> {
    // Digits, signs, points and exponents only: always text.
    let literal = str::from_utf8(literal).unwrap_or_default();
    let found = || match literal.get(..LITERAL_SHOWN_MAX) {
        Some(start) if literal.len() > LITERAL_SHOWN_MAX => format!("{start}... ({} digits)", literal.len()),
        _ => literal.to_owned(),
    };
    let is_integer = !literal.contains(['.', 'e', 'E']);
    let digits = literal.strip_prefix('-').unwrap_or(literal);
    // What is malformed is left to the parser, which says so better.
    if is_integer && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let fits = literal.parse::<i64>().is_ok() || literal.parse::<u64>().is_ok();
        return if fits { Ok(()) } else { Err(JsonError::Integer { column, found: found() }) };
    }
    match literal.parse::<f64>() {
        Ok(number) if !number.is_finite() => Err(JsonError::Float { column, found: found() }),
        _ => Ok(()),
    }
}

/// Builds a [`Value`] and refuses a field that is named twice.
#[derive(Clone, Copy)]
struct Strict;

impl<'de> de::DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> de::Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(de::Error::custom(format_args!("the field {name:?} stands twice in one object")));
            }
            let value = fields.next_value_seed(self)?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// Appends a value in its one canonical form.
pub(crate) fn write(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_text(out, text),
        Value::Array(items) => write_list(out, items, write),
        Value::Object(fields) => {
            // Sorted here: whether the map keeps an order of its own depends on what else is in the build.
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (place, (name, value)) in sorted.into_iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_text(out, name);
                out.push(':');
                write(out, value);
            }
            out.push('}');
        }
    }
}

/// A value in its one canonical form.
pub(crate) fn text(value: &Value) -> String {
    let mut out = String::new();
    write(&mut out, value);
    out
}

/// Appends a list.
pub(crate) fn write_list<T>(out: &mut String, items: &[T], mut item: impl FnMut(&mut String, &T)) {
    out.push('[');
    for (place, one) in items.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        item(out, one);
    }
    out.push(']');
}

/// A JSON object on its way out, field by field.
pub(crate) struct Object<'a> {
    out: &'a mut String,
    is_empty: bool,
}

impl<'a> Object<'a> {
    /// Opens the object.
    pub(crate) fn begin(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, is_empty: true }
    }

    /// Names a field; its value is to be appended to what is returned.
    pub(crate) fn field(&mut self, name: &str) -> &mut String {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(',');
        }
        write_text(self.out, name);
        self.out.push(':');
        self.out
    }

    /// Appends a field whose value prints as valid JSON.
    pub(crate) fn plain(&mut self, name: &str, value: impl fmt::Display) {
        // Writing to a string cannot fail.
        write!(self.field(name), "{value}").unwrap_or_default();
    }

    /// Appends a field that is a text.
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        write_text(self.field(name), value);
    }

    /// Closes the object.
    pub(crate) fn end(self) {
        self.out.push('}');
    }
}

/// Appends a text in quotes.
pub(crate) fn write_text(out: &mut String, text: &str) {
    out.push_str(&quoted(text));
}

/// A text in JSON's quotes.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn write_number(out: &mut String, number: &Number) {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) => write_f64(out, float),
        None => out.push_str(&number.to_string()),
    }
}

/// Appends a float with a point or an exponent, so that it reads back as a float.
pub(crate) fn write_f64(out: &mut String, float: f64) {
    out.push_str(&format!("{float:?}"));
}

/// Appends a duration in seconds, to the microsecond.
pub(crate) fn write_seconds(out: &mut String, time: std::time::Duration) {
    write_f64(out, (time.as_secs_f64() * 1e6).round() / 1e6);
}

/// Appends a single-precision float, with its own few digits where they read back as the same number.
pub(crate) fn write_f32(out: &mut String, float: f32) {
    let short = format!("{float:?}");
    match short.parse::<f64>().ok().and_then(to_f32) {
        Some(back) if back.to_bits() == float.to_bits() => out.push_str(&short),
        _ => write_f64(out, f64::from(float)),
    }
}

/// The single-precision float nearest to a number, unless it is out of range.
#[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest f32 is what is asked for")]
pub(crate) fn to_f32(number: f64) -> Option<f32> {
    Some(number as f32).filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &str, expected: &str) {
        let value = parse(input.as_bytes()).unwrap();
        assert_eq!(text(&value), expected, "{input}");
        assert_eq!(parse(expected.as_bytes()).unwrap(), value, "{input}");
    }

    #[test]
    fn equal_content_has_equal_bytes() {
        check(r#" { "b" : 1 , "a" : [ true , null ] } "#, r#"{"a":[true,null],"b":1}"#);
        check(r#"{"é":1,"z":2,"A":3}"#, r#"{"A":3,"z":2,"é":1}"#);
        check(r#""\u0041\/\n\u0007""#, r#""A/\n\u0007""#);
        for text in ["0", "-1", "18446744073709551615", "-9223372036854775808", "9007199254740993"] {
            check(text, text);
        }
        check("1.50", "1.5");
        check("1.0", "1.0");
        check("1e2", "100.0");
        check("0.1e-6", "1e-7");
        check("123456789012345680000.0", "1.2345678901234568e20");
        check("-0.0", "-0.0");
    }

    #[test]
    fn what_is_out_of_range_or_ambiguous_is_refused() {
        let cases = [
            ("18446744073709551616", "integer out of range at column 1"),
            (r#"{"a":[-9223372036854775809]}"#, "integer out of range at column 7"),
            ("1e309", "number out of range at column 1"),
            (r#"[1,-2.5E+999]"#, "number out of range at column 4"),
            (r#"{"a":1,"a":2}"#, "the field \"a\" stands twice"),
            (r#"{"x":{"a":1,"\u0061":2}}"#, "the field \"a\" stands twice"),
            ("01", "not valid JSON"),
            ("1.", "not valid JSON"),
            ("--1", "not valid JSON"),
            ("NaN", "not valid JSON"),
            ("1 2", "not valid JSON: trailing characters"),
            ("", "not valid JSON: EOF"),
            ("\"\u{1}\"", "not valid JSON: control character"),
            (r#""\ud800""#, "not valid JSON"),
        ];
        for (input, expected) in cases {
            let message = parse(input.as_bytes()).unwrap_err().to_string();
            assert!(message.starts_with(expected) || message.contains(expected), "{input}: {message}");
        }
        assert!(parse(b"\"\xff\"").unwrap_err().to_string().starts_with("not valid JSON"));
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert!(parse(deep.as_bytes()).unwrap_err().to_string().contains("recursion limit"));
        let long = "9".repeat(5_000);
        assert!(parse(long.as_bytes()).unwrap_err().to_string().len() < 200);
    }

    #[test]
    fn numbers_inside_texts_are_not_looked_at() {
        check(r#""99999999999999999999999 \" 1e999""#, r#""99999999999999999999999 \" 1e999""#);
    }

    #[test]
    fn floats_read_back_as_the_same_float() {
        let mut bits = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let double = f64::from_bits(bits);
            if double.is_finite() {
                let mut out = String::new();
                write_f64(&mut out, double);
                let back = parse(out.as_bytes()).unwrap();
                assert_eq!(back.as_f64().map(f64::to_bits), Some(double.to_bits()), "{out}");
                assert!(back.is_f64(), "{out}");
            }
            let single = f32::from_bits(u32::try_from(bits >> 32).unwrap());
            if single.is_finite() {
                let mut out = String::new();
                write_f32(&mut out, single);
                let back = parse(out.as_bytes()).unwrap().as_f64().and_then(to_f32).unwrap();
                assert_eq!(back.to_bits(), single.to_bits(), "{out}");
            }
        }
        assert_eq!(to_f32(1e39), None);
    }
}
