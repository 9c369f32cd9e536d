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
        error_percent: 0.0,
    });
    (lesson.ready_bytes, lesson.header_bytes) = (measured, header);
    lesson.peak_bytes = lesson.peak_bytes.max(measured);
    lesson.error_percent = (predicted as f64 / measured.max(1) as f64 - 1.0) * 100.0;
    lessons.push(lesson);
    if lessons.len() > MOST {
        lessons.remove(0);
    }
}

/// An instance holds so many private bytes; `kept` is what of these is kept for sessions, where nobody is served at the
/// moment, so that it is known. Returns whether anything worth writing down was learned.
pub(crate) fn seen(
    lessons: &mut [Lesson],
    (device, context): (&str, u32),
    private: u64,
    kept: Option<u64>,
) -> bool {
    let of = |lesson: &&mut Lesson| lesson.device == device && lesson.context == context;
    let Some(lesson) = lessons.iter_mut().find(of) else { return false };
    let grew = |new: u64, old: u64| new > old.saturating_add(old / NOTEWORTHY);
    let mut learned = false;
    if grew(private, lesson.peak_bytes) {
        lesson.peak_bytes = private;
        learned = true;
    }
    let Some(kept) = kept else { return learned };
    let more_at_rest = kept == lesson.rest_held_bytes && grew(private, lesson.rest_bytes);
    if grew(kept, lesson.rest_held_bytes) || more_at_rest {
        (lesson.rest_bytes, lesson.rest_held_bytes) = (private, kept);
        learned = true;
    }
    learned
}

/// The lesson for a context, or the newest for another one.
pub(crate) fn of(lessons: &[Lesson], context: u32) -> Option<&Lesson> {
    lessons.iter().rev().find(|lesson| lesson.context == context).or_else(|| lessons.last())
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
        assert!(!seen(&mut lessons, CPU, 500, None), "nothing is known of it");
        at_ready(&mut lessons, CPU, 100, 100, 100);
        assert!(seen(&mut lessons, CPU, 500, None));
        assert!(!seen(&mut lessons, CPU, 505, None), "nothing to speak of");
        assert!(seen(&mut lessons, CPU, 400, Some(200)));
        assert!(!seen(&mut lessons, CPU, 300, Some(100)), "less was kept");
        assert!(seen(&mut lessons, CPU, 420, Some(200)));
        let lesson = &lessons[0];
        assert_eq!((lesson.peak_bytes, lesson.rest_bytes, lesson.rest_held_bytes), (500, 420, 200));
    }

    #[test]
    fn the_newest_lessons_are_kept_and_another_context_is_better_than_none() {
        let mut lessons = Vec::new();
        for context in 1..=10 {
            at_ready(&mut lessons, ("cpu", context), 1, 1, u64::from(context));
        }
        assert_eq!(lessons.len(), MOST);
        assert_eq!(of(&lessons, 5).unwrap().context, 5);
        assert_eq!(of(&lessons, 1).unwrap().context, 10);
    }
}
