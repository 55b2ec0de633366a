//! Names of snapshots as names of files.
//!
//! A name may be any text of up to 255 bytes, as that of a version. What is not a letter of ASCII, a digit, `-`, `_` or a dot
//! within stands as `%` and two hexadecimal digits, so that a folder of snapshots can be copied to any file system.

use super::error::SnapshotFileError;
use crate::limits::VERSION_NAME_LEN_MAX;

/// What the name of a file ends in.
pub(super) const SUFFIX: &str = ".keep-snapshot";
/// What it ends in while it is being written.
pub(super) const STAGED_SUFFIX: &str = ".keep-snapshot.new";
/// File systems allow 255 bytes.
const ESCAPED_LEN_MAX: usize = 255 - STAGED_SUFFIX.len();

/// The name without the suffix.
fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && at > 0);
        if plain {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The file of a snapshot, without the suffix.
pub(super) fn file_stem(name: &str) -> Result<String, SnapshotFileError> {
    let fail = |reason| SnapshotFileError::Name { name: name.chars().take(64).collect(), reason };
    if name.is_empty() {
        return Err(fail("it is empty"));
    }
    let stem = escaped(name);
    if name.len() > VERSION_NAME_LEN_MAX || stem.len() > ESCAPED_LEN_MAX {
        return Err(fail(
            "as the name of a file it is longer than 237 bytes; all but ASCII letters, digits, - _ . take three each",
        ));
    }
    Ok(stem)
}

/// The snapshot that a file is of; `None` for files that are none.
pub(super) fn name_of(file: &str) -> Option<String> {
    let stem = file.strip_suffix(SUFFIX)?;
    let mut bytes = Vec::with_capacity(stem.len());
    let mut rest = stem.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            byte => bytes.push(byte),
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    (!name.is_empty() && escaped(&name) == stem).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_files_and_back() {
        for (name, stem) in [
            ("monday", "monday"),
            ("v1.2_a-B", "v1.2_a-B"),
            ("before lunch", "before%20lunch"),
            (".hidden/..\\x", "%2Ehidden%2F..%5Cx"),
            ("ä%", "%C3%A4%25"),
        ] {
            assert_eq!(file_stem(name).unwrap(), stem);
            assert_eq!(name_of(&format!("{stem}{SUFFIX}")).as_deref(), Some(name));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in ["", &"x".repeat(238), &"ä".repeat(40)] {
            assert_eq!(file_stem(name).unwrap_err().kind().as_str(), "snapshot-name", "{name}");
        }
        assert_eq!(file_stem(&"x".repeat(237)).map(|stem| stem.len() + STAGED_SUFFIX.len()).unwrap(), 255);
        for file in
            ["a", "a.keep-snapshot.new", ".keep-snapshot", "a b.keep-snapshot", "%41.keep-snapshot", "%4"]
        {
            assert_eq!(name_of(file), None, "{file}");
        }
        assert_eq!(name_of("%+4.keep-snapshot"), None);
    }
}
