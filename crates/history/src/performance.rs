//! How well each model answered over the last five minutes, hour and day, from what was written down.

use std::collections::BTreeMap;

use protocol::{ModelId, ModelPerformance, Performance, Spread, Time, WindowPerformance};
use rusqlite::Connection;

use crate::{
    events,
    measured::{self, Row},
    requests::{self, Told},
};

/// Each window in seconds, with the step of the measurements that its memory is summed over.
const WINDOWS: [(&str, i64, i64); 3] = [("5m", 300, 1), ("1h", 3600, 60), ("24h", 86_400, 60)];
const DAY_MS: i64 = 86_400_000;

/// A number with when it was so.
type Timed = (i64, f64);

#[derive(Default)]
struct OfModel {
    requests: Vec<Told>,
    loads: Vec<Timed>,
    /// Bytes times seconds, by window.
    held: [f64; WINDOWS.len()],
}

/// Reads and counts everything.
pub(crate) fn performance(book: &Connection, now_ms: i64) -> rusqlite::Result<Performance> {
    let mut models = BTreeMap::<ModelId, OfModel>::new();
    let since_ms = now_ms.saturating_sub(DAY_MS);
    for told in requests::since(book, since_ms)? {
        if let Ok(id) = told.model.parse() {
            models.entry(id).or_default().requests.push(told);
        }
    }
    for (model, at_ms, took_ms) in events::load_times(book, since_ms)? {
        if let Ok(id) = model.parse() {
            models.entry(id).or_default().loads.push((at_ms, took_ms as f64));
        }
    }
    let now_s = now_ms.div_euclid(1000);
    for (at, (_, span_s, step_s)) in WINDOWS.into_iter().enumerate() {
        for Row { samples, measured, .. } in measured::best_rows(book, now_s - span_s, now_s, step_s)? {
            for (model, bytes) in measured.models {
                // A sample stands for one second.
                models.entry(model).or_default().held[at] += bytes as f64 * samples as f64;
            }
        }
    }
    let models =
        models.into_iter().map(|(model, of)| ModelPerformance { model, windows: windows(&of, now_ms) });
    Ok(Performance { at: Time::from_unix_ms(now_ms), models: models.collect() })
}

fn windows(of: &OfModel, now_ms: i64) -> Vec<WindowPerformance> {
    WINDOWS
        .iter()
        .zip(of.held)
        .map(|((name, span_s, _), held)| window(of, name, *span_s, held, now_ms))
        .collect()
}

fn window(of: &OfModel, name: &str, span_s: i64, held: f64, now_ms: i64) -> WindowPerformance {
    let since_ms = now_ms.saturating_sub(span_s.saturating_mul(1000));
    let within: Vec<&Told> = of.requests.iter().filter(|told| told.at_ms >= since_ms).collect();
    let spread = |number: fn(&Told) -> Option<f64>| {
        Spread::of(within.iter().filter_map(|told| number(told)).collect())
    };
    let loads = of.loads.iter().filter(|(at_ms, _)| *at_ms >= since_ms).map(|(_, ms)| *ms).collect();
    let requests = within.len() as u64;
    WindowPerformance {
        window: name.to_owned(),
        requests,
        failed: within.iter().filter(|told| told.failed).count() as u64,
        requests_per_hour: requests as f64 * 3600.0 / span_s as f64,
        prompt_tokens: within.iter().map(|told| told.prompt_tokens).sum(),
        completion_tokens: within.iter().map(|told| told.completion_tokens).sum(),
        gib_hours: held / 3600.0 / f64::from(1 << 30),
        load_ms: Spread::of(loads),
        time_to_first_token_ms: spread(|told| told.ttft_ms),
        queue_wait_ms: spread(|told| told.queue_ms),
        tokens_per_second: spread(|told| told.tokens_per_second),
    }
}
