//! Every sentence in which the manager refuses something or ends a request: cause, then what to do.

use protocol::{Code, Failure, ModelId, Problem, Receipt, Verdict, Warning};

use crate::{
    admission::{Later, Need, NoRoom, Whose},
    event::Answer,
    pressure::Sign,
    queue::Waiter,
};

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

/// Why a load that ran out of memory twice is not begun a third time.
pub(crate) fn starved(model: &ModelId) -> Problem {
    Problem::new(
        Code::OutOfMemory,
        format!("`{model}` ran out of memory while it was loaded, and once more after idle models had gone."),
        "Ask for a smaller context, or free memory and reinitialise the model.",
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

/// Who had an idle model pushed out when the machine ran short, for its receipt.
pub(crate) const PRESSURE: &str = "memory pressure";

/// Why a model waits after a crash.
pub(crate) const PAUSE: &str = "until the pause after a failure is over";

/// Who had a model pushed out, for its receipt.
pub(crate) fn room_for(model: &ModelId) -> String {
    format!("room for {model}")
}

/// The same, when the books had said that there was room.
pub(crate) fn starving(model: &ModelId) -> String {
    format!("{model}, whose load ran out of memory")
}

/// Why a load waits.
pub(crate) fn waits_for(later: &Later) -> String {
    match later {
        Later::Leaving(models) if models.is_empty() => "until the freed memory has been measured".to_owned(),
        Later::Leaving(models) => {
            let have = if models.len() == 1 { "has" } else { "have" };
            format!("until {} {have} gone", names(models, "and"))
        }
        Later::Young { model, .. } => {
            format!("until `{model}`, which was loaded a moment ago, may be unloaded")
        }
        Later::Busy(models) => format!("until {} is not in use", names(models, "or")),
        Later::Line => "until those have room who asked before".to_owned(),
    }
}

fn names(models: &[ModelId], word: &str) -> String {
    let names: Vec<String> = models.iter().map(|model| format!("`{model}`")).collect();
    names.join(&format!(" {word} "))
}

/// What those are told who waited for a load that has no room: what is needed, what is free, what could be unloaded.
pub(crate) fn no_room(model: &ModelId, need: Need, why: NoRoom, pinned: &[ModelId], anyway: bool) -> Problem {
    let gpu = need.gpu.filter(|_| why.on_gpu);
    let (needs, place) = match gpu {
        Some((index, need)) => (format!("{} on GPU {index}", bytes(need)), format!("GPU {index}")),
        None => (bytes(need.ram), "this machine".to_owned()),
    };
    let whose = match why.whose {
        Whose::Limit if gpu.is_some() => format!("is left of what models may use of {place}"),
        Whose::Limit => "is left of what models may use together".to_owned(),
        Whose::Machine => format!("is free on {place}"),
    };
    let more = match why.more {
        0 => String::new(),
        more => format!(", and unloading what may go would free {} more", bytes(more)),
    };
    let mut hints = Vec::new();
    if !pinned.is_empty() {
        hints.push(format!("unload {}, which is pinned", names(pinned, "or")));
    }
    hints.push("choose a smaller model or a shorter context".to_owned());
    match why.whose {
        Whose::Limit => hints.push("raise the limit, or load it anyway".to_owned()),
        Whose::Machine if gpu.is_some() => hints.push(format!("close other programs that use {place}")),
        Whose::Machine => hints.push("close other programs".to_owned()),
    }
    if why.whose == Whose::Machine && !anyway && gpu.is_none() {
        hints.push("load it anyway, into the reserve".to_owned());
    }
    let hint = hints.join("; or ");
    let hint = hint[..1].to_uppercase() + &hint[1..] + ".";
    let message = format!("`{model}` needs {needs}; {} {whose}{more}.", bytes(why.free));
    Problem::new(Code::InsufficientMemory, message, hint)
}

/// A load needs a GPU of which no driver speaks.
pub(crate) fn no_gpu(model: &ModelId, index: u32) -> Problem {
    Problem::new(
        Code::InsufficientMemory,
        format!("`{model}` needs GPU {index}, and its driver says nothing of it."),
        "Look whether the driver is loaded and answers, or choose a model that computes on the CPU.",
    )
}

/// Loads are refused while the machine runs short.
pub(crate) fn under_pressure(model: &ModelId, sign: Sign) -> Problem {
    let why = match sign {
        Sign::Short { available, floor } => format!(
            "only {} of memory are available, less than the {} that other programs need",
            bytes(available),
            bytes(floor)
        ),
        Sign::Stalls { percent } => format!("programs wait for memory {percent:.0} % of the time"),
    };
    Problem::new(
        Code::InsufficientMemory,
        format!("`{model}` is not loaded while the machine is short of memory: {why}."),
        "Close other programs, or ask again in a moment.",
    )
    .retry_after(10)
}

/// Loads are refused while the machine is somebody else's.
pub(crate) fn yields(model: &ModelId, seconds: u64) -> Problem {
    Problem::new(
        Code::Draining,
        format!(
            "`{model}` is not loaded: the machine's memory was given to others for {} min more.",
            seconds.div_ceil(60)
        ),
        "End that on the Resources page (or POST /manage/yield with minutes=0), or ask again then.",
    )
    .retry_after(seconds)
}

/// What those are told who waited for room in vain.
pub(crate) fn waited_for_room(model: &ModelId, seconds: u64, reason: &str) -> Problem {
    Problem::new(
        Code::TimedOut,
        format!("`{model}` waited {seconds} s for room ({reason})."),
        "Ask again when less is in use, or unload something.",
    )
    .retry_after(5)
}

pub(crate) fn line_full(model: &ModelId, waiting: usize) -> Problem {
    Problem::new(
        Code::QueueFull,
        format!("`{model}` would have to wait for room behind {waiting} other models."),
        "Ask again in a moment, or unload something.",
    )
    .retry_after(5)
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

/// What a person should know of an unload that did not give all back; `None`: it did.
pub(crate) fn left_behind(receipt: &Receipt) -> Option<Warning> {
    let (model, left) = (&receipt.model, receipt.left.join(" "));
    let gpus = receipt.gpus.iter().map(|gpu| gpu.residual_bytes).sum::<u64>();
    let residual = bytes(receipt.ram.residual_bytes.saturating_add(gpus));
    let (code, message, hint) = match receipt.verdict {
        Verdict::Residual => (
            "memory_residual",
            format!("`{model}` left {residual} behind when it was unloaded. {left}"),
            "That memory counts as taken until whoever holds it lets go. This goes away with the next unload that leaves \
             nothing.",
        ),
        Verdict::Stuck => (
            "worker_stuck",
            format!("`{model}` cannot be unloaded: {left}."),
            "Its room stays reserved until the system lets go of it; if it never does, restart the machine.",
        ),
        Verdict::Returned | Verdict::NotLoaded => return None,
    };
    Some(Warning {
        code: code.to_owned(),
        message: message.trim_end().to_owned(),
        hint: hint.to_owned(),
        since: receipt.at,
    })
}

/// A load that made no progress, or came to no end for all its progress, as the failure that it is.
pub(crate) fn stalled(stands: bool, seconds: u64, stage: Option<&str>) -> (&'static str, String, String) {
    let at = stage.map_or_else(String::new, |stage| format!(" (last: {stage})"));
    let what = if stands { "made no progress for" } else { "had not come to its end after" };
    (
        "timed_out",
        format!("The load {what} {seconds} s{at}."),
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
        let why = NoRoom { on_gpu: false, whose: Whose::Machine, free: 6_442_450_944, more: 1 << 30 };
        let need = Need { ram: 9_771_050_598, gpu: Some((1, 5 << 30)) };
        let problem = no_room(&model, need, why, std::slice::from_ref(&other), false);
        assert_eq!(
            problem.message,
            "`big` needs 9.1 GiB; 6.0 GiB is free on this machine, and unloading what may go would free 1.0 GiB more."
        );
        assert!(problem.hint.starts_with("Unload `small`, which is pinned; or choose"), "{}", problem.hint);
        assert_eq!(problem.retry_after_seconds, None);
        let why = NoRoom { on_gpu: true, whose: Whose::Limit, free: 1 << 30, more: 0 };
        let problem = no_room(&model, need, why, &[other], false);
        let of_gpu = "`big` needs 5.0 GiB on GPU 1; 1.0 GiB is left of what models may use of GPU 1.";
        assert_eq!(problem.message, of_gpu);
        assert!(problem.hint.ends_with("or raise the limit, or load it anyway."), "{}", problem.hint);
    }

    #[test]
    fn a_wait_for_room_names_those_it_waits_for() {
        let [a, b] = ["a", "b"].map(|name| name.parse::<ModelId>().unwrap());
        assert_eq!(waits_for(&Later::Leaving(vec![a.clone(), b.clone()])), "until `a` and `b` have gone");
        assert_eq!(waits_for(&Later::Busy(vec![a, b])), "until `a` or `b` is not in use");
    }
}
