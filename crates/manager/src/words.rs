//! Every sentence in which the manager refuses something or ends a request: cause, then what to do.

use protocol::{Code, Failure, ModelId, Problem};

use crate::{admission::NoRoom, event::Answer, queue::Waiter};

pub(crate) fn stopped() -> Problem {
    Problem::new(Code::Draining, "The server is stopping.", "Ask again when it has started anew.")
        .retry_after(5)
}

pub(crate) fn gate_full() -> Problem {
    Problem::new(Code::QueueFull, "Too many requests are under way at once.", "Ask again in a moment.")
        .retry_after(1)
}

pub(crate) fn wrong_answer(answer: &Answer) -> Problem {
    Problem::new(
        Code::Internal,
        format!("The manager gave an answer to another question: {answer:?}."),
        "This is a fault of Innkeeper; please report it.",
    )
}

pub(crate) fn unknown_model(model: &ModelId) -> Problem {
    Problem::new(
        Code::UnknownModel,
        format!("There is no model `{model}`."),
        "`innkeeper ls` lists the models that are here.",
    )
}

pub(crate) fn queue_full(model: &ModelId, waiting: u32) -> Problem {
    Problem::new(
        Code::QueueFull,
        format!("{waiting} requests wait for `{model}` already."),
        "Ask again in a moment, or send fewer at once.",
    )
    .retry_after(2)
}

pub(crate) fn load_cancelled(model: &ModelId, by: &str) -> Problem {
    Problem::new(
        Code::LoadCancelled,
        format!("`{model}` was unloaded by {by} before it could answer."),
        "Ask again to load it again.",
    )
    .retry_after(1)
}

pub(crate) fn quarantined(model: &ModelId, failure: Option<&Failure>) -> Problem {
    let last = failure.map_or_else(String::new, |failure| format!(" The last time: {}", failure.message));
    Problem::new(
        Code::Quarantined,
        format!("`{model}` failed three times within a minute and is not tried again by itself.{last}"),
        "Reload it when the cause is mended.",
    )
}

/// What those are told who waited for a load that failed.
pub(crate) fn load_failed(model: &ModelId, failure: &Failure) -> Problem {
    let code = match failure.code.as_str() {
        "unsupported_model" => Code::UnsupportedModel,
        "insufficient_memory" => Code::InsufficientMemory,
        "out_of_memory" => Code::OutOfMemory,
        "context_length_exceeded" => Code::ContextLengthExceeded,
        "bad_argument" => Code::BadArgument,
        "timed_out" => Code::TimedOut,
        "worker_died" => Code::WorkerDied,
        _ => Code::LoadFailed,
    };
    Problem::new(code, format!("`{model}` could not be loaded: {}", failure.message), failure.hint.clone())
}

/// What a request is told whose instance died under it.
pub(crate) fn worker_died(model: &ModelId, failure: Option<&Failure>) -> Problem {
    let why = failure.map_or_else(|| "its worker is gone.".to_owned(), |failure| failure.message.clone());
    Problem::new(
        Code::WorkerDied,
        format!("`{model}` stopped while it answered: {why}"),
        "Ask again; it is loaded anew.",
    )
    .retry_after(1)
}

/// What a request is told whose grace has ended.
pub(crate) fn cut_off(model: &ModelId, by: &str) -> Problem {
    Problem::new(
        Code::CutOff,
        format!("`{model}` was unloaded by {by} while it answered."),
        "Ask again to load it again.",
    )
    .retry_after(1)
}

pub(crate) fn stuck(model: &ModelId, pid: Option<u32>) -> Problem {
    let who = pid.map_or_else(|| "Its worker".to_owned(), |pid| format!("Its worker (process {pid})"));
    Problem::new(
        Code::Conflict,
        format!(
            "`{model}` cannot be loaded. {who} does not end, not even when killed, and keeps its memory."
        ),
        "Wait until the system lets go of it, or restart the machine.",
    )
}

/// What those are told who waited for a load that has no room.
pub(crate) fn no_room(model: &ModelId, need: u64, why: NoRoom, loaded: &[ModelId]) -> Problem {
    let (free, whose) = match why {
        NoRoom::Limit { free } => (free, "is left of what models may use together"),
        NoRoom::Machine { free } => (free, "is free on this machine"),
    };
    let hint = match loaded {
        [] => "Close other programs, choose a smaller model or a shorter context, or raise the limit."
            .to_owned(),
        loaded => {
            let names: Vec<&str> = loaded.iter().map(ModelId::as_str).collect();
            format!("Unload {} first, or choose a smaller model or a shorter context.", names.join(" or "))
        }
    };
    let message = format!("`{model}` needs {}; {} {whose}.", bytes(need), bytes(free));
    Problem::new(Code::InsufficientMemory, message, hint)
}

pub(crate) fn waited_too_long(model: &ModelId, seconds: u64) -> Problem {
    Problem::new(
        Code::TimedOut,
        format!("The request waited {seconds} s for `{model}` and did not get its turn."),
        "Ask again when fewer requests are under way.",
    )
    .retry_after(5)
}

pub(crate) fn cancelled(by: &str) -> Problem {
    Problem::new(Code::Cancelled, format!("The request was cancelled by {by}."), "")
}

pub(crate) fn session_ended(by: &str) -> Problem {
    Problem::new(Code::Cancelled, format!("Its session was ended by {by}."), "Ask again to begin a new one.")
}

/// What a stuck worker keeps.
pub(crate) fn left_by_stuck(pid: Option<u32>, held: Option<u64>) -> Vec<String> {
    let who = pid.map_or_else(|| "the worker".to_owned(), |pid| format!("process {pid}"));
    let what = held.map_or_else(|| "what it held".to_owned(), bytes);
    vec![format!("{who} does not end and keeps {what}")]
}

/// A load that made no progress, as the failure that it is.
pub(crate) fn stalled(seconds: u64, stage: Option<&str>) -> (&'static str, String, String) {
    let at = stage.map_or_else(String::new, |stage| format!(" (last: {stage})"));
    (
        "timed_out",
        format!("The load made no progress for {seconds} s{at}."),
        "Look at the disk, and at the worker's log.".to_owned(),
    )
}

/// A worker that was gone without a word.
pub(crate) fn vanished() -> (&'static str, String, String) {
    (
        "worker_died",
        "The worker ended without saying why.".to_owned(),
        "Look at the worker's log, and whether the system ran out of memory.".to_owned(),
    )
}

/// Bytes as people read them: one decimal, binary units.
pub(crate) fn bytes(count: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut shown = count as f64 / 1024.0;
    let mut unit = 0;
    while shown >= 1023.95 && unit + 1 < units.len() {
        shown /= 1024.0;
        unit += 1;
    }
    if count < 1024 { format!("{count} B") } else { format!("{shown:.1} {}", units[unit]) }
}

/// For whom a load is, in words.
pub(crate) fn for_whom(waiter: &Waiter) -> String {
    waiter.caller().map_or_else(|| format!("load by {}", waiter.by), |caller| caller.words())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_people_read_them() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (34_603_008, "33.0 MiB"),
            (1_073_741_823, "1.0 GiB"),
            (9_771_050_598, "9.1 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn a_refusal_for_want_of_room_says_what_is_needed_what_is_free_and_what_could_go() {
        let (model, other) = ("big".parse().unwrap(), "small".parse().unwrap());
        let problem = no_room(&model, 9_771_050_598, NoRoom::Machine { free: 6_442_450_944 }, &[other]);
        assert_eq!(problem.message, "`big` needs 9.1 GiB; 6.0 GiB is free on this machine.");
        assert!(problem.hint.starts_with("Unload small first"));
        assert_eq!(problem.retry_after_seconds, None);
    }
}
