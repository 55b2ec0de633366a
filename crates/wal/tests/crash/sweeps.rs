//! The sweeps of the log: each level of durability, both sector sizes, alone and below a layer.

use keepstone_testkit::crash::{Plan, run};
use keepstone_vfs::WriteMode;
use keepstone_wal::{Durability, LogOptions};

use crate::program::RELAXED;
use crate::subject::LogSubject;

pub(crate) fn options(durability: Durability) -> LogOptions {
    LogOptions::default()
        .durability(durability)
        .segment_bytes_min(128 << 10)
        .segment_bytes_max(256 << 10)
        .side_file_threshold(24_000)
}

fn sweep_level(name: &str, durability: Durability, alone: bool, sector: u32) {
    let mut options = options(durability).sector_size(sector);
    if alone && sector == 512 {
        options = options.write_mode(WriteMode::DataSync);
    }
    run(name, &LogSubject { options, alone, faults: true, store: 5 }, &Plan::from_env());
}

macro_rules! levels {
    ($($name:ident: $durability:expr, $alone:expr, $sector:expr;)*) => {
        $(
            #[test]
            fn $name() {
                sweep_level(stringify!($name), $durability, $alone, $sector);
            }
        )*
    };
}

levels! {
    normal_below: Durability::Normal, false, 4_096;
    normal_below_small_sectors: Durability::Normal, false, 512;
    normal_alone: Durability::Normal, true, 4_096;
    full_below: Durability::Full, false, 4_096;
    relaxed_below: RELAXED, false, 4_096;
    relaxed_alone: RELAXED, true, 512;
    none_below: Durability::None, false, 512;
    none_alone: Durability::None, true, 4_096;
}

/// Short programs, and every outcome of every moment up to a bound: what `fsync` promises, attacked without chance.
#[test]
fn fsync_power_loss() {
    for alone in [false, true] {
        let subject = LogSubject {
            options: options(Durability::Normal).sector_size(512),
            alone,
            faults: false,
            store: 5,
        };
        let plan =
            Plan { steps: 4, lives: 2, exhaustive: 1_024, samples: 8, double_every: 40, ..Plan::from_env() };
        run("fsync_power_loss", &subject, &plan);
    }
}

/// A process is killed between the two copies of a header; the next opening rebuilds the second from the first, which is
/// in the system's cache only, and the power fails then.
#[test]
fn a_copy_of_a_header_is_stable_before_the_other_is_written() {
    let subject = LogSubject { options: options(Durability::Full), alone: false, faults: true, store: 5 };
    let plan = Plan { seed: 1_024, seeds: 1, lives: 3, steps: 14, ..Plan::from_env() };
    run("a_copy_of_a_header_is_stable_before_the_other_is_written", &subject, &plan);
}
