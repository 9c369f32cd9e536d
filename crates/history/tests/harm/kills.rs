//! kill -9.

use crate::rig::{Scribe, read_back};

/// With an event each 20 ms, fifty and some are on their way at any moment.
pub(crate) fn a_killed_writer_loses_at_most_its_last_second() {
    let folder = tempfile::tempdir().unwrap();
    let mut scribe = Scribe::start(folder.path(), 20, "");
    scribe.until("some events", |_, id| id >= 180);
    let told = scribe.kill();
    let (ids, next) = read_back(folder.path());
    let kept = ids.len() as u64;
    println!("({} of {told} events lost)", told - kept);
    assert_eq!(ids, (1..=kept).collect::<Vec<_>>(), "what is kept has no hole");
    // A second's worth, the commit itself, and a machine that is busy with other things.
    assert!(told - kept <= 100, "{} of {told} events are lost", told - kept);
    assert!(next > told, "event {next} would be given again: {told} were told");
}

pub(crate) fn a_writer_killed_at_any_moment_leaves_a_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut known = 0;
    for round in 0..12_u64 {
        let mut scribe = Scribe::start(folder.path(), 1, "");
        // Kills at moments that lie differently to its commits.
        let from = known + 5 + round * 131;
        scribe.until("its moment", |_, id| id >= from);
        scribe.kill();
        let (ids, next) = read_back(folder.path());
        assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] < pair[1]));
        let last = ids.last().copied().unwrap_or(0);
        assert!(next > last && next > known, "numbers grow: {next} after {last}");
        known = next;
    }
}
