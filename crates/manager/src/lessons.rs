//! What measurement teaches about a file: kept for each device and context, the newest last. Pure.

use protocol::Lesson;

/// Lessons that are kept of one file.
const MOST: usize = 8;
/// What changes by less than one part in so many is not worth writing down again.
const NOTEWORTHY: u64 = 64;

/// An instance became ready with so many private bytes; `header` is what its file's header alone had said, `predicted`
/// what had been expected of it.
pub(crate) fn at_ready(
    lessons: &mut Vec<Lesson>,
    (device, context): (&str, u32),
    header: u64,
    predicted: u64,
    measured: u64,
) {
    let known = lessons.iter().position(|lesson| lesson.device == device && lesson.context == context);
    let mut lesson = known.map(|at| lessons.remove(at)).unwrap_or_else(|| Lesson {
        device: device.to_owned(),
        context,
        ready_bytes: 0,
        header_bytes: 0,
        peak_bytes: 0,
        rest_bytes: 0,
        rest_held_bytes: 0,
        full: false,
        error_percent: 0.0,
        peak_error_percent: None,
    });
    (lesson.ready_bytes, lesson.header_bytes) = (measured, header);
    lesson.peak_bytes = lesson.peak_bytes.max(measured);
    lesson.error_percent = off(predicted, measured);
    lessons.push(lesson);
    if lessons.len() > MOST {
        lessons.remove(0);
    }
}

/// An instance while it has nothing to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AtRest {
    /// Private bytes beyond those at ready.
    pub(crate) grown: u64,
    /// Private bytes that are kept for sessions.
    pub(crate) kept: u64,
    /// Where it has taken the largest step that there is: what had been predicted with so much kept.
    pub(crate) full: Option<u64>,
}

/// An instance holds so many private bytes, or has held them for a moment. Returns whether anything worth writing down was
/// learned.
pub(crate) fn peaked(lessons: &mut [Lesson], of: (&str, u32), private: u64) -> bool {
    let Some(lesson) = exactly(lessons, of).filter(|lesson| grew(private, lesson.peak_bytes)) else {
        return false;
    };
    lesson.peak_bytes = private;
    true
}

/// An instance has nothing to do. Returns the same.
pub(crate) fn rested(lessons: &mut [Lesson], of: (&str, u32), AtRest { grown, kept, full }: AtRest) -> bool {
    let Some(lesson) = exactly(lessons, of) else { return false };
    // What small talk leaves says nothing of the cap, and takes back nothing that was learned of it.
    if full.is_none() && lesson.full {
        return false;
    }
    let private = lesson.ready_bytes.saturating_add(grown);
    let more_at_rest = kept == lesson.rest_held_bytes && grew(private, lesson.rest_bytes);
    let first = full.is_some() && !lesson.full;
    let news = first || grew(kept, lesson.rest_held_bytes) || more_at_rest;
    if news {
        (lesson.rest_bytes, lesson.rest_held_bytes) = (private, kept);
        lesson.full = full.is_some();
    }
    let Some(predicted) = full else { return news };
    let (before, now) = (lesson.peak_error_percent, off(predicted, private));
    let moved = before.is_none_or(|before| (before - now).abs() >= 1.0);
    if moved {
        lesson.peak_error_percent = Some(now);
    }
    news || moved
}

fn exactly<'a>(lessons: &'a mut [Lesson], (device, context): (&str, u32)) -> Option<&'a mut Lesson> {
    lessons.iter_mut().find(|lesson| lesson.device == device && lesson.context == context)
}

fn grew(new: u64, old: u64) -> bool {
    new > old.saturating_add(old / NOTEWORTHY)
}

/// Predicted / measured, less 1, in percent: above 0, too much was predicted.
fn off(predicted: u64, measured: u64) -> f64 {
    (predicted as f64 / measured.max(1) as f64 - 1.0) * 100.0
}

/// The lesson for a context on a device, or the newest for another context. What was learned on another device says nothing.
pub(crate) fn of<'a>(lessons: &'a [Lesson], device: &str, context: u32) -> Option<&'a Lesson> {
    let there = || lessons.iter().rev().filter(|lesson| lesson.device == device);
    there().find(|lesson| lesson.context == context).or_else(|| there().next())
}

/// Takes over what others know of the same files and `own` does not: where both know something, `own` is right.
pub fn join(own: &mut Vec<Lesson>, others: &[Lesson]) {
    for other in others.iter().rev() {
        let known = own.iter().any(|one| one.device == other.device && one.context == other.context);
        if !known && own.len() < MOST {
            own.insert(0, other.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: (&str, u32) = ("cpu", 512);

    #[test]
    fn a_load_teaches_what_it_took_and_how_wrong_the_prediction_was() {
        let mut lessons = Vec::new();
        at_ready(&mut lessons, CPU, 100, 100, 80);
        assert_eq!((lessons[0].ready_bytes, lessons[0].peak_bytes), (80, 80));
        assert!((lessons[0].error_percent - 25.0).abs() < 1e-9);
        at_ready(&mut lessons, CPU, 100, 80, 80);
        assert_eq!(lessons.len(), 1);
        assert!(lessons[0].error_percent.abs() < 1e-9, "it is of the last load");
    }

    #[test]
    fn the_peak_is_the_most_ever_seen_and_rest_is_where_most_was_kept() {
        let mut lessons = Vec::new();
        assert!(!peaked(&mut lessons, CPU, 500), "nothing is known of it");
        at_ready(&mut lessons, CPU, 100, 100, 100);
        assert!(peaked(&mut lessons, CPU, 500));
        assert!(!peaked(&mut lessons, CPU, 505), "nothing to speak of");
        let mut rested = |grown, kept| rested(&mut lessons, CPU, AtRest { grown, kept, full: None });
        assert!(rested(300, 200));
        assert!(!rested(200, 100), "less was kept");
        assert!(rested(320, 200));
        let lesson = &lessons[0];
        assert_eq!((lesson.peak_bytes, lesson.rest_bytes, lesson.rest_held_bytes), (500, 420, 200));
    }

    #[test]
    fn an_instance_that_took_its_largest_step_teaches_more_than_one_that_keeps_more_and_says_how_wrong_its_peak_was()
     {
        let mut lessons = Vec::new();
        at_ready(&mut lessons, CPU, 100, 100, 100);
        assert!(rested(&mut lessons, CPU, AtRest { grown: 70, kept: 60, full: None }));
        assert!(rested(&mut lessons, CPU, AtRest { grown: 50, kept: 0, full: Some(165) }));
        let lesson = &lessons[0];
        assert_eq!((lesson.rest_bytes, lesson.rest_held_bytes, lesson.full), (150, 0, true));
        assert!((lesson.peak_error_percent.unwrap() - 10.0).abs() < 1e-9);
        assert!(!rested(&mut lessons, CPU, AtRest { grown: 60, kept: 60, full: None }), "small talk");
        assert!(rested(&mut lessons, CPU, AtRest { grown: 50, kept: 0, full: Some(150) }));
        assert!(lessons[0].peak_error_percent.unwrap().abs() < 1e-9, "it is of the last load");
    }

    #[test]
    fn the_newest_lessons_are_kept_and_another_context_is_better_than_none() {
        let mut lessons = Vec::new();
        for context in 1..=10 {
            at_ready(&mut lessons, ("cpu", context), 1, 1, u64::from(context));
        }
        assert_eq!(lessons.len(), MOST);
        assert_eq!(of(&lessons, "cpu", 5).unwrap().context, 5);
        assert_eq!(of(&lessons, "cpu", 1).unwrap().context, 10);
    }

    #[test]
    fn no_lesson_of_another_device_is_taken_not_even_for_the_same_context() {
        let mut lessons = Vec::new();
        at_ready(&mut lessons, ("cpu", 512), 1, 1, 1);
        at_ready(&mut lessons, ("gpu:0", 1024), 1, 1, 2);
        at_ready(&mut lessons, ("gpu:0", 512), 1, 1, 3);
        let ready = |device, context| of(&lessons, device, context).map(|lesson| lesson.ready_bytes);
        assert_eq!((ready("cpu", 512), ready("cpu", 1024)), (Some(1), Some(1)));
        assert_eq!((ready("gpu:0", 1024), ready("gpu:0", 64)), (Some(2), Some(3)));
        assert_eq!(ready("gpu:1", 512), None);
    }

    #[test]
    fn joined_lessons_keep_what_is_known_and_take_over_the_rest_as_far_as_there_is_place() {
        let of = |contexts: std::ops::Range<u32>, ready| {
            let mut lessons = Vec::new();
            contexts.for_each(|context| at_ready(&mut lessons, ("cpu", context), 1, 1, ready));
            lessons
        };
        let mut own = of(3..5, 7);
        join(&mut own, &of(1..4, 9));
        let told = |own: &[Lesson]| own.iter().map(|one| (one.context, one.ready_bytes)).collect::<Vec<_>>();
        assert_eq!(told(&own), [(1, 9), (2, 9), (3, 7), (4, 7)]);
        let before = own.clone();
        join(&mut own, &before);
        assert_eq!(own, before, "nothing is there twice");
        join(&mut own, &of(10..18, 9));
        assert_eq!(own.len(), MOST);
        assert_eq!(own[0].context, 14, "the newest of the others");
    }
}
