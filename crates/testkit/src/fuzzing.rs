//! Runs fuzz targets as plain tests: over the inputs kept for each, and over inputs made from them.
//!
//! A target is a function of bytes that panics when a promise is broken; it stands beside the decoder it looks at, in
//! the module `fuzzing` of its crate. libFuzzer runs the same functions (`cargo xtask fuzz`); here the inputs are those
//! of `tests/corpus/<target>/` and a fixed number of mutations of them, the same in every run.
//!
//! Every run of a target is held to a bound on the heap it takes, so that a length that is believed before it is checked
//! shows. Only the memory of the thread that runs the target is counted, and all of it: what the target itself makes to
//! compare with, too. So a bound says that memory does not follow from a number in the input, not how little is needed.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Name, function, and the most bytes of heap that a run may take at once: a fixed number, and more per byte of input.
pub type Target = (&'static str, fn(&[u8]), [usize; 2]);

/// The longest input that is made.
const LENGTH_MAX: usize = 64 << 10;

/// After so long with one input, a target hangs.
const HANG: Duration = Duration::from_secs(120);

/// Runs a target on one input.
///
/// # Panics
/// When a promise is broken, the bound on memory included.
pub fn run(target: &Target, input: &[u8]) {
    let (name, function, [fixed, per_byte]) = target;
    let info = allocation_counter::measure(|| function(input));
    let bound = per_byte.saturating_mul(input.len()).saturating_add(*fixed);
    let found = info.bytes_max;
    assert!(
        usize::try_from(found).is_ok_and(|found| found <= bound),
        "{name}: expected at most {bound} bytes of heap at once for {} bytes of input, found {found}",
        input.len()
    );
}

/// Runs every target on its kept inputs and on as many more, made from them, as `made` says for its name. `package` is
/// the folder of the crate.
///
/// # Panics
/// When a promise is broken (the input is printed), a target hangs, or the folders of the corpus are not those of the
/// targets.
pub fn run_all(package: &str, targets: &[Target], made: impl Fn(&str) -> usize) {
    let corpus = Path::new(package).join("tests/corpus");
    let names: BTreeSet<String> = targets.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(entries(&corpus), names, "each target has a folder of inputs, and each folder a target");
    for target in targets {
        let folder = corpus.join(target.0);
        let kept: Vec<_> = entries(&folder)
            .into_iter()
            .map(|name| fs::read(folder.join(&name)).map(|bytes| (name, bytes)).unwrap())
            .collect();
        assert!(!kept.is_empty(), "no input in {}", folder.display());
        watched(*target, kept, made(target.0));
    }
}

fn entries(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Runs the target on a thread of its own, so that a hang is noticed and a stack has the size that threads have.
fn watched(target: Target, kept: Vec<(String, Vec<u8>)>, made: usize) {
    let (sender, receiver) = channel();
    let (done, wait) = channel();
    let runner = thread::spawn(move || {
        for (name, input) in &kept {
            sender.send(name.clone()).unwrap();
            run_named(&target, name, input);
        }
        let mut random = Random::new(target.0);
        for number in 0..made {
            let input = mutated(&mut random, &kept);
            sender.send(format!("made input {number}: {}", input.escape_ascii())).unwrap();
            run_named(&target, &format!("made input {number}"), &input);
        }
        done.send(()).unwrap();
    });
    let mut last = String::new();
    loop {
        match receiver.recv_timeout(HANG) {
            Ok(name) => last = name,
            Err(RecvTimeoutError::Timeout) => panic!("{} hangs on {last}", target.0),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let finished = wait.recv();
    if let Err(payload) = runner.join() {
        std::panic::resume_unwind(payload);
    }
    assert!(finished.is_ok(), "{} ran to its end", target.0);
}

fn run_named(target: &Target, name: &str, input: &[u8]) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| run(target, input))) {
        let at = thread::current().id();
        panic!("{at:?}: {} fails on {name}: b\"{}\"\n{}", target.0, input.escape_ascii(), message(&*payload));
    }
}

fn message(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}

/// SplitMix64: the same numbers on every machine.
struct Random(u64);

impl Random {
    /// Seeded by a name, so that targets differ.
    fn new(name: &str) -> Self {
        Self(
            name.bytes()
                .fold(0x4B53_2026, |seed: u64, byte| seed.wrapping_mul(0x0100_0193) ^ u64::from(byte)),
        )
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when that is 0.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap().max(1);
        usize::try_from(self.next() % bound).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Numbers at the edges of what fields hold.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFF_FFFF,
    0xFFFF_FFFF,
    1 << 32,
    i64::MAX.cast_unsigned(),
    u64::MAX - 1,
    u64::MAX,
];

/// A kept input with a few changes, or noise.
fn mutated(random: &mut Random, kept: &[(String, Vec<u8>)]) -> Vec<u8> {
    if random.below(16) == 0 {
        let len = random.below(512);
        return (0..len).map(|_| random.byte()).collect();
    }
    let mut bytes = kept[random.below(kept.len())].1.clone();
    for _ in 0..=random.below(4) {
        change(random, &mut bytes, kept);
    }
    bytes.truncate(LENGTH_MAX);
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, kept: &[(String, Vec<u8>)]) {
    let at = random.below(bytes.len());
    let len = random.below(bytes.len().saturating_sub(at).min(64));
    match random.below(8) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        1 if !bytes.is_empty() => bytes[at] = random.byte(),
        2 => {
            let (edge, width) = (EDGES[random.below(EDGES.len())], [1, 2, 4, 8][random.below(4)]);
            let field =
                if random.below(2) == 0 { edge.to_le_bytes() } else { edge.rotate_left(32).to_be_bytes() };
            for (to, from) in bytes.iter_mut().skip(at).zip(field.iter().take(width)) {
                *to = *from;
            }
        }
        3 => drop(bytes.drain(at..at.saturating_add(len))),
        4 => bytes.truncate(at),
        5 => {
            let part = bytes[at..at.saturating_add(len)].to_vec();
            bytes.splice(at..at, part);
        }
        6 => {
            let noise: Vec<u8> = (0..random.below(16)).map(|_| random.byte()).collect();
            bytes.splice(at..at, noise);
        }
        _ => {
            let other = &kept[random.below(kept.len())].1;
            let from = random.below(other.len());
            bytes.truncate(at);
            bytes.extend(&other[from..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of inputs for one target.
    fn package(name: &str, inputs: &[&[u8]]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let corpus = folder.path().join("tests/corpus").join(name);
        fs::create_dir_all(&corpus).unwrap();
        for (number, input) in inputs.iter().enumerate() {
            fs::write(corpus.join(number.to_string()), input).unwrap();
        }
        folder
    }

    fn fails(targets: &[Target], inputs: &[&[u8]], made: usize) -> Option<String> {
        let folder = package("target", inputs);
        let run = || run_all(folder.path().to_str().unwrap(), targets, |_| made);
        let payload = catch_unwind(AssertUnwindSafe(run)).err()?;
        Some(message(&*payload).to_owned())
    }

    #[test]
    fn a_broken_promise_is_found_in_kept_and_in_made_inputs() {
        let picky: fn(&[u8]) = |input| assert!(!input.starts_with(b"b"), "no b");
        assert_eq!(fails(&[("target", picky, [0, 0])], &[b"a"], 0), None);
        let found = fails(&[("target", picky, [0, 0])], &[b"a", b"b"], 0).unwrap();
        assert!(found.contains("target fails on 1: b\"b\"\nno b"), "{found}");
        let found = fails(&[("target", picky, [0, 0])], &[b"a", b"xb"], 10_000).unwrap();
        assert!(found.contains("target fails on made input"), "{found}");
    }

    #[test]
    fn memory_that_follows_from_a_number_in_the_input_is_found() {
        let trusting: fn(&[u8]) = |input| {
            let len = input.first().map_or(0, |len| usize::from(*len) << 16);
            assert_eq!(std::hint::black_box(vec![1_u8; len]).len(), len);
        };
        assert_eq!(fails(&[("target", trusting, [1 << 16, 4])], &[b"\x01"], 0), None);
        let found = fails(&[("target", trusting, [1 << 16, 4])], &[b"\xFF"], 0).unwrap();
        assert!(found.contains("expected at most 65540 bytes of heap"), "{found}");
    }

    #[test]
    fn a_target_without_inputs_and_inputs_without_a_target_are_found() {
        let any: fn(&[u8]) = |_| {};
        assert!(fails(&[("target", any, [0, 0])], &[], 0).unwrap().contains("no input in"));
        assert!(fails(&[("other", any, [0, 0])], &[b""], 0).unwrap().contains("each folder a target"));
    }

    #[test]
    fn made_inputs_are_many_and_the_same_each_time() {
        let kept = vec![("a".to_owned(), b"some bytes to begin with".to_vec()), ("b".to_owned(), Vec::new())];
        let make = || {
            let mut random = Random::new("name");
            (0..2_000).map(|_| mutated(&mut random, &kept)).collect::<Vec<_>>()
        };
        let made = make();
        assert_eq!(made, make());
        assert!(made.iter().collect::<BTreeSet<_>>().len() > 1_000);
    }
}
