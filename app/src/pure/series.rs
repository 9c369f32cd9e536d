//! What models held over the last fifteen minutes: what the server remembers, then what the live samples say.

use std::collections::{BTreeSet, VecDeque};

use protocol::{ModelId, Snapshot, Time};
use serde::{Deserialize, Serialize};

use super::held;
use crate::words::fixed;

/// How far back the series reaches.
pub const SPAN_MS: i64 = 15 * 60 * 1000;
/// Samples come every second; a point this often is enough for a chart of this width.
const STEP_MS: i64 = 5000;
/// A longer pause between two points is a gap: nobody listened then.
const GAP_MS: i64 = 3 * STEP_MS;

/// Points of the first paint are so far apart: within a gap, and few enough to travel inside the page.
const FIRST_STEP_MS: i64 = 10_000;

/// The picture's size in its own units.
pub const WIDTH: f64 = 1000.0;
/// A point that nothing follows is drawn this wide.
const LEAST: f64 = 3.0;
/// The picture's height.
pub const HEIGHT: f64 = 120.0;

/// What each model held at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// When.
    pub at: Time,
    /// Models that held something.
    pub held: Vec<(ModelId, u64)>,
}

impl Point {
    /// All models together.
    pub fn total(&self) -> u64 {
        self.held.iter().map(|(_, bytes)| bytes).sum()
    }

    fn of(&self, id: &ModelId) -> u64 {
        self.held.iter().find(|(held, _)| held == id).map_or(0, |(_, bytes)| *bytes)
    }
}

/// Points in order of time, never longer than the span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    points: VecDeque<Point>,
}

impl Series {
    /// Begins with what was measured before, oldest first.
    pub fn begun_with(points: &[Point]) -> Self {
        Self { points: points.iter().cloned().collect() }
    }

    /// Whether a snapshot says something new: no point of the last seconds says the same models.
    pub fn lacks(&self, snapshot: &Snapshot) -> bool {
        let Some(last) = self.points.back() else { return true };
        let age = snapshot.at.unix_ms() - last.at.unix_ms();
        let held = snapshot.models.iter().filter(|m| held(m) > 0).map(|m| &m.id);
        age >= STEP_MS || (age > 0 && !held.eq(last.held.iter().map(|(id, _)| id)))
    }

    /// Takes what a snapshot says, if it says something new. Returns whether it did.
    pub fn take(&mut self, snapshot: &Snapshot) -> bool {
        if !self.lacks(snapshot) {
            return false;
        }
        let held: Vec<_> =
            snapshot.models.iter().map(|m| (m.id.clone(), held(m))).filter(|(_, bytes)| *bytes > 0).collect();
        let at = snapshot.at;
        self.points.push_back(Point { at, held });
        while self.points.front().is_some_and(|first| at.unix_ms() - first.at.unix_ms() > SPAN_MS) {
            self.points.pop_front();
        }
        true
    }

    /// Every model that held something, by name.
    pub fn ids(&self) -> Vec<ModelId> {
        let all: BTreeSet<_> =
            self.points.iter().flat_map(|p| p.held.iter().map(|(id, _)| id.clone())).collect();
        all.into_iter().collect()
    }

    /// The newest point.
    pub fn last(&self) -> Option<&Point> {
        self.points.back()
    }

    /// The oldest point.
    pub fn first(&self) -> Option<&Point> {
        self.points.front()
    }

    /// The point with the largest total, the newest of several.
    pub fn peak(&self) -> Option<&Point> {
        self.points.iter().max_by_key(|point| point.total())
    }

    /// The scale's upper end: 1, 2, 3, 4, 6 or 8 times a power of two that holds the peak; at least 4 MiB.
    pub fn top(&self) -> u64 {
        let peak = self.peak().map_or(0, Point::total);
        let mut base = 1_u64 << 20;
        loop {
            if let Some(top) = [4, 6, 8].into_iter().map(|n| n * base).find(|top| peak <= *top) {
                return top;
            }
            base *= 2;
        }
    }

    /// The area of one model, stacked on those before it by name, as an SVG path.
    pub fn area(&self, id: &ModelId) -> String {
        let (Some(end), top) = (self.points.back().map(|p| p.at), self.top() as f64) else {
            return String::new();
        };
        let x = |at: Time| WIDTH - (end.unix_ms() - at.unix_ms()) as f64 / SPAN_MS as f64 * WIDTH;
        let y = |bytes: u64| HEIGHT - bytes as f64 / top * HEIGHT;
        let mut path = String::new();
        let points: Vec<_> = self.points.iter().collect();
        for run in points.chunk_by(|a, b| b.at.unix_ms() - a.at.unix_ms() <= GAP_MS) {
            let steps: Vec<_> = run
                .iter()
                .enumerate()
                .map(|(n, point)| {
                    // What holds now reaches the right edge, and can be seen from its first moment on.
                    let from = x(point.at).min(WIDTH - LEAST);
                    let until = match run.get(n + 1) {
                        Some(next) => x(next.at),
                        None if point.at == end => WIDTH,
                        None => from + LEAST,
                    };
                    let below: u64 = point.held.iter().filter(|(other, _)| other < id).map(|(_, b)| b).sum();
                    (from, until, y(below + point.of(id)), y(below))
                })
                .collect();
            draw(&mut path, &steps);
        }
        path
    }

    /// One point a minute, the newest first: the table behind the picture.
    pub fn minutes(&self) -> Vec<&Point> {
        let mut rows: Vec<&Point> = Vec::new();
        for point in self.points.iter().rev() {
            let minute = |p: &Point| p.at.unix_ms().div_euclid(60_000);
            if rows.last().is_none_or(|last| minute(last) != minute(point)) {
                rows.push(point);
            }
        }
        rows
    }
}

/// As few points as draw the same picture, for the first paint: one each so often while something is held, where a model
/// comes or goes, and at both ends.
pub fn thinned(points: impl Iterator<Item = Point>) -> Vec<Point> {
    let mut kept: Vec<Point> = Vec::new();
    let mut before: Option<Point> = None;
    for point in points {
        let last = kept.last();
        let ids = |point: &Point| point.held.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
        let changed = last.is_none_or(|last| ids(last) != ids(&point));
        let due = last.is_some_and(|last| point.at.unix_ms() - last.at.unix_ms() >= FIRST_STEP_MS);
        if changed {
            // What lasted is drawn to its end, so that no gap seems to be there.
            kept.extend(before.take());
            kept.push(point);
        } else if due && !point.held.is_empty() {
            before = None;
            kept.push(point);
        } else {
            before = Some(point);
        }
    }
    kept.extend(before);
    kept
}

/// Appends one closed outline: along the upper edge of all steps, back along the lower one.
fn draw(path: &mut String, steps: &[(f64, f64, f64, f64)]) {
    use std::fmt::Write;
    let Some((first, last)) = steps.first().zip(steps.last()) else { return };
    if steps.iter().all(|(_, _, upper, lower)| lower - upper < 0.05) {
        return;
    }
    // Writing into a String cannot fail.
    let _ = write!(path, "M{} {}", fixed(first.0, 1), fixed(first.3, 1));
    for (from, _, upper, _) in steps {
        let _ = write!(path, "H{}V{}", fixed(*from, 1), fixed(*upper, 1));
    }
    let _ = write!(path, "H{}", fixed(last.1, 1));
    for (from, _, _, lower) in steps.iter().rev() {
        let _ = write!(path, "V{}H{}", fixed(*lower, 1), fixed(*from, 1));
    }
    path.push('Z');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{example, first::nothing_yet};
    use proptest::prelude::*;

    fn at(ms: i64, held: &[(&str, u64)]) -> Snapshot {
        let models = held.iter().map(|(id, bytes)| example::ready(id, *bytes)).collect();
        Snapshot { at: Time::from_unix_ms(ms), models, ..nothing_yet() }
    }

    #[test]
    fn a_point_is_taken_every_five_seconds_or_when_a_model_comes_or_goes() {
        let mut series = Series::default();
        assert!(series.take(&at(0, &[("a", 1)])));
        assert!(!series.take(&at(1000, &[("a", 2)])), "too early");
        assert!(series.take(&at(2000, &[("a", 2), ("b", 1)])), "b came");
        assert!(series.take(&at(7000, &[("a", 2), ("b", 1)])), "five seconds on");
        assert!(!series.take(&at(7000, &[])), "the same moment twice");
    }

    #[test]
    fn the_series_forgets_what_is_older_than_its_span() {
        let mut series = Series::default();
        for second in 0..2000 {
            series.take(&at(second * 1000, &[("a", 1 << 20)]));
        }
        assert!(series.points.len() <= 182, "{}", series.points.len());
        assert!(series.minutes().len() <= 16);
    }

    #[test]
    fn areas_are_stacked_and_break_where_nobody_listened() {
        let mut series = Series::default();
        series.take(&at(0, &[("a", 2 << 20), ("b", 2 << 20)]));
        series.take(&at(5000, &[("a", 2 << 20), ("b", 2 << 20)]));
        series.take(&at(600_000, &[("a", 2 << 20)]));
        let a = series.area(&"a".parse().unwrap());
        let b = series.area(&"b".parse().unwrap());
        assert_eq!(a.matches('Z').count(), 2, "{a}");
        assert_eq!(b.matches('Z').count(), 1, "{b}");
        assert!(a.contains("V60.0") && b.contains("V0.0"), "{a} {b}");
    }

    #[test]
    fn the_scale_is_round_and_holds_the_peak() {
        let mut series = Series::default();
        assert_eq!(series.top(), 4 << 20);
        series.take(&at(0, &[("a", 33 << 20)]));
        assert_eq!(series.top(), 48 << 20);
        assert_eq!(series.peak().map(Point::total), Some(33 << 20));
    }

    fn point(second: i64, held: Option<u64>) -> Point {
        let held = held.map(|bytes| ("a".parse().unwrap(), bytes)).into_iter().collect();
        Point { at: Time::from_unix_ms(second * 1000), held }
    }

    #[test]
    fn a_remembered_quarter_of_an_hour_is_few_points_and_the_same_picture() {
        let held = |second| (300..600).contains(&second).then_some(4 << 20);
        let all: Vec<Point> = (0..900).map(|second| point(second, held(second))).collect();
        let few = thinned(all.iter().cloned());
        assert!(few.len() <= 36, "{}", few.len());
        assert_eq!((few.first(), few.last()), (all.first(), all.last()));
        let (few, all) = (Series::begun_with(&few), Series::begun_with(&all));
        let a = "a".parse().unwrap();
        let (few, all) = (few.area(&a), all.area(&a));
        // It rises where the model came and falls where it went, to the second.
        for edge in ["H334.4V0.0", "H667.8V120.0"] {
            assert!(few.contains(edge) && all.contains(edge), "{edge} in {few}");
        }
        assert_eq!((few.matches('Z').count(), all.matches('Z').count()), (1, 1));
    }

    proptest! {
        #[test]
        fn no_area_ever_leaves_the_picture(
            held in prop::collection::vec((1_i64..20_000, 0_u64..(1 << 36), 0_u64..(1 << 36)), 1..60),
        ) {
            let mut series = Series::default();
            let mut ms = 0;
            for (step, a, b) in held {
                ms += step;
                series.take(&at(ms, &[("a", a), ("b", b)]));
            }
            for id in series.ids() {
                let path = series.area(&id);
                for number in path.split(|c: char| c.is_ascii_alphabetic() || c == ' ').filter(|n| !n.is_empty()) {
                    let number: f64 = number.parse().unwrap();
                    prop_assert!((-0.05..=WIDTH).contains(&number), "{}", path);
                }
            }
        }
    }
}
