//! The page that the demo ends with: for people aligned under headings, for programs one line of JSON.

use std::time::Duration;

use super::checkpoint::Folded;
use super::damage::Healed;
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
    pub(super) healed: Healed,
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
        object.plain("damaged_pages", self.healed.damaged);
        object.plain("repaired_pages", self.healed.repaired);
        object.plain("export_equal_after_repair", self.healed.export_equal);
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
        let Healed { damaged, repaired, export_equal } = self.healed;
        if damaged == 0 || repaired != damaged {
            return Some(format!("{repaired} of {damaged} damaged pages were rebuilt"));
        }
        if !export_equal {
            return Some("the store does not say what it said before it was damaged and healed".to_owned());
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
            healed: Healed { damaged: 32, repaired: 32, export_equal: true },
            elapsed: Duration::from_micros(1_234_567),
        }
    }

    #[test]
    fn the_line_of_json_is_the_promised_one() {
        let expected = r#"{"nodes":217,"links":843,"commits":300,"versions":302,"acked":250,"recovered":250,"lost":0,"time_travel_equal":true,"check_errors":0,"checkpoint_equal":true,"open_log_seconds":0.012345,"open_pages_seconds":0.0015,"log_bytes":1048576,"page_bytes":2097152,"damaged_pages":32,"repaired_pages":32,"export_equal_after_repair":true,"seconds":1.235}"#;
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
        let healed = |healed| Numbers { healed, ..numbers() }.broken_promise();
        let unhealed = healed(Healed { repaired: 31, ..numbers().healed }).unwrap();
        assert_eq!(unhealed, "31 of 32 damaged pages were rebuilt");
        assert!(
            healed(Healed { damaged: 0, repaired: 0, export_equal: true }).is_some(),
            "nothing was shown"
        );
        assert!(healed(Healed { export_equal: false, ..numbers().healed }).is_some());
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
