//! The names of a simulated disk: what is seen, what is durable, and the changes between the two.
//!
//! Invariant: the changes that are not durable, applied in order to the durable names, give the names that are seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::choose::Choose;
use super::event::Inode;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File(Inode),
    Directory,
}

pub(super) type Tree = BTreeMap<PathBuf, Node>;

#[derive(Clone, Debug)]
enum Change {
    Link(PathBuf, Node),
    Rename(PathBuf, PathBuf),
    Unlink(PathBuf),
}

impl Change {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let (first, second) = match self {
            Self::Link(path, _) | Self::Unlink(path) => (path, None),
            Self::Rename(from, to) => (from, Some(to)),
        };
        std::iter::once(first.as_path()).chain(second.map(PathBuf::as_path))
    }

    /// Whether this can only be kept if `earlier` is.
    fn needs(&self, earlier: &Self) -> bool {
        self.paths().any(|path| earlier.paths().any(|other| other == path))
    }

    fn apply(&self, tree: &mut Tree) {
        match self {
            Self::Link(path, node) => {
                tree.insert(path.clone(), *node);
            }
            Self::Rename(from, to) => {
                if let Some(node) = tree.remove(from) {
                    tree.insert(to.clone(), node);
                }
            }
            Self::Unlink(path) => {
                tree.remove(path);
            }
        }
    }
}

/// A change that is not durable, and the folders whose sync it waits for.
#[derive(Clone, Debug)]
struct Pending {
    change: Change,
    folders: BTreeSet<PathBuf>,
}

/// The names of a disk.
#[derive(Clone, Debug)]
pub(super) struct Names {
    live: Arc<Tree>,
    durable: Arc<Tree>,
    pending: Arc<Vec<Pending>>,
}

fn folder(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_path_buf()
}

impl Names {
    /// These names, all durable.
    pub(super) fn durable(tree: Tree) -> Self {
        let tree = Arc::new(tree);
        Self { live: Arc::clone(&tree), durable: tree, pending: Arc::default() }
    }

    pub(super) fn live(&self) -> &Tree {
        &self.live
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn link(&mut self, path: PathBuf, node: Node) {
        self.change(Change::Link(path, node));
    }

    pub(super) fn rename(&mut self, from: PathBuf, to: PathBuf) {
        self.change(Change::Rename(from, to));
    }

    pub(super) fn unlink(&mut self, path: PathBuf) {
        self.change(Change::Unlink(path));
    }

    fn change(&mut self, change: Change) {
        change.apply(Arc::make_mut(&mut self.live));
        let folders = change.paths().map(folder).collect();
        Arc::make_mut(&mut self.pending).push(Pending { change, folders });
    }

    /// The names in a folder become durable, and with them the earlier changes elsewhere that they stand on.
    pub(super) fn sync(&mut self, dir: &Path) {
        if self.pending.is_empty() {
            return;
        }
        let mut pending = std::mem::take(Arc::make_mut(&mut self.pending));
        for entry in &mut pending {
            entry.folders.remove(dir);
        }
        let mut kept: Vec<bool> = pending.iter().map(|entry| entry.folders.is_empty()).collect();
        // From the last to the first: what a durable change stands on is durable too.
        for (place, entry) in pending.iter().enumerate().rev() {
            if kept.get(place) != Some(&true) {
                continue;
            }
            for (earlier, keep) in pending.iter().zip(kept.iter_mut()).take(place) {
                *keep = *keep || entry.change.needs(&earlier.change);
            }
        }
        let durable = Arc::make_mut(&mut self.durable);
        let mut left = Vec::new();
        for (entry, keep) in pending.into_iter().zip(kept) {
            if keep {
                entry.change.apply(durable);
            } else {
                left.push(entry);
            }
        }
        self.pending = Arc::new(left);
    }

    /// What is found after the power failed: the durable names and some of the pending changes.
    pub(super) fn after_power_loss(&self, keep: &mut dyn FnMut() -> bool) -> Tree {
        let mut tree = Tree::clone(&self.durable);
        let mut lost: Vec<&Change> = Vec::new();
        for Pending { change, .. } in self.pending.iter() {
            // What stands on something lost is lost with it, without a choice.
            if lost.iter().any(|earlier| change.needs(earlier)) || !keep() {
                lost.push(change);
            } else {
                change.apply(&mut tree);
            }
        }
        // A name below a directory that is not there cannot be reached.
        let reachable = |path: &Path, tree: &Tree| {
            let mut above = path.ancestors().skip(1).filter(|above| *above != Path::new("/"));
            above.all(|above| tree.get(above) == Some(&Node::Directory))
        };
        let gone: Vec<PathBuf> = tree.keys().filter(|path| !reachable(path, &tree)).cloned().collect();
        for path in gone {
            tree.remove(&path);
        }
        tree
    }
}

/// Keeps each change or loses it, as chosen.
pub(super) fn by_choice(choose: &mut dyn Choose) -> impl FnMut() -> bool + '_ {
    || choose.choose(2) == 1
}

#[cfg(test)]
mod tests {
    use super::super::choose::Odometer;
    use super::*;

    fn path(name: &str) -> PathBuf {
        PathBuf::from(name)
    }

    /// Every set of names that a power loss can leave.
    fn outcomes(names: &Names) -> BTreeSet<Vec<String>> {
        let mut odometer = Odometer::new();
        let mut seen = BTreeSet::new();
        loop {
            let tree = names.after_power_loss(&mut by_choice(&mut odometer));
            let describe = |(path, node): (&PathBuf, &Node)| match node {
                Node::File(inode) => format!("{}={inode}", path.display()),
                Node::Directory => format!("{}/", path.display()),
            };
            seen.insert(tree.iter().map(describe).collect());
            if !odometer.advance() {
                return seen;
            }
        }
    }

    fn set(outcomes: &[&[&str]]) -> BTreeSet<Vec<String>> {
        outcomes.iter().map(|names| names.iter().map(|name| (*name).to_owned()).collect()).collect()
    }

    #[test]
    fn names_that_have_nothing_to_do_with_each_other_are_lost_independently() {
        let mut names = Names::durable(Tree::new());
        names.link(path("/a"), Node::File(1));
        names.link(path("/b"), Node::File(2));
        assert_eq!(outcomes(&names), set(&[&[], &["/a=1"], &["/b=2"], &["/a=1", "/b=2"]]));
        names.sync(Path::new("/"));
        assert_eq!(outcomes(&names), set(&[&["/a=1", "/b=2"]]));
    }

    #[test]
    fn a_rename_is_atomic_and_needs_what_came_before() {
        let mut names = Names::durable(Tree::from([(path("/kept"), Node::File(1))]));
        names.link(path("/new"), Node::File(2));
        names.rename(path("/new"), path("/kept"));
        let expected = [&["/kept=1"][..], &["/kept=1", "/new=2"], &["/kept=2"]];
        assert_eq!(outcomes(&names), set(&expected));
    }

    #[test]
    fn a_rename_between_folders_waits_for_both_and_pulls_with_it_what_it_stands_on() {
        let tree = Tree::from([(path("/p"), Node::Directory), (path("/q"), Node::Directory)]);
        let mut names = Names::durable(tree);
        names.link(path("/p/a"), Node::File(1));
        names.rename(path("/p/a"), path("/q/a"));
        names.sync(Path::new("/q"));
        assert_eq!(outcomes(&names).len(), 3, "nothing is durable before both folders are synced");
        names.sync(Path::new("/p"));
        assert_eq!(outcomes(&names), set(&[&["/p/", "/q/", "/q/a=1"]]));
    }

    #[test]
    fn a_lost_directory_takes_its_files_with_it() {
        let mut names = Names::durable(Tree::new());
        names.link(path("/d"), Node::Directory);
        names.link(path("/d/a"), Node::File(1));
        names.sync(Path::new("/d"));
        // What is in the folder is durable, the name of the folder itself is not.
        assert_eq!(outcomes(&names), set(&[&[], &["/d/", "/d/a=1"]]));
        names.sync(Path::new("/"));
        assert_eq!(outcomes(&names), set(&[&["/d/", "/d/a=1"]]));
    }
}
