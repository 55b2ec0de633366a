use std::sync::Arc; use std::time::*; use std::thread;
use keepstone_vfs::*; use keepstone_types::*; use keepstone_wal::*; use keepstone_testkit::slow_disk::SlowDisk;
fn rate(vfs: Arc<dyn Vfs>, threads: usize, secs: f64, opt: LogOptions) -> (f64, LogStats) {
    let d = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let log = Log::open_with(vfs, Arc::new(SystemClock::default()), &d.path().join("l"), opt, &mut |_| Ok(())).unwrap();
    for _ in 0..20 { log.append(crate::support::long_record(1,100)).unwrap(); }
    let t = Instant::now();
    let n: u64 = thread::scope(|s| (0..threads).map(|_| s.spawn(|| { let mut n=0; while t.elapsed().as_secs_f64() < secs { log.append(crate::support::long_record(1,100)).unwrap(); n+=1; } n })).collect::<Vec<_>>().into_iter().map(|h| h.join().unwrap()).sum());
    (n as f64 / t.elapsed().as_secs_f64(), log.stats())
}
#[test] fn bench() {
    let d = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let f = OsVfs::new().open(&d.path().join("b"), OpenOptions::CREATE_NEW).unwrap();
    let z = vec![0u8; 1<<20]; for i in 0..16u64 { f.write_all_at(&z, i<<20).unwrap(); f.sync_all().unwrap(); }
    let b = vec![7u8; 8192]; let t = Instant::now(); let mut n = 0u64; while t.elapsed().as_secs_f64() < 2.0 { f.write_all_at(&b, (n*8192)%(16<<20)).unwrap(); f.sync_data().unwrap(); n+=1; }
    println!("bare {:.0}/s", n as f64/t.elapsed().as_secs_f64());
    for (name, vfs) in [("os", Arc::new(OsVfs::new()) as Arc<dyn Vfs>), ("slow1ms", Arc::new(SlowDisk::new(Arc::new(OsVfs::new()), Duration::from_millis(1))))] {
        for threads in [1, 2, 16] { let (r, s) = rate(vfs.clone(), threads, 2.0, LogOptions::default());
            println!("{name} {threads}: {r:.0}/s groups {} max {} waits {} sync {:?} rot {} marks {}", s.groups, s.group_records_max, s.leader_waits, s.sync_time, s.rotations, s.marks); }
    }
    let (r, s) = rate(Arc::new(OsVfs::new()), 1, 2.0, LogOptions::default().durability(Durability::None)); println!("none 1: {r:.0}/s rot {}", s.rotations);
    let (r, s) = rate(Arc::new(OsVfs::new()), 1, 2.0, LogOptions::default().durability(Durability::Relaxed{max_commits:1000,max_delay:Duration::from_millis(10)})); println!("relaxed 1: {r:.0}/s rot {} syncs {}", s.rotations, s.syncs);
}
