//! How well models answer, in words.

use protocol::{Performance, Spread, WindowPerformance};

use super::{fixed, thousands, took};
use crate::manage::{PerformanceCell, PerformanceRow};

/// One row a model, of one window (`5m`, `1h`, `24h`).
pub fn performance(all: &Performance, window: &str) -> Vec<PerformanceRow> {
    let rows = all.models.iter().filter_map(|model| {
        let one = model.windows.iter().find(|one| one.window == window)?;
        let idle = one.requests == 0 && one.load_ms.is_none() && one.gib_hours <= 0.0;
        (!idle).then(|| PerformanceRow { model: model.model.to_string(), cells: cells(one) })
    });
    rows.collect()
}

/// In the order of the table's columns.
fn cells(one: &WindowPerformance) -> Vec<PerformanceCell> {
    let failed = match one.failed {
        0 => String::new(),
        failed => format!("{} failed", thousands(failed)),
    };
    let tokens = format!("{} in, {} out", thousands(one.prompt_tokens), thousands(one.completion_tokens));
    let requests = match (failed.is_empty(), one.requests) {
        (_, 0) => String::new(),
        (true, _) => tokens,
        (false, _) => format!("{failed}; {tokens}"),
    };
    let ms = |value: f64| took(value.round() as u64);
    let speed = |value: f64| format!("{}/s", fixed(value, if value < 10.0 { 1 } else { 0 }));
    vec![
        PerformanceCell { main: thousands(one.requests), more: requests },
        spread(one.time_to_first_token_ms.as_ref(), ms),
        spread(one.tokens_per_second.as_ref(), speed),
        spread(one.queue_wait_ms.as_ref(), ms),
        spread(one.load_ms.as_ref(), ms),
        PerformanceCell {
            main: fixed(one.gib_hours, 3),
            more: format!("{} requests an hour", fixed(one.requests_per_hour, 1)),
        },
    ]
}

/// The middle value, and below it what 95 and 99 of a hundred stay within.
fn spread(spread: Option<&Spread>, write: impl Fn(f64) -> String) -> PerformanceCell {
    let Some(spread) = spread else {
        return PerformanceCell { main: "\u{2013}".to_owned(), more: String::new() };
    };
    let more = format!("p95 {} \u{b7} p99 {}", write(spread.p95), write(spread.p99));
    PerformanceCell { main: write(spread.p50), more }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(requests: u64) -> WindowPerformance {
        WindowPerformance {
            window: "1h".to_owned(),
            requests,
            failed: 1,
            requests_per_hour: 12.0,
            prompt_tokens: 3100,
            completion_tokens: 420,
            gib_hours: 0.0314,
            load_ms: None,
            time_to_first_token_ms: Spread::of(vec![310.0, 290.0, 900.0]),
            queue_wait_ms: Spread::of(vec![2.0]),
            tokens_per_second: Spread::of(vec![41.2]),
        }
    }

    #[test]
    fn a_row_tells_the_middle_and_the_slow_end() {
        let cells = cells(&window(12));
        assert_eq!(cells[0].more, "1 failed; 3,100 in, 420 out");
        assert_eq!(
            (cells[1].main.as_str(), cells[1].more.as_str()),
            ("0.31 s", "p95 0.90 s \u{b7} p99 0.90 s")
        );
        assert_eq!(cells[2].main, "41/s");
        assert_eq!(cells[4].main, "\u{2013}", "what was not measured is no zero");
        assert_eq!(cells[5].main, "0.031");
    }

    #[test]
    fn only_models_that_did_something_in_the_window_are_shown() {
        let model = |requests, gib_hours| protocol::ModelPerformance {
            model: "m".parse().unwrap(),
            windows: vec![WindowPerformance { gib_hours, ..window(requests) }],
        };
        let all = |one| Performance { at: protocol::Time::from_unix_ms(0), models: vec![one] };
        assert_eq!(performance(&all(model(1, 0.0)), "1h").len(), 1);
        assert_eq!(performance(&all(model(0, 0.1)), "1h").len(), 1);
        assert_eq!(performance(&all(model(0, 0.0)), "1h").len(), 0);
        assert_eq!(performance(&all(model(1, 0.0)), "5m").len(), 0);
    }
}
