//! Pages of the ledger, from the file and from what waits to be written.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use manager::{HistoryQuery, ports::Archive};
use proptest::prelude::*;
use protocol::{EventKind, LedgerEvent, Method, RamReturn, Reason, Receipt, Time, Verdict};

use super::{event, file, ids, wanted, write};
use crate::{History, events};

fn receipt(id: u64) -> Receipt {
    Receipt {
        id,
        model: "a".parse().unwrap(),
        pid: Some(7),
        reason: Reason::Idle,
        asked_by: "idle timer".to_owned(),
        at: Time::from_unix_ms(5),
        duration_ms: 9,
        method: Method::Exit,
        ram: RamReturn { held_bytes: 9, returned_bytes: 8, residual_bytes: 1 },
        gpus: vec![],
        verdict: Verdict::Residual,
        cut_off_requests: 1,
        left: vec!["process 9 keeps it".to_owned()],
        evidence: None,
        server_bytes: None,
    }
}

/// All pages behind one another.
async fn all(history: &History, mut wanted: HistoryQuery) -> Vec<LedgerEvent> {
    let mut found = Vec::new();
    loop {
        let page = history.page(&wanted).await.unwrap();
        assert!(page.events.len() <= wanted.limit as usize);
        found.extend(page.events);
        wanted.after = page.next;
        if page.next.is_none() {
            return found;
        }
    }
}

#[tokio::test]
async fn an_event_can_be_read_at_once_and_after_a_restart_and_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let opened = History::open(folder.path(), 1_000).unwrap();
    assert_eq!((opened.first_event, opened.cut_off, opened.since_start.len()), (1, false, 0));
    let proof = LedgerEvent { receipt: Some(receipt(1)), ..event(1, 10, EventKind::Unload, Some("a")) };
    let bare = LedgerEvent { duration_ms: None, bytes_after: None, ..event(2, 20, EventKind::Server, None) };
    for event in [&proof, &bare] {
        opened.history.keep(&Arc::new(event.clone()));
    }
    let both = [bare, proof];
    assert_eq!(opened.history.page(&wanted(9)).await.unwrap().events, both, "before it is written");
    opened.history.close().await;
    assert_eq!(opened.history.page(&wanted(9)).await.unwrap().events, both, "once it is written");
    let again = History::open(folder.path(), 2_000).unwrap();
    assert_eq!(again.history.page(&wanted(9)).await.unwrap().events, both, "after a restart");
    assert_eq!((again.first_event, again.cut_off), (3, false));
    again.history.close().await;
}

#[tokio::test]
async fn pages_follow_one_another_over_a_restart_without_gap_or_overlap() {
    let folder = tempfile::tempdir().unwrap();
    for run in 0..3 {
        let opened = History::open(folder.path(), 1_000).unwrap();
        assert_eq!(opened.first_event, run * 10 + 1);
        for id in opened.first_event..opened.first_event + 10 {
            opened.history.keep(&Arc::new(event(id, 0, EventKind::Load, Some("a"))));
        }
        let newest_first: Vec<u64> = (1..=run * 10 + 10).rev().collect();
        // Some wait to be written, the rest is in the file.
        assert_eq!(ids(&all(&opened.history, wanted(7)).await), newest_first);
        opened.history.close().await;
    }
}

#[tokio::test]
async fn the_events_since_the_last_start_are_told_at_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let opened = History::open(folder.path(), 1_000).unwrap();
    let start =
        |id| LedgerEvent { reason: manager::STARTED.to_owned(), ..event(id, 5, EventKind::Server, None) };
    for event in
        [start(1), event(2, 6, EventKind::Load, Some("a")), start(3), event(4, 7, EventKind::Load, Some("b"))]
    {
        opened.history.keep(&Arc::new(event));
    }
    opened.history.close().await;
    let again = History::open(folder.path(), 2_000).unwrap();
    assert_eq!(ids(&again.since_start), [3, 4]);
    again.history.close().await;
}

fn kind() -> impl Strategy<Value = EventKind> {
    prop::sample::select(vec![EventKind::Load, EventKind::Unload, EventKind::Evict, EventKind::Settings])
}

fn model() -> impl Strategy<Value = Option<&'static str>> {
    prop::sample::select(vec![None, Some("a"), Some("b")])
}

/// A million rows, as a year of a busy server has them. The best of a few readings counts: what else the machine does is no
/// property of the file.
#[test]
#[expect(clippy::disallowed_methods, reason = "it measures real time")]
fn a_page_of_a_years_history_is_read_within_fifty_milliseconds() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = file(folder.path());
    let fill = file.transaction().unwrap();
    fill.execute_batch(
        "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 1000000)
         INSERT INTO event SELECT id, id * 31536,
             CASE WHEN id % 97 = 0 THEN 'crash' WHEN id % 2 = 0 THEN 'load' ELSE 'unload' END,
             'model-' || (id % 20), '{\"reason\":\"request\",\"asked_by\":\"api 127.0.0.1\",\"duration_ms\":12}' FROM n",
    )
    .unwrap();
    fill.commit().unwrap();
    let year_ms = 1_000_000 * 31_536;
    let model = "model-3".parse().ok();
    let day =
        HistoryQuery { since_ms: Some(year_ms / 2), until_ms: Some(year_ms / 2 + 86_400_000), ..wanted(100) };
    for (what, query) in [
        ("the newest", wanted(100)),
        ("the middle", HistoryQuery { after: Some(500_000), ..wanted(100) }),
        ("one model", HistoryQuery { model: model.clone(), ..wanted(100) }),
        ("one kind", HistoryQuery { kind: Some(EventKind::Crash), ..wanted(100) }),
        (
            "one kind of one model",
            HistoryQuery { kind: Some(EventKind::Crash), model: model.clone(), ..wanted(100) },
        ),
        ("what is not there", HistoryQuery { kind: Some(EventKind::Evict), model, ..wanted(100) }),
        ("a day half a year ago", day.clone()),
        ("the crashes of that day", HistoryQuery { kind: Some(EventKind::Crash), ..day }),
        ("the first minute", HistoryQuery { until_ms: Some(60_000), ..wanted(100) }),
    ] {
        let read = || {
            let begun = Instant::now();
            let found = events::page(&file, &query, query.limit).unwrap().len();
            (begun.elapsed(), found)
        };
        let (least, found) = (0..5).map(|_| read()).min().unwrap();
        println!("{what}: {found} events in {least:?}");
        assert!(least < Duration::from_millis(50), "{what}: {least:?}");
        assert_eq!(found > 0, what != "what is not there", "{what}");
    }
    let begun = Instant::now();
    let standing = events::since(&file, 0, 10_000).unwrap();
    println!("what a start replays: {} events in {:?}", standing.len(), begun.elapsed());
    assert_eq!(manager::replay(&standing).len(), 10, "every second model ended with a load");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The wall clock may be set forward and back as it likes.
    #[test]
    fn a_filter_in_the_file_finds_what_it_finds_in_memory(
        written in prop::collection::vec((kind(), model(), -50_i64..100), 0..60),
        of_kind in prop::option::of(kind()),
        of_model in model(),
        since_ms in prop::option::of(-200_i64..1500),
        until_ms in prop::option::of(-200_i64..1500),
        after in prop::option::of(0_u64..70),
        limit in 1_u32..30,
    ) {
        let mut at_ms = 0;
        let events: Vec<LedgerEvent> = (1..).zip(written).map(|(id, (kind, model, step))| {
            at_ms += step;
            event(id, at_ms, kind, model)
        }).collect();
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path());
        write(&file, &events);
        let wanted = HistoryQuery {
            model: of_model.map(|model| model.parse().unwrap()), kind: of_kind, since_ms, until_ms, limit, after,
        };
        let found = events::page(&file, &wanted, limit).unwrap();
        let fitting: Vec<LedgerEvent> =
            events.iter().rev().filter(|event| wanted.fits(event)).take(limit as usize).cloned().collect();
        prop_assert_eq!(&found, &fitting);
        // What is read back at a start tells the same story, however little of it is read.
        for most in [0, 2, 1000] {
            let some = events::since(&file, 0, most).unwrap();
            prop_assert!(some.is_sorted_by_key(|event| event.id));
            prop_assert_eq!(manager::replay(&some), manager::replay(&events));
        }
    }
}
