//! Where the segments of a memory bar begin and how wide they are.

use protocol::{Snapshot, Time};

use super::{colour, held};

/// How long memory that was just given back stays outlined.
pub const FREED_SHOWN_MS: i64 = 10_000;

/// The least width that can still be seen, in percent of the bar.
const LEAST: f64 = 0.5;

/// A part of a bar before it is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The class that draws it: a colour, `server`, `other`, `freed`.
    pub class: String,
    /// Its amount.
    pub bytes: u64,
}

/// A part of a bar, in percent of the bar's width.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// As in [`Part`].
    pub class: String,
    /// Left edge.
    pub x: f64,
    /// Width.
    pub width: f64,
}

/// Lays parts out from the left. Each part that is not empty can be seen; what that adds is taken from the large ones.
pub fn layout(parts: &[Part], total: u64) -> Vec<Segment> {
    let shares: Vec<f64> = parts
        .iter()
        .map(|part| if total == 0 { 0.0 } else { part.bytes as f64 / total as f64 * 100.0 })
        .map(|share| if share > 0.0 { share.max(LEAST) } else { 0.0 })
        .collect();
    let sum: f64 = shares.iter().sum();
    let small: f64 = shares.iter().filter(|share| **share <= LEAST).sum();
    let shrink = if sum > 100.0 { ((100.0 - small) / (sum - small)).max(0.0) } else { 1.0 };
    let mut x = 0.0;
    parts
        .iter()
        .zip(shares)
        .filter(|(_, share)| *share > 0.0)
        .map(|(part, share)| {
            let width = if share <= LEAST { share } else { share * shrink };
            let segment = Segment { class: part.class.clone(), x, width };
            x += width;
            segment
        })
        .collect()
}

/// The bar of the whole machine: models, the server, everybody else, what was just given back; the rest is free.
pub fn machine(snapshot: &Snapshot, now: Time) -> Vec<Segment> {
    let Some(books) = snapshot.books.iter().find(|books| books.device == "ram") else { return Vec::new() };
    let mut parts = own(snapshot);
    let other = shown(books.other_bytes);
    parts.push(Part { class: "other".to_owned(), bytes: other });
    parts.extend(freed(snapshot, now));
    layout(&parts, books.total_bytes)
}

/// The bar of Innkeeper alone, on a scale of its own.
pub fn innkeeper(snapshot: &Snapshot, now: Time) -> Vec<Segment> {
    let mut parts = own(snapshot);
    parts.extend(freed(snapshot, now));
    let total = parts.iter().map(|part| part.bytes).sum();
    layout(&parts, total)
}

/// The bar of a GPU: models, then everybody else.
pub fn gpu(snapshot: &Snapshot, index: u32) -> Vec<Segment> {
    let device = format!("gpu:{index}");
    let Some(books) = snapshot.books.iter().find(|books| books.device == device) else { return Vec::new() };
    let here = |model: &&protocol::Model| model.instances.iter().any(|i| i.device == device);
    let mut parts: Vec<_> = snapshot
        .models
        .iter()
        .filter(here)
        .map(|model| Part { class: colour(snapshot, &model.id), bytes: gpu_held(model) })
        .collect();
    // Where nobody knows whose it is, what is in use is somebody's.
    let used = || books.total_bytes.saturating_sub(books.free_bytes);
    let other = if books.other_bytes.is_some() { shown(books.other_bytes) } else { used() };
    parts.push(Part { class: "other".to_owned(), bytes: other });
    layout(&parts, books.total_bytes)
}

/// What can be drawn of an amount that may be unknown, and may be computed as less than nothing.
fn shown(bytes: Option<i64>) -> u64 {
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0)
}

fn gpu_held(model: &protocol::Model) -> u64 {
    model.instances.iter().filter_map(|i| i.memory.as_ref()?.gpu_bytes).sum()
}

/// What models and the server hold together.
pub fn innkeeper_bytes(snapshot: &Snapshot) -> u64 {
    own(snapshot).iter().map(|part| part.bytes).sum()
}

/// What Innkeeper holds itself, as the books have it; `None` where its process could not be read.
pub fn itself(snapshot: &Snapshot) -> Option<u64> {
    let ram = snapshot.books.iter().find(|books| books.device == "ram");
    snapshot.server.private_bytes.and(ram).map(|ram| ram.server_bytes)
}

fn own(snapshot: &Snapshot) -> Vec<Part> {
    let models =
        snapshot.models.iter().map(|model| Part { class: colour(snapshot, &model.id), bytes: held(model) });
    let server = Part { class: "server".to_owned(), bytes: itself(snapshot).unwrap_or(0) };
    models.chain([server]).filter(|part| part.bytes > 0).collect()
}

fn freed(snapshot: &Snapshot, now: Time) -> Option<Part> {
    let fresh = |at: Time| (0..FREED_SHOWN_MS).contains(&(now.unix_ms() - at.unix_ms()));
    let bytes = snapshot.receipts.iter().filter(|one| fresh(one.at)).map(|one| one.ram.returned_bytes).sum();
    (bytes > 0).then(|| Part { class: "freed".to_owned(), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{example, first::nothing_yet};
    use proptest::prelude::*;

    #[test]
    fn what_was_just_given_back_is_outlined_for_ten_seconds() {
        let mut snapshot = nothing_yet();
        let one = example::receipt("smollm2", 33 << 20, 33 << 20);
        let at = one.at;
        snapshot.receipts = vec![one];
        let later = |ms| Time::from_unix_ms(at.unix_ms() + ms);
        assert_eq!(innkeeper(&snapshot, later(0)).len(), 1);
        assert_eq!(innkeeper(&snapshot, later(9_999))[0].class, "freed");
        assert!(innkeeper(&snapshot, later(10_000)).is_empty());
    }

    #[test]
    fn a_part_of_one_pixel_can_still_be_seen() {
        let parts = [
            Part { class: "m0".to_owned(), bytes: 33 << 20 },
            Part { class: "other".to_owned(), bytes: 4 << 30 },
        ];
        let segments = layout(&parts, 23 << 30);
        assert!(segments[0].width >= LEAST);
        assert!((segments[1].width - 4.0 / 23.0 * 100.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn segments_follow_each_other_and_never_leave_the_bar(
            amounts in prop::collection::vec(0_u64..(1 << 40), 0..12),
            more in 0_u64..(1 << 40),
        ) {
            let total = amounts.iter().sum::<u64>() + more;
            let parts: Vec<_> = amounts.iter().map(|b| Part { class: String::new(), bytes: *b }).collect();
            let segments = layout(&parts, total);
            prop_assert_eq!(segments.len(), amounts.iter().filter(|b| **b > 0).count());
            let mut edge = 0.0;
            for segment in segments {
                prop_assert!((segment.x - edge).abs() < 1e-9);
                prop_assert!(segment.width > 0.0);
                edge = segment.x + segment.width;
            }
            prop_assert!(edge <= 100.0 + 1e-6, "{}", edge);
        }
    }
}
