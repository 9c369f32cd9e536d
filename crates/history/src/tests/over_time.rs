//! Measurements that grow coarser with age, and what is counted from them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use protocol::{Amount, EventKind};

use super::{event, file, ids, write};
use crate::{
    Columns, Measurement, RequestRow, SeriesQuery, events,
    measured::{self, best_rows, points},
    performance, requests,
};

const GIB: u64 = 1 << 30;
const DAY_S: i64 = 86_400;

fn measurement(at_s: i64, free: i64, held: Option<u64>) -> Measurement {
    Measurement {
        at_ms: at_s * 1000 + 7,
        books: BTreeMap::from([("ram".to_owned(), Columns { free, ..Columns::default() })]),
        models: held.map(|bytes| ("a".parse().unwrap(), bytes)).into_iter().collect(),
        cpu_percent: Some(50.0),
    }
}

fn query(series: &str, since_s: i64, until_s: i64, step_s: i64) -> SeriesQuery {
    SeriesQuery { series: series.to_owned(), since_s, until_s, step_s }
}

fn read(file: &rusqlite::Connection, wanted: &SeriesQuery) -> Vec<(i64, f64)> {
    let rows = best_rows(file, wanted.since_s, wanted.until_s, wanted.step()).unwrap();
    let name = if wanted.series == "models" { "a" } else { "free_bytes" };
    let points = points(rows, wanted);
    points.iter().map(|p| (p.at.unix_ms() / 1000, p.values.get(name).map_or(0.0, |Amount(v)| *v))).collect()
}

#[test]
fn seconds_stay_an_hour_minutes_a_week_hours_a_year() {
    let folder = tempfile::tempdir().unwrap();
    let file = file(folder.path());
    file.execute_batch("BEGIN").unwrap();
    // Ten days, one measurement each ten seconds, thinned each hour as a slow writer would.
    let end = 10 * DAY_S;
    for at in (0..=end).step_by(10) {
        measured::write(&file, &measurement(at, at, None)).unwrap();
        if at % 3600 == 0 {
            measured::thin(&file, at).unwrap();
        }
    }
    file.execute_batch("COMMIT").unwrap();
    let count = |step: i64| -> i64 {
        file.query_row("SELECT count(*) FROM measured WHERE step_s = ?1", [step], |row| row.get(0)).unwrap()
    };
    assert_eq!((count(1), count(60), count(3600)), (361, 7 * 24 * 60, 240));
    // A row is the mean of its span: of an hour that begins at t, with a value each ten seconds.
    let old = read(&file, &query("ram", 0, 3 * 3600, 3600));
    assert_eq!(old[..3], [(0, 1795.0), (3600, 5395.0), (7200, 8995.0)]);
    let fine = read(&file, &query("ram", end - 60, end, 10));
    assert_eq!(fine.len(), 7);
    assert_eq!(fine[0], (end - 60, (end - 60) as f64));
    // The whole time in steps of an hour: no hole, nothing twice.
    let whole = read(&file, &query("ram", 0, end, 3600));
    assert_eq!(whole.iter().map(|(at, _)| at / 3600).collect::<Vec<_>>(), (0..=240).collect::<Vec<_>>());
}

#[test]
fn events_stay_a_year_and_one_of_a_clock_that_was_wrong_stays_with_its_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let file = file(folder.path());
    let day = |number: i64| number * DAY_S * 1000;
    // The third was written while the clock stood twenty years back, the fourth while it stood ten years ahead.
    let times = [day(7_000), day(7_300), day(1), day(10_950), day(7_301)];
    let events: Vec<_> =
        (1..).zip(times).map(|(id, at_ms)| event(id, at_ms, EventKind::Unload, Some("a"))).collect();
    write(&file, &events);
    let left = |now_ms: i64| {
        events::thin(&file, now_ms).unwrap();
        ids(&events::since(&file, 0, 10).unwrap())
    };
    assert_eq!(left(day(7_302)), [1, 2, 3, 4, 5], "the first is 302 days old");
    assert_eq!(left(day(7_367)), [2, 3, 4, 5]);
    assert_eq!(
        left(day(7_667)),
        [4, 5],
        "what stands before the youngest that is old enough has gone with it"
    );
}

#[test]
fn what_a_killed_server_left_unthinned_is_made_up_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = file(folder.path());
    (0..300).for_each(|at| measured::write(&file, &measurement(at, 8, Some(GIB))).unwrap());
    // Nobody thinned for two days.
    measured::thin(&file, 2 * DAY_S).unwrap();
    assert_eq!(read(&file, &query("models", 0, 2 * DAY_S, 3600)), [(0, GIB as f64)]);
    assert_eq!(read(&file, &query("ram", 0, 600, 60)).len(), 5);
}

#[test]
fn a_model_that_was_not_loaded_held_nothing_and_an_unknown_share_counts_for_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let file = file(folder.path());
    for at in 0..60 {
        let held = (at < 15).then_some(GIB);
        let cpu_percent = (at < 15).then_some(40.0);
        measured::write(&file, &Measurement { cpu_percent, ..measurement(at, 8, held) }).unwrap();
    }
    assert_eq!(read(&file, &query("models", 0, 59, 60)), [(0, GIB as f64 / 4.0)]);
    let rows = best_rows(&file, 0, 59, 60).unwrap();
    let cpu = points(rows, &query("cpu", 0, 59, 60));
    assert_eq!(cpu[0].values["cpu_percent"], Amount(40.0));
}

#[test]
fn an_answer_stays_within_bounds_whatever_is_asked() {
    let wanted = query("ram", 0, 366 * DAY_S, 1);
    assert!((366 * DAY_S) / wanted.step() <= 2000);
    assert_eq!(query("ram", 0, 1000, 5).step(), 5);
    assert_eq!(query("ram", 10, 0, 0).step(), 1);
    assert!(query("ram", i64::MIN, i64::MAX, 7).step() % 7 == 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// However seconds are spread over time and whenever they are thinned, the memory times time stays the same.
    #[test]
    fn thinning_keeps_what_was_held(
        pauses in prop::collection::vec((1_i64..400, 0_u64..1000, any::<bool>()), 1..80),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path());
        let (mut at, mut sum) = (0, 0);
        for (pause, mib, thin) in pauses {
            at += pause;
            measured::write(&file, &measurement(at, 1, Some(mib << 20))).unwrap();
            sum += mib << 20;
            if thin {
                measured::thin(&file, at).unwrap();
            }
        }
        measured::thin(&file, at).unwrap();
        for step in [1, 60, 3600] {
            let rows = best_rows(&file, 0, at, step).unwrap();
            prop_assert!(rows.windows(2).all(|pair| pair[0].at_s < pair[1].at_s));
            let held: u64 = rows.iter().map(|row| {
                row.measured.models.values().sum::<u64>() * row.samples.unsigned_abs()
            }).sum();
            // Means are whole bytes.
            prop_assert!(held.abs_diff(sum) < 20_000, "{} for {} in steps of {}", held, sum, step);
        }
    }
}

fn request(at_ms: i64, ttft_ms: u64, outcome: &'static str) -> RequestRow {
    RequestRow {
        at_ms,
        model: "a".parse().unwrap(),
        outcome,
        queue_ms: Some(ttft_ms / 2),
        load_ms: None,
        ttft_ms: Some(ttft_ms),
        duration_ms: 500,
        prompt_tokens: 10,
        cached_tokens: 4,
        completion_tokens: 20,
        tokens_per_second: Some(50.0),
    }
}

#[test]
fn performance_is_counted_by_window_from_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = file(folder.path());
    let now_ms = 100 * DAY_S * 1000;
    for at in 0..100 {
        requests::write(&file, &request(now_ms - 1000 - at, 1 + at.unsigned_abs(), "done")).unwrap();
    }
    requests::write(&file, &request(now_ms - 1_800_000, 900, "worker_died")).unwrap();
    requests::write(&file, &request(now_ms - 2 * DAY_S * 1000, 900, "done")).unwrap();
    write(
        &file,
        &[
            event(4, now_ms - 7000, EventKind::Load, Some("a")),
            event(6, now_ms - 5000, EventKind::Load, Some("a")),
        ],
    );
    // A GiB for two minutes.
    for second in 0..120 {
        measured::write(&file, &measurement(now_ms / 1000 - 200 + second, 1, Some(GIB))).unwrap();
    }
    let told = performance::performance(&file, now_ms).unwrap();
    assert_eq!(told.models.len(), 1);
    let [five, hour, day] = told.models[0].windows.as_slice() else { panic!("three windows") };
    assert_eq!((five.window.as_str(), five.requests, five.failed), ("5m", 100, 0));
    assert_eq!((hour.requests, hour.failed, day.requests), (101, 1, 101));
    assert_eq!((five.requests_per_hour, hour.requests_per_hour), (1200.0, 101.0));
    let ttft = five.time_to_first_token_ms.unwrap();
    assert_eq!((ttft.count, ttft.p50, ttft.p95, ttft.p99), (100, 50.0, 95.0, 99.0));
    let load = day.load_ms.unwrap();
    assert_eq!((load.count, load.p50, load.p99), (2, 40.0, 60.0));
    assert_eq!((five.prompt_tokens, five.completion_tokens), (1000, 2000));
    for window in [five, hour, day] {
        assert!((window.gib_hours - 120.0 / 3600.0).abs() < 1e-6, "{window:?}");
    }
}
