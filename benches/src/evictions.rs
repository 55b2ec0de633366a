//! What it costs to make room for a page in a full cache, read by read: no read pays for a sweep.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use keepstone_pager::{PageFile, PageFileOptions, PageKind, PageRead as _, PageWriteExt as _};
use keepstone_types::{PageRef, StoreId};
use keepstone_vfs::{OsVfs, Vfs};

use crate::harness::{BenchError, Bound, Report, percentile};
use crate::workload::scramble;

/// Pages of the file: sixteen times what the cache holds.
const PAGES: u64 = 8_192;
const CACHE_BYTES: u64 = 4 << 20;
/// Evictions that are timed.
const EVICTIONS: usize = 50_000;

/// A file whose pages are all in the operating system's memory.
fn fill(dir: &Path, name: &str, cache_bytes: u64) -> Result<(PageFile, Vec<PageRef>), BenchError> {
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs::new());
    let options = PageFileOptions::default().cache_bytes(cache_bytes);
    let file = PageFile::create(vfs, &dir.join(name), StoreId::from_bytes([7; 16]), options)?;
    let mut writer = file.begin()?;
    let mut payload = vec![0_u8; file.payload_len()];
    let pages = (0..PAGES)
        .map(|number| {
            for (place, chunk) in (number..).zip(payload.chunks_exact_mut(8)) {
                chunk.copy_from_slice(&scramble(place).to_le_bytes());
            }
            writer.put(PageKind::FIRST_FREE, &payload)
        })
        .collect::<Result<_, _>>()?;
    writer.commit(&[])?;
    Ok((file, pages))
}

/// Times reads of random pages, in microseconds, sorted: those that evict exactly one page, or all when nothing is cached.
fn read(file: &PageFile, pages: &[PageRef], is_cached: bool) -> Result<Vec<f64>, BenchError> {
    let mut times = Vec::with_capacity(EVICTIONS);
    let mut at = scramble(0);
    while times.len() < EVICTIONS {
        at = scramble(at);
        let page = pages.get(usize::try_from(at % PAGES)?).copied().ok_or("a page is missing")?;
        let before = file.stats().cache_evictions;
        let start = Instant::now();
        black_box(file.read(page)?);
        let time = start.elapsed().as_secs_f64() * 1e6;
        if !is_cached || file.stats().cache_evictions == before + 1 {
            times.push(time);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Reads in turn with a small cache and with none; the first must have no tail of its own.
pub(crate) fn churn(report: &mut Report) -> Result<(), BenchError> {
    let dir = tempfile::tempdir_in(".")?;
    let (cached, pages) = fill(dir.path(), "cached", CACHE_BYTES)?;
    let (bare, bare_pages) = fill(dir.path(), "bare", 0)?;
    read(&bare, &bare_pages, false)?;
    let (evicting, plain) = (read(&cached, &pages, true)?, read(&bare, &bare_pages, false)?);
    for (name, times) in [("evicts a page", &evicting), ("caches nothing", &plain)] {
        let [median, high, max] = [0.5, 0.999, 1.0].map(|part| percentile(times, part));
        println!(
            "  a read that {name}: median {median:.2} µs, p99.9 {high:.2} µs, max {max:.0} µs, of {}",
            times.len()
        );
    }
    let tail = percentile(&evicting, 0.999) / percentile(&evicting, 0.5);
    report.ratio("p99.9 ÷ median of a read that evicts a page", tail, Bound::AtMost(10.0));
    let cost = percentile(&evicting, 0.5) / percentile(&plain, 0.5);
    report.ratio("a read that evicts a page ÷ one that caches nothing", cost, Bound::Printed);
    Ok(())
}
