//! scrub, and check --repair, on stores whose pages were damaged.

use std::fs;

use crate::support::{Cli, json};

const PAGE_BYTES: usize = 8_192;
const GROUPS: usize = 32;
/// What a parity page has in byte 14.
const PARITY_KIND: u8 = 3;

/// A closed store with some hundred pages, all folded.
fn store(parity: &str) -> Cli {
    let cli = Cli::without_store();
    cli.ok(["init", "--parity", parity]);
    let lines: String = (0..3_000)
        .map(|number| format!("{{\"key\":\"node-{number:05}\",\"body\":\"{}\"}}\n", "x".repeat(300)))
        .collect();
    let file = cli.dir().with_extension("jsonl");
    fs::write(&file, lines).unwrap();
    cli.ok(["import", file.to_str().unwrap()]);
    cli.ok(["compact"]);
    cli
}

/// Flips a bit in pages with content: one in each of so many groups, or two in one.
fn damage(cli: &Cli, groups: usize, in_each: usize) -> usize {
    let path = cli.dir().join("pages");
    let mut bytes = fs::read(&path).unwrap();
    let mut flipped = 0;
    for group in 0..groups {
        let slots = (group..bytes.len() / PAGE_BYTES).step_by(GROUPS);
        let with_content: Vec<_> =
            slots.filter(|slot| bytes[slot * PAGE_BYTES + 14] >= 16).take(in_each).collect();
        for slot in with_content {
            bytes[slot * PAGE_BYTES + 1_000] ^= 4;
            flipped += 1;
        }
    }
    fs::write(&path, bytes).unwrap();
    flipped
}

#[test]
fn a_scrub_finds_and_rebuilds_a_page_in_each_group() {
    let cli = store("xor");
    let before = cli.ok(["export"]);
    assert!(cli.ok(["scrub"]).contains("0 things are wrong"));
    let flipped = damage(&cli, 20, 1);
    assert!(flipped >= 10, "{flipped}");
    let message = cli.fails(3, ["scrub", "--dry-run"]);
    assert!(message.contains("scrub") && message.contains("page"), "{message}");
    let found = json(&cli.ok(["scrub", "--json"]));
    // Some of the pages may have been free.
    let count = usize::try_from(found["finding_count"].as_u64().unwrap()).unwrap();
    assert!((8..=flipped).contains(&count), "{flipped} of {found}");
    assert_eq!(found["repaired"], found["finding_count"], "{found}");
    assert_eq!((&found["unrepairable"], &found["complete"]), (&0.into(), &true.into()), "{found}");
    assert!(cli.ok(["scrub", "--dry-run"]).contains("0 things are wrong"));
    assert_eq!(cli.ok(["export"]), before);
}

#[test]
fn check_repairs_what_parity_can_rebuild() {
    let cli = store("xor");
    let before = cli.ok(["export"]);
    let flipped = damage(&cli, 10, 1);
    assert!(flipped >= 4, "{flipped}");
    let said = cli.ok(["check", "--repair"]);
    assert!(said.contains("pages were rebuilt from their parity") && said.contains("no damage"), "{said}");
    assert!(cli.ok(["scrub", "--dry-run"]).contains("0 things are wrong"));
    assert_eq!(cli.ok(["export"]), before);
}

#[test]
fn a_check_adds_up_every_group_and_finds_what_no_reader_needs() {
    let cli = store("xor");
    let sound = json(&cli.ok(["check", "--json"]));
    assert!(sound["parity_groups"].as_u64().unwrap() >= 10, "{sound}");
    let path = cli.dir().join("pages");
    let mut bytes = fs::read(&path).unwrap();
    let is_parity = |slot: &usize| bytes[slot * PAGE_BYTES + 14] == PARITY_KIND;
    // All but the prologue and the headers.
    let slot = (3..61).chain(64..bytes.len() / PAGE_BYTES).find(is_parity).unwrap();
    bytes[slot * PAGE_BYTES + 2_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let message = cli.fails(3, ["check"]);
    assert!(message.contains("parity") && message.contains("check --repair"), "{message}");
    assert!(cli.ok(["check", "--repair"]).contains("no damage"));
    assert_eq!(json(&cli.ok(["check", "--json"]))["parity_groups"], sound["parity_groups"]);
    assert_eq!(json(&cli_without_parity().ok(["check", "--json"]))["parity_groups"], 0);
}

fn cli_without_parity() -> Cli {
    let cli = Cli::without_store();
    cli.ok(["init", "--parity", "off"]);
    cli
}

#[test]
fn two_losses_in_a_group_are_named_and_nothing_is_guessed() {
    let cli = store("xor");
    assert_eq!(damage(&cli, 1, 2), 2);
    let pages = fs::read(cli.dir().join("pages")).unwrap();
    let message = cli.fails(3, ["scrub"]);
    assert!(message.matches("page ").count() >= 2 && message.contains("restore a copy"), "{message}");
    let after = fs::read(cli.dir().join("pages")).unwrap();
    let changed = pages.chunks(PAGE_BYTES).zip(after.chunks(PAGE_BYTES)).filter(|(a, b)| a != b).count();
    assert!(changed <= 4, "{changed} slots changed, more than copies of the header");
}

#[test]
fn without_parity_damage_is_reported_until_it_is_turned_on() {
    let cli = store("off");
    let found = json(&cli.ok(["scrub", "--parity", "xor", "--json"]));
    assert_eq!(found["finding_count"], 0, "{found}");
    damage(&cli, 5, 1);
    assert_eq!(json(&cli.ok(["scrub", "--json"]))["repaired"], 5);
    cli.ok(["scrub", "--parity", "off"]);
    damage(&cli, 1, 1);
    let message = cli.fails(3, ["scrub"]);
    assert!(message.contains("no parity is kept of it"), "{message}");
}

/// Every slot of the page file in turn is damaged in five ways: what is exported is the same, byte for byte, and so it is when a
/// scrub has healed it.
#[test]
fn whichever_page_is_damaged_the_export_is_the_same() {
    const PAGE: usize = 4_096;
    let cli = Cli::without_store();
    cli.ok(["init", "--page-size", "4096"]);
    let path = cli.dir().join("pages");
    let line = |number: usize, round: usize| {
        let (next, text) = (number + 1, format!("{round} ").repeat(number % 90 + 30));
        format!(
            "{{\"key\":\"node-{number:05}\",\"body\":\"{text}\",\"links\":[{{\"verb\":\"next\",\"to\":\"node-{next:05}\"}}]}}\n"
        )
    };
    cli.feed(["import", "-"], &(0..400).map(|number| line(number, 1)).collect::<String>());
    cli.ok(["compact"]);
    let before = fs::read(&path).unwrap();
    cli.feed(["import", "-"], &(0..400).step_by(4).map(|number| line(number, 2)).collect::<String>());
    cli.ok(["checkpoint"]);
    let expected = cli.ok(["export"]);
    let sound = fs::read(&path).unwrap();
    let slots = sound.len() / PAGE;
    let page = |bytes: &[u8], slot: usize| bytes.get(slot * PAGE..(slot + 1) * PAGE).map(<[u8]>::to_vec);
    let mut damaged = [0_u64; 5];
    for slot in 0..slots {
        let (own, next) = (page(&sound, slot).unwrap(), page(&sound, (slot + 1) % slots).unwrap());
        let mut flipped = own.clone();
        flipped[slot * 37 % PAGE] ^= 1 << (slot % 8);
        let mut zeroed = own.clone();
        zeroed[slot % 8 * 512..][..512].fill(0);
        let neighbour = (slot + 1) % slots;
        let ways = [
            vec![(slot, flipped)],
            vec![(slot, zeroed)],
            vec![(slot, next.clone()), (neighbour, own.clone())],
            vec![(slot, next)],
            page(&before, slot).map(|old| vec![(slot, old)]).unwrap_or_default(),
        ];
        for (way, writes) in ways.into_iter().enumerate() {
            let mut bytes = sound.clone();
            writes.iter().for_each(|(slot, page)| bytes[slot * PAGE..][..PAGE].copy_from_slice(page));
            if bytes == sound {
                continue;
            }
            damaged[way] += 1;
            fs::write(&path, &bytes).unwrap();
            assert_eq!(cli.ok(["export"]), expected, "slot {slot}, way {way}");
            if slot % 8 == way {
                cli.ok(["scrub"]);
                assert_eq!(cli.ok(["export"]), expected, "slot {slot}, way {way}, scrubbed");
                assert!(cli.ok(["check"]).contains("no damage"), "slot {slot}, way {way}");
            }
            fs::write(&path, &sound).unwrap();
        }
    }
    println!("{damaged:?} of {slots} slots damaged in each way, and read the same");
    assert!(damaged.iter().all(|count| *count > 20), "{damaged:?}");
}
