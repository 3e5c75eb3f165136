//! The check of instruction counts (`benches/instructions.rs`) fails when it should, and only then.

#[path = "../benches/support/recorded.rs"]
mod recorded;

use recorded::{Recorded, Verdict};

/// The file that the bench compares with.
const FILE: &str = include_str!("../benches/instructions.txt");

#[test]
fn six_per_cent_more_fails_and_four_do_not() {
    let recorded = Recorded::parse(FILE);
    assert!(recorded.counts.len() >= 10, "{} workloads", recorded.counts.len());
    for (workload, count) in &recorded.counts {
        let judge = |factor: f64| recorded.judge(workload, count * factor).0;
        assert_eq!(judge(1.06), Verdict::Heavier, "{workload}");
        assert_eq!(judge(1.04), Verdict::AsRecorded, "{workload}");
        assert_eq!(judge(0.96), Verdict::AsRecorded, "{workload}");
        assert_eq!(judge(0.94), Verdict::Lighter, "{workload}");
    }
    assert_eq!(recorded.judge("nothing of this name", 1.0).0, Verdict::Unknown);
}

#[test]
fn what_is_written_is_read_back_and_another_compiler_is_told() {
    let recorded = Recorded::parse(FILE);
    assert_eq!(Recorded::parse(&recorded.text("# for people\n")), recorded);
    assert_eq!(recorded.made_differently(&recorded), Vec::<String>::new());
    let mut other = recorded.clone();
    other.made_with.insert("rustc".to_owned(), "0.1".to_owned());
    let told = recorded.made_differently(&other);
    assert!(told.len() == 1 && told[0].ends_with("here 0.1"), "{told:?}");
}
