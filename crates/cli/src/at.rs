//! `AT`: a version, a name, or an RFC 3339 time.

use keepstone::{At, Timestamp};

/// What a text means. Whatever is neither a version nor a time is a name; names that could be taken for one of them are
/// not given out.
pub(crate) fn parse(text: &str) -> At {
    if let Ok(version) = text.parse() {
        return At::Version(version);
    }
    match text.parse::<jiff::Timestamp>() {
        // Before 1970 there was no store: the same answer as at the epoch.
        Ok(time) => At::Time(Timestamp::from_micros(u64::try_from(time.as_microsecond()).unwrap_or(0))),
        Err(_) => At::Name(text.to_owned()),
    }
}

/// Whether a text that is no time was probably meant as one.
pub(crate) fn looks_like_time(text: &str) -> bool {
    let start: Vec<u8> = text.bytes().take(5).collect();
    matches!(start.as_slice(), [year @ .., b'-'] if year.len() == 4 && year.iter().all(u8::is_ascii_digit))
}

/// A time as RFC 3339 in UTC, to the microsecond, so that it names the same commit when typed again.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_microsecond(micros) {
        Ok(time) => format!("{time:.6}"),
        // Past the year 9999.
        Err(_) => time.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_times_and_names_are_told_apart() {
        let version = |text: &str| At::Version(text.parse().unwrap());
        let time = |micros| At::Time(Timestamp::from_micros(micros));
        let name = |text: &str| At::Name(text.to_owned());
        let cases = [
            ("17", version("17")),
            ("2:17", version("2:17")),
            ("0", version("0")),
            ("1970-01-01T00:00:01Z", time(1_000_000)),
            ("1970-01-01T01:00:00.000001+01:00", time(1)),
            ("2026-03-01T12:00:00.123456Z", time(1_772_366_400_123_456)),
            ("1969-12-31T23:59:59Z", time(0)),
            ("before-cleanup", name("before-cleanup")),
            ("2026-03-01", name("2026-03-01")),
            ("v17", name("v17")),
            ("-1", name("-1")),
            ("1:2:3", name("1:2:3")),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_printed_time_means_the_same_when_typed() {
        for micros in [0, 1, 1_772_366_400_000_000, 1_772_366_400_123_456] {
            let time = Timestamp::from_micros(micros);
            assert_eq!(parse(&rfc3339(time)), At::Time(time));
        }
        assert_eq!(rfc3339(Timestamp::from_micros(1_000_000)), "1970-01-01T00:00:01.000000Z");
        assert!(looks_like_time("2026-03-01") && !looks_like_time("202-x") && !looks_like_time("20263-"));
    }
}
