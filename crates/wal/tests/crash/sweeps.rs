//! The sweeps of the log: each level of durability, both sector sizes, alone and below a layer.

use std::time::Instant;

use keepstone_testkit::crash::{Plan, Tally, sweep};
use keepstone_vfs::WriteMode;
use keepstone_wal::{Durability, LogOptions};

use crate::program::RELAXED;
use crate::subject::LogSubject;

pub(crate) fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().expect(name))
}

pub(crate) fn options(durability: Durability) -> LogOptions {
    LogOptions::default()
        .durability(durability)
        .segment_bytes_min(128 << 10)
        .segment_bytes_max(256 << 10)
        .side_file_threshold(24_000)
}

/// Sweeps, prints the tally and the first failure.
pub(crate) fn run(name: &str, subject: &LogSubject, plan: &Plan) {
    let began = Instant::now();
    let mut tally = Tally::default();
    let mut result = sweep(subject, plan, &mut tally);
    let of_commit = setting("KEEPSTONE_COMMIT_SEED", 0);
    if of_commit > 0 && result.is_ok() {
        println!("{name}: and the seed of the commit, {of_commit}");
        result = sweep(subject, &Plan { seed: of_commit, seeds: 1, ..*plan }, &mut tally);
    }
    println!("crash-tally {}", tally.to_json(began.elapsed().as_secs_f64()));
    println!("{name}: seeds {} to {}", plan.seed, plan.seed + plan.seeds - 1);
    if let Err(report) = result {
        panic!("{name}: {report}");
    }
}

/// The default is what fits beside all other tests; `cargo xtask crash` asks for more.
pub(crate) fn plan() -> Plan {
    Plan {
        seed: setting("KEEPSTONE_CRASH_SEED", 1),
        seeds: setting("KEEPSTONE_CRASH_SEEDS", 3),
        lives: setting("KEEPSTONE_CRASH_LIVES", 3),
        steps: setting("KEEPSTONE_CRASH_STEPS", 14),
        exhaustive: 16,
        samples: 3,
        double_every: 25,
    }
}

fn sweep_level(name: &str, durability: Durability, alone: bool, sector: u32) {
    let mut options = options(durability).sector_size(sector);
    if alone && sector == 512 {
        options = options.write_mode(WriteMode::DataSync);
    }
    run(name, &LogSubject { options, alone, faults: true, store: 5 }, &plan());
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
        let plan = Plan { steps: 4, lives: 2, exhaustive: 1_024, samples: 8, double_every: 40, ..plan() };
        run("fsync_power_loss", &subject, &plan);
    }
}
