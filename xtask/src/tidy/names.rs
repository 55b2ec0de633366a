//! The repository names no machine: no path of somebody's computer, no registry that others cannot reach.

use super::Finding;
use super::context::Context;

/// Where people keep their files. Written in pieces, so that this file does not name them.
const MACHINE_FOLDERS: [&str; 4] =
    [concat!("/", "work/"), concat!("/", "root/"), concat!("/", "home/"), concat!("/", "Users/")];

/// What may stand before an absolute path.
const BEFORE_PATH: [char; 12] = ['"', '\'', '`', '=', ':', '(', '[', '{', '<', ',', '>', '|'];

/// The hosts that configuration may name, with those below them.
const PUBLIC_HOSTS: [&str; 3] = ["docs.rs", "crates.io", "github.com"];

/// Hosts of the machine itself, for tests.
const OWN_HOSTS: [&str; 2] = ["localhost", "127.0.0.1"];

/// What the host of a registry or of a mirror of one is called.
const REGISTRY_WORDS: [&str; 7] = ["artifactory", "nexus", "registry", "mirror", "proxy", "jfrog", "crates"];

/// Endings of the files that configure a build.
const CONFIGURATION: [&str; 5] = [".toml", ".lock", ".yml", ".yaml", ".sh"];

/// Looks at every line of every text file.
pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in &context.files {
        let configures =
            CONFIGURATION.iter().any(|ending| path.ends_with(ending)) || path.starts_with(".ci/");
        for (index, line) in text.lines().enumerate() {
            let mut report = |rule, message| findings.push(Finding::new(path, index + 1, rule, message));
            if let Some(found) = machine_path(line) {
                report(
                    "machine-path",
                    format!("expected a path relative to the repository, found `{found}`"),
                );
            }
            for host in hosts(line).filter(|host| !is_allowed(host, configures)) {
                let expected = PUBLIC_HOSTS.join(", ");
                report("registry-host", format!("expected one of {expected}, found `{host}`"));
            }
        }
    }
    findings
}

/// The first path of a machine in a line.
fn machine_path(line: &str) -> Option<&str> {
    let starts = MACHINE_FOLDERS.iter().flat_map(|folder| line.match_indices(folder));
    let mut starts: Vec<usize> = starts.map(|(at, _)| at).collect();
    starts.sort_unstable();
    let is_absolute = |at: &usize| {
        let before = line.get(..*at).and_then(|before| before.chars().next_back());
        before.is_none_or(|char| char.is_whitespace() || BEFORE_PATH.contains(&char))
    };
    let start = starts.into_iter().find(is_absolute)?;
    let found = line.get(start..)?;
    let end =
        found.find(|char: char| char.is_whitespace() || "\"'`)>,;".contains(char)).unwrap_or(found.len());
    found.get(..end)
}

/// The hosts of all URLs in a line.
fn hosts(line: &str) -> impl Iterator<Item = &str> {
    line.split("://").skip(1).filter_map(|rest| {
        let end =
            rest.find(|char: char| !char.is_alphanumeric() && !"-.@".contains(char)).unwrap_or(rest.len());
        let host = rest.get(..end)?.rsplit('@').next()?.trim_end_matches('.');
        (!host.is_empty()).then_some(host)
    })
}

fn is_allowed(host: &str, configures: bool) -> bool {
    let is_public = PUBLIC_HOSTS.iter().any(|public| {
        host.strip_suffix(public).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    });
    if is_public || OWN_HOSTS.contains(&host) {
        return true;
    }
    !configures && !REGISTRY_WORDS.iter().any(|word| host.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Workspace;

    fn check_one(path: &str, text: &str) -> Vec<String> {
        let workspace = Workspace::default();
        check(&Context::of(&workspace, &[(path, text)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        for folder in MACHINE_FOLDERS {
            let found = check_one("a.md", &format!("x\nsee `{folder}someone/file` there"));
            assert_eq!(
                found,
                [format!(
                    "a.md:2: machine-path: expected a path relative to the repository, found `{folder}someone/file`"
                )]
            );
        }
    }

    #[test]
    fn the_same_words_elsewhere_are_fine() {
        for text in ["docs/work/x", "https://github.com/a/home/b", "$base/root/x", "network/", "~/work/x"] {
            assert!(check_one("a.md", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_registry_that_is_not_public_is_found() {
        let scheme = concat!("https:", "//");
        for (path, host) in [
            ("Cargo.toml", "example.org"),
            ("Cargo.lock", "index.example.org"),
            (".ci/run", "example.org"),
            ("a.md", "registry.example.org"),
            ("a.rs", "artifactory.example.org"),
            ("a.md", "notcrates.io"),
        ] {
            let found = check_one(path, &format!("//! {scheme}{host}/path"));
            assert_eq!(found.len(), 1, "{path} {host}");
            assert!(found[0].ends_with(&format!("found `{host}`")), "{found:?}");
        }
    }

    #[test]
    fn public_hosts_and_pages_to_read_are_fine() {
        for (path, url) in [
            ("Cargo.toml", "https://docs.rs/keepstone"),
            ("Cargo.lock", "registry+https://github.com/rust-lang/crates.io-index"),
            ("a.toml", "https://static.crates.io/x"),
            ("a.md", "https://arxiv.org/abs/1"),
            ("a.rs", "http://localhost:80/"),
        ] {
            assert!(check_one(path, &format!("//! {url}")).is_empty(), "{path} {url}");
        }
    }
}
