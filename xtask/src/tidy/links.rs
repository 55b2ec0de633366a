//! Relative links between the Markdown pages lead somewhere, down to the heading.

use std::collections::BTreeSet;

use super::Finding;
use super::context::Context;
use super::modules::normalise;

/// Follows every relative link of every page.
pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in context.files.iter().filter(|(path, _)| path.ends_with(".md")) {
        for (line, target) in links_of(text) {
            if let Err(why) = follow(context, path, &target) {
                findings.push(Finding::new(path, line, "links", format!("`{target}`: {why}")));
            }
        }
    }
    findings
}

fn follow(context: &Context<'_>, page: &str, target: &str) -> Result<(), String> {
    let (file, heading) =
        target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = if file.is_empty() { page.to_owned() } else { normalise(&format!("{folder}/{file}")) };
    let prefix = format!("{path}/");
    let is_folder = path.is_empty() || context.files.keys().any(|known| known.starts_with(&prefix));
    let Some(text) = context.files.get(&path) else {
        return if is_folder {
            Ok(())
        } else {
            Err(format!("expected a file or folder `{path}`, found none"))
        };
    };
    match heading {
        Some(heading) if path.ends_with(".md") && !anchors_of(text).contains(heading) => {
            Err(format!("expected a heading `#{heading}` in `{path}`, found none"))
        }
        _ => Ok(()),
    }
}

/// The relative links of a page with their lines; code is skipped.
fn links_of(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in prose_lines(text) {
        let prose = without_code(line);
        for (_, rest) in prose.match_indices("](").map(|(at, mark)| prose.split_at(at + mark.len())) {
            links.extend(rest.split(')').next().map(|target| (number, target.to_owned())));
        }
        // A definition: `[name]: target`.
        let definition = prose.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        links.extend(definition.map(|(_, target)| (number, target.to_owned())));
    }
    let targets = links.into_iter().filter_map(|(number, link)| {
        let target = link.split_whitespace().next()?.trim_matches(['<', '>']).replace("%20", " ");
        let is_relative = !target.contains("://") && !target.starts_with("mailto:") && !target.is_empty();
        is_relative.then_some((number, target))
    });
    targets.collect()
}

/// The lines outside fenced code, numbered from 1.
fn prose_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~");
        in_code ^= fence;
        (!in_code && !fence).then_some((index + 1, line))
    })
}

fn without_code(line: &str) -> String {
    let parts: Vec<&str> = line.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return line.to_owned();
    }
    parts.into_iter().step_by(2).collect::<Vec<_>>().join("`")
}

/// The names that the headings of a page can be linked by.
fn anchors_of(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in prose_lines(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = heading.trim().to_lowercase();
        let kept = kept.chars().filter(|char| char.is_alphanumeric() || matches!(char, '-' | '_' | ' '));
        let name: String = kept.map(|char| if char == ' ' { '-' } else { char }).collect();
        let mut unique = name.clone();
        let mut count = 0;
        while !anchors.insert(unique.clone()) {
            count += 1;
            unique = format!("{name}-{count}");
        }
    }
    anchors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Workspace;

    fn check_page(page: &str) -> Vec<String> {
        let workspace = Workspace::default();
        let files = [
            ("docs/page.md", page),
            ("docs/other.md", "# Title\n\n## What `it` is, *exactly*\n## Twice\n## Twice\n"),
            ("README.md", ""),
            ("crates/a/src/lib.rs", ""),
        ];
        check(&Context::of(&workspace, &files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_that_lead_somewhere_are_fine() {
        let page = "# Here\n[a](other.md) [b](../README.md) [c](../crates/a) [d](other.md#what-it-is-exactly)\n\
                    [e](https://docs.rs/x) [f](#here) [g](other.md#twice-1 \"a title\") [h](mailto:a@b)\n\
                    `[i](nowhere.md)`\n```text\n[j](nowhere.md)\n```\n[k]: other.md\n";
        assert_eq!(check_page(page), [""; 0]);
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let page = "[a](gone.md)\n[b](other.md#gone) and [c](../gone/)\n\n[d]: gone.md\n[e](#gone)\n";
        assert_eq!(
            check_page(page),
            [
                "docs/page.md:1: links: `gone.md`: expected a file or folder `docs/gone.md`, found none",
                "docs/page.md:2: links: `other.md#gone`: expected a heading `#gone` in `docs/other.md`, found none",
                "docs/page.md:2: links: `../gone/`: expected a file or folder `gone`, found none",
                "docs/page.md:4: links: `gone.md`: expected a file or folder `docs/gone.md`, found none",
                "docs/page.md:5: links: `#gone`: expected a heading `#gone` in `docs/page.md`, found none",
            ]
        );
    }
}
