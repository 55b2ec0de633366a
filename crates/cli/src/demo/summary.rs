//! The page that the demo ends with: for people aligned under headings, for programs one line of JSON.

use std::time::Duration;

use super::checkpoint::Folded;
use crate::json::{self, Object};

/// What a program reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Numbers {
    pub(super) nodes: u64,
    pub(super) links: u64,
    pub(super) commits: u64,
    pub(super) versions: u64,
    pub(super) acked: u64,
    pub(super) recovered: u64,
    pub(super) lost: u64,
    pub(super) time_travel_equal: bool,
    pub(super) check_errors: u64,
    pub(super) folded: Folded,
    pub(super) elapsed: Duration,
}

impl Numbers {
    /// One line; its fields and their order are a promise.
    pub(super) fn json(&self) -> String {
        let mut line = String::new();
        let mut object = Object::begin(&mut line);
        object.plain("nodes", self.nodes);
        object.plain("links", self.links);
        object.plain("commits", self.commits);
        object.plain("versions", self.versions);
        object.plain("acked", self.acked);
        object.plain("recovered", self.recovered);
        object.plain("lost", self.lost);
        object.plain("time_travel_equal", self.time_travel_equal);
        object.plain("check_errors", self.check_errors);
        object.plain("checkpoint_equal", self.is_checkpoint_equal());
        json::write_seconds(object.field("open_log_seconds"), self.folded.open_log);
        json::write_seconds(object.field("open_pages_seconds"), self.folded.open_pages);
        object.plain("log_bytes", self.folded.log_bytes);
        object.plain("page_bytes", self.folded.page_bytes);
        json::write_f64(object.field("seconds"), (self.elapsed.as_secs_f64() * 1e3).round() / 1e3);
        object.end();
        line
    }

    fn is_checkpoint_equal(&self) -> bool {
        self.folded.versions_equal == self.folded.versions
    }

    /// What is not as promised, if anything.
    pub(super) fn broken_promise(&self) -> Option<String> {
        if self.lost > 0 {
            return Some(format!("{} of {} acknowledged commits are lost", self.lost, self.acked));
        }
        if self.check_errors > 0 {
            return Some(format!("the check found {} errors", self.check_errors));
        }
        if !self.is_checkpoint_equal() {
            let differ = self.folded.versions.saturating_sub(self.folded.versions_equal);
            return Some(format!("{differ} versions read differently after a checkpoint"));
        }
        (!self.time_travel_equal).then(|| "an old version does not read as it was".to_owned())
    }
}

/// A page of sections, each with labelled lines.
#[derive(Debug, Default)]
pub(super) struct Page {
    sections: Vec<(String, Vec<(String, String)>)>,
}

impl Page {
    /// Begins a section.
    pub(super) fn section(&mut self, heading: &str) {
        self.sections.push((heading.to_owned(), Vec::new()));
    }

    /// Adds a line to the last section. Lines without a label continue the one before.
    pub(super) fn row(&mut self, label: &str, text: impl Into<String>) {
        if self.sections.is_empty() {
            self.section("");
        }
        if let Some((_, rows)) = self.sections.last_mut() {
            rows.push((label.to_owned(), text.into()));
        }
    }

    /// The lines of the page.
    pub(super) fn lines(&self) -> Vec<String> {
        let labels = self.sections.iter().flat_map(|(_, rows)| rows).map(|(label, _)| label.chars().count());
        let width = labels.max().unwrap_or(0);
        let mut lines = Vec::new();
        for (heading, rows) in &self.sections {
            lines.extend([String::new(), heading.clone()]);
            lines.extend(
                rows.iter().map(|(label, text)| format!("  {label:<width$}  {text}").trim_end().to_owned()),
            );
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers() -> Numbers {
        Numbers {
            nodes: 217,
            links: 843,
            commits: 300,
            versions: 302,
            acked: 250,
            recovered: 250,
            lost: 0,
            time_travel_equal: true,
            check_errors: 0,
            folded: Folded {
                versions: 302,
                versions_equal: 302,
                open_log: Duration::from_micros(12_345),
                open_pages: Duration::from_micros(1_500),
                log_bytes: 1_048_576,
                page_bytes: 2_097_152,
            },
            elapsed: Duration::from_micros(1_234_567),
        }
    }

    #[test]
    fn the_line_of_json_is_the_promised_one() {
        let expected = r#"{"nodes":217,"links":843,"commits":300,"versions":302,"acked":250,"recovered":250,"lost":0,"time_travel_equal":true,"check_errors":0,"checkpoint_equal":true,"open_log_seconds":0.012345,"open_pages_seconds":0.0015,"log_bytes":1048576,"page_bytes":2097152,"seconds":1.235}"#;
        assert_eq!(numbers().json(), expected);
    }

    #[test]
    fn a_broken_promise_is_named() {
        assert_eq!(numbers().broken_promise(), None);
        let lost = Numbers { lost: 2, ..numbers() };
        assert_eq!(lost.broken_promise().unwrap(), "2 of 250 acknowledged commits are lost");
        assert!(Numbers { check_errors: 1, ..numbers() }.broken_promise().unwrap().contains("1 errors"));
        let folded = Folded { versions_equal: 300, ..numbers().folded };
        let differs = Numbers { folded, ..numbers() }.broken_promise().unwrap();
        assert_eq!(differs, "2 versions read differently after a checkpoint");
        assert!(Numbers { time_travel_equal: false, ..numbers() }.broken_promise().is_some());
    }

    #[test]
    fn labels_are_even_across_sections() {
        let mut page = Page::default();
        page.section("One");
        page.row("a", "x");
        page.row("", "more");
        page.section("Two");
        page.row("longer", "y");
        assert_eq!(page.lines(), ["", "One", "  a       x", "          more", "", "Two", "  longer  y"]);
    }
}
