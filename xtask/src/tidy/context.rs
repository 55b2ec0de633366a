//! What the rules look at: the text files of the repository, its Rust files taken apart, and the workspace.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::Finding;
use super::modules::{self, Reached};
use super::rust_file::RustFile;
use crate::error::Error;
use crate::metadata::{Package, Workspace};

/// Folders of the root that hold what others wrote or what builds made.
const NOT_OURS: [&str; 3] = [".git", "target", "vendor"];

/// What lies in such a folder and is ours all the same.
const OURS_AFTER_ALL: [&str; 1] = ["vendor/README.md"];

/// The input of every rule.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) workspace: &'a Workspace,
    /// Text by path relative to the root.
    pub(super) files: BTreeMap<String, String>,
    /// The Rust files that parse.
    pub(super) rust: BTreeMap<String, RustFile>,
    /// The Rust files that some target of a member leads to.
    pub(super) reached: BTreeMap<String, Reached>,
    /// The files that do not parse.
    pub(super) unreadable: Vec<Finding>,
}

impl<'a> Context<'a> {
    /// Reads the repository.
    pub(super) fn load(workspace: &'a Workspace) -> Result<Self, Error> {
        let mut files = BTreeMap::new();
        read_folder(&workspace.root, "", &mut files)?;
        for path in OURS_AFTER_ALL {
            read_file(&workspace.root.join(path), path, &mut files)?;
        }
        Ok(Self::new(workspace, files))
    }

    fn new(workspace: &'a Workspace, files: BTreeMap<String, String>) -> Self {
        let mut rust = BTreeMap::new();
        let mut unreadable = Vec::new();
        for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".rs")) {
            match RustFile::parse(text) {
                Ok(file) => {
                    rust.insert(path.clone(), file);
                }
                Err((line, message)) => unreadable.push(Finding::new(path, line, "syntax", message)),
            }
        }
        let reached = modules::reach(workspace, &files, &rust);
        Self { workspace, files, rust, reached, unreadable }
    }

    /// Whether a Rust file is compiled for tests only.
    pub(super) fn is_test_file(&self, path: &str) -> bool {
        self.reached.get(path).is_some_and(|reached| reached.tests_only)
            || path.starts_with("tests/")
            || path.contains("/tests/")
    }

    /// Whether a line of a Rust file is compiled for tests only.
    pub(super) fn is_test_line(&self, path: &str, line: usize) -> bool {
        self.is_test_file(path) || self.rust.get(path).is_some_and(|file| file.is_test_line(line))
    }

    /// The path of a member's manifest, and the line in it that names a dependency or key.
    pub(super) fn manifest_line(&self, package: &Package, key: &str) -> (String, usize) {
        let path = self.workspace.relative(&package.manifest_path);
        let line = self.files.get(&path).map_or(1, |text| line_of_key(text, key));
        (path, line)
    }

    /// A repository of planted files.
    #[cfg(test)]
    pub(super) fn of(workspace: &'a Workspace, files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        Self::new(workspace, files.collect())
    }
}

/// The first line of a manifest that begins with a key; 1 when there is none.
pub(super) fn line_of_key(manifest: &str, key: &str) -> usize {
    let names_key = |line: &str| {
        let rest = line.trim_start().strip_prefix(key);
        rest.is_some_and(|rest| rest.starts_with([' ', '.', '=']))
    };
    manifest.lines().position(names_key).map_or(1, |index| index + 1)
}

fn read_folder(folder: &Path, name: &str, files: &mut BTreeMap<String, String>) -> Result<(), Error> {
    let entries = fs::read_dir(folder).map_err(|source| Error::io("list", folder, source))?;
    for entry in entries {
        let entry = entry.map_err(|source| Error::io("list", folder, source))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(|source| Error::io("look at", &path, source))?;
        let entry_name = entry.file_name().to_string_lossy().into_owned();
        if name.is_empty() && NOT_OURS.contains(&entry_name.as_str()) {
            continue;
        }
        let name = if name.is_empty() { entry_name } else { format!("{name}/{entry_name}") };
        if kind.is_dir() {
            read_folder(&path, &name, files)?;
        } else if kind.is_file() {
            read_file(&path, &name, files)?;
        }
    }
    Ok(())
}

/// Keeps a file if it is text; a file that is not there is no error, it may have gone since the folder was listed.
fn read_file(path: &Path, name: &str, files: &mut BTreeMap<String, String>) -> Result<(), Error> {
    match fs::read(path) {
        Ok(bytes) => {
            if let Ok(text) = String::from_utf8(bytes) {
                files.insert(name.to_owned(), text);
            }
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::io("read", path, source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        let planted =
            ["src/lib.rs", "target/x.rs", "crates/a/target/kept.rs", "vendor/b/lib.rs", "vendor/README.md"];
        for path in planted {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "//! Planted.\n").unwrap();
        }
        fs::write(root.path().join("picture.bin"), [0xff, 0xfe]).unwrap();
        let workspace = Workspace { root: root.path().to_owned(), ..Workspace::default() };
        let context = Context::load(&workspace).unwrap();
        let read: Vec<_> = context.files.keys().collect();
        assert_eq!(read, ["crates/a/target/kept.rs", "src/lib.rs", "vendor/README.md"]);
    }

    #[test]
    fn the_line_of_a_key_is_that_of_the_whole_key() {
        let manifest = "[dependencies]\nserde_json.workspace = true\nserde = \"1\"\n";
        assert_eq!(line_of_key(manifest, "serde"), 3);
        assert_eq!(line_of_key(manifest, "serde_json"), 2);
        assert_eq!(line_of_key(manifest, "absent"), 1);
    }
}
