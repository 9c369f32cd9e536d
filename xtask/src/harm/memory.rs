//! Memory: a worker that has none left, and whether the server grows.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use fixtures::{Counting, Random};
use rustix::process::Resource;

use super::{
    Ground,
    clients::{self, End},
    inn::{Inn, Shelf},
    processes::{descriptors, limit, private_bytes, threads},
    report::{Figures, Outcome},
};

/// A worker that may have no more memory fails alone, and says that it was memory.
pub(super) fn memory(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    // Many layers: the keys and values of an answer take megabytes.
    let (one, two) = (Counting::new(0).with_layers(200), Counting::new(1));
    let shelf = Shelf::new(&[("one", one), ("two", two)])?;
    let inn = Inn::open(ground, &shelf)?;
    let (worker, server) = (inn.load("one")?, inn.pid());
    inn.load("two")?;
    limit(worker, Resource::Data, "Max data size", Some(1 << 20))?;
    let heard = clients::chat(inn.port, "one", one, 0, 3500, |_| {});
    ensure!(heard.fault(one, 0, 3500).is_none(), "what it said before was wrong: {heard:?}");
    let End::Error(code) = heard.end else { anyhow::bail!("it was not refused memory: {:?}", heard.end) };
    ensure!(code == "out_of_memory" || code == "insufficient_memory", "the reason given is {code}");
    let other = clients::chat(inn.port, "two", two, 1, 300, |_| {});
    ensure!(other.end == End::Done("length".into()), "another model: {other:?}");
    ensure!(inn.pid() == server, "another server");
    Figures::default().with("reason", code).with("other_model", "answered").held()
}

/// Promise 9: a load, an answer and an unload leave nothing in the server.
pub(super) fn cycles(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    let (rounds, warm) = ground.amount((60_u32, 20_u32), (1100, 200));
    let one = Counting::new(0);
    let shelf = Shelf::new(&[("one", one)])?;
    let inn = Inn::open(ground, &shelf)?;
    let look = || (descriptors(inn.pid()), threads(inn.pid()));
    let mut points = Vec::new();
    let mut before = None;
    for round in 0..rounds {
        inn.load("one")?;
        let heard = clients::chat(inn.port, "one", one, 0, 10, |_| {});
        ensure!(heard.end == End::Done("length".into()), "round {round}: {heard:?}");
        let (status, receipt) = inn.verb("unload", "model=one")?;
        ensure!(status == 200 && receipt["verdict"] == "returned", "round {round}: {receipt}");
        if round >= warm {
            points.push((f64::from(round), private_bytes(inn.pid()) as f64));
            before.get_or_insert_with(look);
        }
    }
    // Connections and the runtime's spare threads go after some seconds of quiet.
    let flat = super::processes::until("flat descriptors and threads", Duration::from_secs(15), || {
        let now = look();
        before.is_some_and(|before| now.0 <= before.0 + 1 && now.1 <= before.1 + 1)
    });
    thread::park_timeout(Duration::from_millis(10));
    flat?;
    let (slope, bound) = slope(&points);
    let most = ground.amount(f64::MAX, 1024.0);
    ensure!(bound <= most, "it grows by {slope:.0} bytes a cycle (at most {bound:.0})");
    Figures::default()
        .with("cycles", rounds)
        .with("bytes_a_cycle", slope.round())
        .with("bytes_a_cycle_upper_95", bound.round())
        .with("private_mib", (private_bytes(inn.pid()) as f64 / 1_048_576.0 * 10.0).round() / 10.0)
        .held()
}

/// Of the line of least squares: its slope, and the upper end of the slope's 95 % interval.
fn slope(points: &[(f64, f64)]) -> (f64, f64) {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let spread: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
    let slope = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / spread;
    let rest: f64 = points.iter().map(|p| (p.1 - y - slope * (p.0 - x)).powi(2)).sum();
    (slope, slope + 1.96 * (rest / (n - 2.0) / spread).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope_and_no_doubt() {
        let points: Vec<(f64, f64)> = (0..100).map(|n| (f64::from(n), 7.0 + 3.0 * f64::from(n))).collect();
        let (slope, bound) = slope(&points);
        assert!((slope - 3.0).abs() < 1e-9 && (bound - 3.0).abs() < 1e-6, "{slope} {bound}");
    }
}
