//! What a model's row says.

use protocol::{IdleTimeout, Model, ModelKind, ModelState, Snapshot, Time};

use super::{count, setting, span};

/// What the column "Unloads" says: the fact, and below it why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unloads {
    /// `in 1 min 48 s`, `not while in use`; empty: nothing to say.
    pub when: String,
    /// `last use: load by the page`; empty: nothing to say.
    pub why: String,
    /// Whether a countdown runs that "Keep" would reset.
    pub counting: bool,
}

/// `2 of 4 models loaded`.
pub fn loaded_count(snapshot: &Snapshot) -> String {
    match snapshot.models.len() {
        0 => "No models yet".to_owned(),
        all => {
            let loaded = snapshot.models.iter().filter(|m| crate::pure::is_loaded(m)).count();
            format!("{loaded} of {all} models loaded")
        }
    }
}

/// `2 of 4 models loaded, holding 34.1 MiB.`, from what the models themselves hold at this moment.
pub fn standing(snapshot: &Snapshot) -> String {
    let held = snapshot.models.iter().map(crate::pure::held).sum();
    match held {
        0 => format!("{}.", loaded_count(snapshot)),
        held => format!("{}, holding {}.", loaded_count(snapshot), super::bytes(held)),
    }
}

/// `would take about 33 MiB, 412 MiB at most`; `None` until the file was inspected.
pub fn would_take(model: &Model) -> Option<String> {
    let taken = super::about(model.expected_bytes?);
    let most = model.reserve_bytes.map(super::about).filter(|most| *most != taken);
    let most = most.map_or_else(String::new, |most| format!(", {most} at most"));
    Some(format!("would take about {taken}{most}"))
}

/// `chat · llama · Q4_1 · 94 MiB on disk`, without the parts that are not known.
pub fn about_file(model: &Model) -> String {
    let kind = match model.kind {
        ModelKind::Chat => "chat",
        ModelKind::Embedding => "embeddings",
    };
    // Kept together, so that a line breaks between the parts and not within one.
    let on_disk = format!("{} on disk", super::about(model.size_bytes)).replace(' ', "\u{a0}");
    [kind, &model.family, &model.quantization, &on_disk]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" \u{b7} ")
}

/// The state in words: `ready`, `reading weights, 60 %`, `draining, 2 left`.
pub fn state(model: &Model) -> String {
    match model.state {
        ModelState::Loading => match &model.progress {
            Some(p) if p.total > 0 => format!("{}, {}\u{a0}%", p.stage, super::percent(p.done, p.total)),
            Some(p) if !p.stage.is_empty() => p.stage.clone(),
            _ => "loading".to_owned(),
        },
        ModelState::Waiting => match (&model.waiting, &model.progress) {
            (Some(waiting), _) => format!("waiting {}", waiting.reason),
            (None, Some(p)) if !p.stage.is_empty() => p.stage.clone(),
            _ => "waiting for room".to_owned(),
        },
        ModelState::Draining if model.in_flight > 0 => format!("draining, {} left", model.in_flight),
        ModelState::Unloading => "giving memory back".to_owned(),
        other => other.word().to_owned(),
    }
}

/// The line under the state: speed, how long it has been idle, when it is tried again; empty: nothing to say.
pub fn state_more(model: &Model, now: Time) -> String {
    match model.state {
        ModelState::Ready => {
            // A speed outlasts its request by a moment.
            let speed =
                model.instances.first().and_then(|i| i.tokens_per_second).filter(|_| model.in_flight > 0);
            match (speed, model.idle_since) {
                (Some(speed), _) => format!("{} tok/s now", super::fixed(speed, 0)),
                (None, Some(since)) => format!("idle {}", span(between(since, now))),
                (None, None) => String::new(),
            }
        }
        ModelState::Failed | ModelState::Waiting => match model.failure.as_ref().map(|f| f.retry_at) {
            Some(Some(at)) if at > now => format!("next try in {}", span(between(now, at))),
            Some(None) if model.state == ModelState::Failed => "is not tried again".to_owned(),
            _ => String::new(),
        },
        ModelState::Stuck => match model.instances.first() {
            Some(instance) => format!("process {} cannot be ended", instance.pid),
            None => "its process cannot be ended".to_owned(),
        },
        _ => String::new(),
    }
}

/// Who uses it: `2 requests, 1 waiting`; empty: nobody.
pub fn in_use(model: &Model) -> String {
    match (u64::from(model.in_flight), u64::from(model.queued)) {
        (0, 0) => String::new(),
        (0, queued) => format!("{queued} waiting"),
        (running, 0) => count(running, "request"),
        (running, queued) => format!("{}, {queued} waiting", count(running, "request")),
    }
}

/// When it will be unloaded by itself, and why.
pub fn unloads(model: &Model, now: Time) -> Unloads {
    let said = |when: &str, why: String| Unloads { when: when.to_owned(), why, counting: false };
    let asked = || model.last_reset_by.as_ref().map_or_else(String::new, |who| format!("asked by {who}"));
    match model.state {
        ModelState::Loading | ModelState::Waiting => said("", asked()),
        ModelState::Draining => said("when its requests end", "at most 30 s from the click".to_owned()),
        ModelState::Ready if model.pinned => said("never", "pinned".to_owned()),
        ModelState::Ready if model.in_flight > 0 => said("not while in use", String::new()),
        ModelState::Ready => match model.unload_at {
            Some(at) => Unloads {
                when: if at > now { format!("in {}", span(between(now, at))) } else { "now".to_owned() },
                why: match &model.last_reset_by {
                    _ if before_idle_timeout(model, at) => "with its last session".to_owned(),
                    Some(who) => format!("last use: {who}"),
                    None => String::new(),
                },
                counting: true,
            },
            None => said("never", String::new()),
        },
        _ => Unloads::default(),
    }
}

/// Whether it goes earlier than its idle timeout says, which only the end of its last session does.
fn before_idle_timeout(model: &Model, at: Time) -> bool {
    let (Some(since), Some(ms)) = (model.idle_since, model.idle_timeout_seconds.ms()) else { return false };
    // Both times are told in whole seconds or better.
    at.unix_ms() + 1000 < since.unix_ms() + i64::try_from(ms).unwrap_or(i64::MAX)
}

/// Whom a load would push out that needs room; empty: nobody can go.
pub fn goes_first(house: &Snapshot, now: Time) -> String {
    let order: Vec<&str> =
        crate::pure::eviction::order(house, now).into_iter().map(|id| id.as_str()).collect();
    match order.as_slice() {
        [] => String::new(),
        order => format!("Who would go if a load needs room: {}.", order.join(", then ")),
    }
}

/// The model's idle timeout in words: `10 min`, `never`, `at once`.
pub fn idle_timeout(timeout: IdleTimeout) -> String {
    match timeout {
        IdleTimeout::Never => "never".to_owned(),
        IdleTimeout::After { ms: 0 } => "at once".to_owned(),
        IdleTimeout::After { ms } => setting(ms),
    }
}

fn between(from: Time, to: Time) -> u64 {
    u64::try_from(to.unix_ms() - from.unix_ms()).unwrap_or(0)
}

/// What a model holds, for a sentence: `33.1 MiB`, with what stands on GPUs; `None`: not measured.
#[cfg(feature = "ssr")]
pub(super) fn holds(model: &Model) -> Option<String> {
    let memory = model.instances.first()?.memory.as_ref()?;
    let ram = super::bytes(memory.private_bytes);
    Some(match memory.gpu_bytes {
        Some(gpu) if gpu > 0 => format!("{ram} and {} on the GPU", super::bytes(gpu)),
        _ => ram,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use protocol::Progress;

    fn at(ms: i64) -> Time {
        Time::from_unix_ms(ms)
    }

    #[test]
    fn an_idle_model_says_when_it_goes_and_who_used_it_last() {
        let mut model = example::ready("smollm2", 33 << 20);
        model.idle_since = Some(at(0));
        (model.unload_at, model.idle_timeout_seconds) =
            (Some(at(300_000)), IdleTimeout::After { ms: 300_000 });
        model.last_reset_by = Some("load by the page".to_owned());
        let unloads = unloads(&model, at(192_000));
        assert_eq!(unloads.when, "in 1 min 48 s");
        assert_eq!(unloads.why, "last use: load by the page");
        assert!(unloads.counting);
        assert_eq!(state_more(&model, at(192_000)), "idle 3 min 12 s");
    }

    #[test]
    fn one_that_goes_before_its_idle_timeout_says_that_its_last_session_is_why() {
        let mut model = example::ready("smollm2", 33 << 20);
        (model.idle_since, model.idle_timeout_seconds) = (Some(at(0)), IdleTimeout::After { ms: 900_000 });
        model.last_reset_by = Some("load by the page".to_owned());
        model.unload_at = Some(at(899_999));
        assert_eq!(unloads(&model, at(0)).why, "last use: load by the page");
        model.unload_at = Some(at(360_000));
        assert_eq!(unloads(&model, at(0)).why, "with its last session");
        model.idle_timeout_seconds = IdleTimeout::Never;
        assert_eq!(unloads(&model, at(0)).why, "last use: load by the page");
    }

    #[test]
    fn a_model_in_use_or_pinned_has_no_countdown() {
        let mut model = example::ready("smollm2", 33 << 20);
        model.in_flight = 2;
        assert_eq!(unloads(&model, at(0)).when, "not while in use");
        assert_eq!(in_use(&model), "2 requests");
        model.in_flight = 0;
        model.pinned = true;
        assert_eq!(unloads(&model, at(0)).why, "pinned");
    }

    #[test]
    fn progress_reaches_a_hundred_percent_only_at_the_end() {
        let mut model = example::unloaded("llama");
        model.state = ModelState::Loading;
        model.progress = Some(Progress { stage: "reading weights".to_owned(), done: 999, total: 1000 });
        assert_eq!(state(&model), "reading weights, 99\u{a0}%");
        model.progress = Some(Progress { stage: "starting".to_owned(), done: 0, total: 0 });
        assert_eq!(state(&model), "starting");
    }

    #[test]
    fn a_clock_that_is_behind_never_makes_a_span_negative() {
        let mut model = example::ready("smollm2", 33 << 20);
        model.idle_since = Some(at(5000));
        assert_eq!(state_more(&model, at(0)), "idle 0 s");
    }

    #[test]
    fn what_is_not_known_about_a_file_is_left_out() {
        let mut model = example::unloaded("new");
        model.family.clear();
        model.quantization.clear();
        assert_eq!(about_file(&model), "chat \u{b7} 94\u{a0}MiB\u{a0}on\u{a0}disk");
    }
}
