//! The audit finds each kind of contradiction, and runs beside commits.

use keepstone_pager::{AuditFinding, PageError};
use keepstone_types::PageId;

use crate::support::*;

#[test]
fn each_contradiction_is_a_finding() {
    let (_disk, file) = create();
    let pages = commit(&file, 0..6);
    commit_freeing(&file, &pages[5..]);
    assert_sound(&file, &pages[..5]);
    let orphan = audit(&file, &pages[..4]);
    assert_eq!(orphan.findings, [AuditFinding::Orphan(pages[4].page)]);
    let lost = audit(&file, &pages);
    assert_eq!(lost.findings, [AuditFinding::Lost(pages[5].page)]);
    let twice = audit(&file, &[&pages[..5], &pages[..1]].concat());
    assert_eq!(twice.findings, [AuditFinding::ReachedTwice(pages[0].page)]);
    let own = PageId::new(2).unwrap();
    let outside = PageId::new(1 << 30).unwrap();
    let report = file
        .audit::<PageError>(|audit| {
            assert!(!audit.mark(keepstone_types::PageRef { page: own, ..pages[0] }));
            assert!(!audit.mark(keepstone_types::PageRef { page: outside, ..pages[0] }));
            mark(audit, &pages[..5])
        })
        .unwrap();
    assert_eq!(report.findings, [AuditFinding::ReachedTwice(own), AuditFinding::BehindEnd(outside)]);
    assert_eq!(report.reachable, 6 + 5 + 2);
}

#[test]
fn commits_go_on_beside_an_audit() {
    let (_disk, file) = create();
    let pages = commit(&file, 0..30);
    let report = file
        .audit::<PageError>(|audit| {
            commit_freeing(&file, &pages);
            for round in 0..10 {
                commit(&file, round * 30..round * 30 + 30);
            }
            assert_eq!(audit.root().generation(), pages[0].birth);
            mark(audit, &pages)
        })
        .unwrap();
    assert_eq!(report.findings, [], "it is the root of its beginning that is audited");
}

#[test]
fn findings_are_counted_beyond_what_a_report_keeps() {
    let (_disk, file) = create();
    commit(&file, 0..1_500);
    let report = audit(&file, &[]);
    assert_eq!((report.findings.len(), report.finding_count), (1_000, 1_500));
}

#[test]
fn what_walks_may_fail_with_its_own_error() {
    #[derive(Debug)]
    struct Mine(String);
    impl From<PageError> for Mine {
        fn from(error: PageError) -> Self {
            Self(error.to_string())
        }
    }
    let (_disk, file) = create();
    let failed = file.audit(|_| Err(Mine("unreadable".to_owned())));
    assert_eq!(failed.unwrap_err().0, "unreadable");
    let failed = file.rebuild_free_space(|_| Err(Mine("unreadable".to_owned())));
    assert_eq!(failed.unwrap_err().0, "unreadable");
    assert_eq!(file.root().generation().get(), 1, "and nothing was committed");
    assert_sound(&file, &commit(&file, 0..1));
}
