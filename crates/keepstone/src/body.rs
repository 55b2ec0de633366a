//! Bodies as bytes: MessagePack with structs as maps, so that fields can be added and other languages can read them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use keepstone_types::ValueRef;

use crate::error::ReadError;
use crate::error::change::ChangeError;
use crate::limits::BODY_BYTES_MAX;

/// Encodes a body.
pub(crate) fn encode<T: Serialize>(key: &str, body: &T) -> Result<ValueRef, ChangeError> {
    let bytes = rmp_serde::to_vec_named(body)
        .map_err(|source| ChangeError::Body { key: key.to_owned(), source: Box::new(source) })?;
    if bytes.len() > BODY_BYTES_MAX {
        let (found, max) = (bytes.len(), BODY_BYTES_MAX);
        return Err(ChangeError::Limit { what: "encoded body", found, unit: "bytes", min: 0, max });
    }
    Ok(bytes.into())
}

/// Decodes a body; it must use up all bytes.
pub(crate) fn decode<T: DeserializeOwned>(collection: &str, key: &str, bytes: &[u8]) -> Result<T, ReadError> {
    let error = |source: Box<dyn std::error::Error + Send + Sync>| ReadError::Body {
        collection: collection.to_owned(),
        key: key.to_owned(),
        expected: std::any::type_name::<T>(),
        source,
    };
    let mut rest = bytes;
    let mut decoder = rmp_serde::Deserializer::new(&mut rest);
    let body = T::deserialize(&mut decoder).map_err(|source| error(Box::new(source)))?;
    if rest.is_empty() {
        return Ok(body);
    }
    Err(error(format!("{} bytes are left over", rest.len()).into()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(body: T) {
        let bytes = encode("k", &body).unwrap();
        assert_eq!(decode::<T>("c", "k", &bytes).unwrap(), body);
    }

    #[test]
    fn bodies_of_many_kinds_round_trip() {
        for body in [
            json!(null),
            json!(true),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(-0.0),
            json!(1e300),
            json!(3.0),
            json!("täxt"),
            json!([1, [2.5, {"a": null}], {}]),
            json!({"": {"deep": [[], {}]}, "b": -1}),
        ] {
            round_trip::<Value>(body);
        }
        round_trip(Some(5_u8));
        round_trip(BTreeMap::from([(1_i32, vec!['a']), (-1, vec![])]));
        round_trip((String::from("x"), Some(1.5_f32)));
    }

    #[test]
    fn other_types_and_cut_or_longer_bytes_are_errors() {
        let bytes = encode("k", &json!({"name": "ada"})).unwrap();
        let error = decode::<u32>("people", "ada", &bytes).unwrap_err();
        assert!(
            error.to_string().starts_with("the body of \"ada\" in collection \"people\" is not a u32"),
            "{error}"
        );
        for end in 0..bytes.len() {
            assert!(decode::<Value>("c", "k", &bytes[..end]).is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(
            decode::<Value>("c", "k", &longer).unwrap_err().to_string().contains("1 bytes are left over")
        );
        // An array that claims 2^32 - 1 entries, and nothing follows.
        assert!(decode::<Vec<u64>>("c", "k", &[0xDD, 0xFF, 0xFF, 0xFF, 0xFF]).is_err());
    }
}
