//! What a verb answered, in one sentence. The forms with and without JavaScript both get it from here.

use protocol::{CleanUp, IdleTimeout, Kept, Model, ModelState, Problem, ProblemBody, Receipt, Reloaded};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{about, idle_timeout, list, model::holds, part_of, receipt, took};
use crate::{Notice, manage::Part};

/// The sentence for a person about what `POST /manage/...` answered. `answer` is the JSON body, a problem included.
pub fn notice(path: &str, answer: &Value) -> Notice {
    if let Some(body) = read::<ProblemBody>(answer) {
        return refused(&body.error);
    }
    let verb = path.rsplit('/').next().unwrap_or_default();
    let said = match verb {
        "load" => several(answer, loaded),
        "unload" => several(answer, |one: Receipt| of_receipt(&one)),
        "reload" => several(answer, reloaded),
        "cleanup" => read(answer).map(clean_up),
        "pin" => read(answer).map(pinned),
        "idle_timeout" => read(answer).map(timeout),
        "cancel" => flag(answer, "cancelled").map(|done| match done {
            true => Notice::good("The request was cancelled."),
            false => Notice::good("That request had already ended."),
        }),
        "end_session" => flag(answer, "ended").map(|done| match done {
            true => Notice::good("The session was ended; what was kept for it is given back."),
            false => Notice::good("That session had already ended."),
        }),
        "pull" => Some(Notice::good("The download has begun.")),
        "cancel_pull" => flag(answer, "cancelled").map(|done| match done {
            true => Notice::good("The download was cancelled."),
            false => Notice::good("That download had already ended."),
        }),
        "remove" => answer
            .get("removed_bytes")
            .and_then(Value::as_u64)
            .map(|freed| Notice::good(format!("Removed; {} of disk are free again.", about(freed)))),
        "settings" => answer.get("idle_timeout").map(|_| Notice::good("Saved; it holds at once.")),
        "rescan" => answer
            .get("models")
            .and_then(Value::as_u64)
            .map(|models| Notice::good(format!("Looked again: {}.", super::count(models, "model")))),
        // The page itself shows what these did.
        "theme" | "chat" | "forget" => Some(Notice::good("")),
        _ => None,
    };
    said.unwrap_or_else(|| Notice::good("Done."))
}

/// A refusal, as cause and what to do.
pub fn refused(problem: &Problem) -> Notice {
    let mut notice = Notice::bad(super::sentence(&problem.message), super::sentence(&problem.hint));
    notice.field = problem.field.clone().unwrap_or_default();
    notice
}

fn read<T: DeserializeOwned>(answer: &Value) -> Option<T> {
    T::deserialize(answer).ok()
}

fn flag(answer: &Value, name: &str) -> Option<bool> {
    answer.get(name).and_then(Value::as_bool)
}

/// One answer, or for `model=*` a list of them.
fn several<T: DeserializeOwned>(answer: &Value, say: impl Fn(T) -> Notice) -> Option<Notice> {
    if !answer.is_array() {
        return read(answer).map(say);
    }
    let said: Vec<_> = read::<Vec<Part<T>>>(answer)?
        .into_iter()
        .map(|part| match part {
            Part::Done(one) => say(one),
            Part::Failed { error } => refused(&error),
        })
        .collect();
    if said.is_empty() {
        return Some(Notice::good("No model was loaded."));
    }
    let join = |pick: fn(&Notice) -> &str| {
        said.iter().map(pick).filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" ")
    };
    Some(Notice {
        good: said.iter().all(|one| one.good),
        text: join(|n| &n.text),
        hint: join(|n| &n.hint),
        ..Notice::default()
    })
}

fn loaded(model: Model) -> Notice {
    let id = &model.id;
    if model.state != ModelState::Ready {
        return Notice::good(format!("{id} is on its way."));
    }
    let time = model.instances.first().and_then(|i| i.load_ms);
    Notice::good(match (time, holds(&model)) {
        (Some(ms), Some(holds)) => format!("{id} is ready: loaded in {}, holds {holds}.", took(ms)),
        (None, Some(holds)) => format!("{id} is ready and holds {holds}."),
        (Some(ms), None) => format!("{id} is ready: loaded in {}.", took(ms)),
        (None, None) => format!("{id} is ready."),
    })
}

fn of_receipt(one: &Receipt) -> Notice {
    let words = receipt(one);
    let hint = if words.good {
        String::new()
    } else {
        "The ledger keeps this receipt. End what is named there, or reload the model to try again.".to_owned()
    };
    Notice { good: words.good, text: words.text(), hint, ..Notice::default() }
}

fn reloaded(both: Reloaded) -> Notice {
    let old = of_receipt(&both.receipt);
    let new = loaded(both.model);
    let text = format!("{} {}", old.text, new.text);
    Notice { good: old.good && new.good, text, hint: old.hint, ..Notice::default() }
}

fn clean_up(answer: CleanUp) -> Notice {
    match answer {
        CleanUp::Done { receipts, kept } => {
            let kept = kept_words(&kept);
            let text = match receipts.as_slice() {
                [] => "Nothing was unloaded.".to_owned(),
                [one] => receipt(one).text(),
                many => {
                    let sum = |pick: fn(&Receipt) -> u64| many.iter().map(pick).sum();
                    let amount = part_of(sum(|r| r.ram.returned_bytes), sum(|r| r.ram.held_bytes));
                    let names: Vec<_> = many.iter().map(|r| r.model.to_string()).collect();
                    format!("{} gave back {amount}, measured.", list(&names))
                }
            };
            let troubles: Vec<_> = receipts
                .iter()
                .map(of_receipt)
                .filter(|n| !n.good && receipts.len() > 1)
                .map(|n| n.text)
                .collect();
            Notice {
                good: receipts.iter().all(|one| receipt(one).good),
                text,
                hint: [troubles.join(" "), kept]
                    .into_iter()
                    .filter(|t| !t.is_empty())
                    .collect::<Vec<_>>()
                    .join(" "),
                ..Notice::default()
            }
        }
        CleanUp::Dry { would_unload, kept } => {
            let total: u64 = would_unload.iter().filter_map(|one| one.expected_bytes).sum();
            let names: Vec<_> = would_unload.iter().map(|one| one.model.to_string()).collect();
            let text = if names.is_empty() {
                "Nothing would be unloaded.".to_owned()
            } else {
                format!("Would unload {} and free about {}.", list(&names), about(total))
            };
            Notice { good: true, text, hint: kept_words(&kept), ..Notice::default() }
        }
    }
}

fn kept_words(kept: &[Kept]) -> String {
    if kept.is_empty() {
        return String::new();
    }
    let parts: Vec<_> = kept.iter().map(|one| format!("{} ({})", one.model, one.reason)).collect();
    format!("Kept: {}.", list(&parts))
}

fn pinned(model: Model) -> Notice {
    Notice::good(if model.pinned {
        format!("{} is pinned: no timer, eviction or clean-up unloads it.", model.id)
    } else {
        format!("{} is no longer pinned.", model.id)
    })
}

fn timeout(model: Model) -> Notice {
    let id = &model.id;
    Notice::good(match model.idle_timeout_seconds {
        IdleTimeout::Never => format!("{id} is never unloaded for being idle."),
        IdleTimeout::After { ms: 0 } => format!("{id} is unloaded as soon as nobody uses it."),
        timeout => format!("{id} is unloaded after {} without use.", idle_timeout(timeout)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use protocol::Code;
    use serde_json::json;

    fn said<T: serde::Serialize>(path: &str, answer: &T) -> Notice {
        notice(path, &serde_json::to_value(answer).unwrap())
    }

    #[test]
    fn a_refusal_is_told_as_cause_and_remedy() {
        let error =
            Problem::new(Code::InsufficientMemory, "needs 9.1 GiB; 6.0 is free", "Unload qwen (4.2 GiB)?");
        let notice = said("/manage/load", &ProblemBody { error });
        assert!(!notice.good);
        assert_eq!(notice.text, "Needs 9.1 GiB; 6.0 is free.");
        assert_eq!(notice.hint, "Unload qwen (4.2 GiB)?");
    }

    #[test]
    fn a_load_tells_its_time_and_what_it_holds() {
        let model = example::ready("smollm2", 34_708_000);
        assert_eq!(said("/manage/load", &model).text, "smollm2 is ready: loaded in 0.42 s, holds 33.1 MiB.");
    }

    #[test]
    fn an_unload_tells_the_proof() {
        let one = example::receipt("smollm2", 34_708_000, 34_708_000);
        assert_eq!(
            said("/manage/unload", &one).text,
            "smollm2 gave back 33.1 of 33.1 MiB in 12 ms, measured."
        );
        assert_eq!(said("/manage/unload", &[one.clone(), one]).text.matches("measured").count(), 2);
    }

    #[test]
    fn a_clean_up_sums_up_and_names_what_it_kept() {
        let receipts =
            vec![example::receipt("a", 100 << 20, 100 << 20), example::receipt("b", 200 << 20, 200 << 20)];
        let kept = vec![Kept { model: "c".parse().unwrap(), reason: "2 requests in flight".to_owned() }];
        let notice = said("/manage/cleanup", &CleanUp::Done { receipts, kept });
        assert_eq!(notice.text, "a and b gave back 300 of 300 MiB, measured.");
        assert_eq!(notice.hint, "Kept: c (2 requests in flight).");
        assert!(notice.good);
    }

    #[test]
    fn a_clean_up_that_left_something_behind_is_no_success() {
        let receipts =
            vec![example::receipt("a", 100 << 20, 100 << 20), example::receipt("b", 200 << 20, 50 << 20)];
        let notice = said("/manage/cleanup", &CleanUp::Done { receipts, kept: vec![] });
        assert!(!notice.good);
        assert!(notice.hint.contains("150 MiB did not come back"), "{notice:?}");
    }

    #[test]
    fn a_reload_tells_both_halves() {
        let receipt = example::receipt("smollm2", 34_708_000, 34_708_000);
        let model = example::ready("smollm2", 34_708_000);
        let notice = said("/manage/reload", &Reloaded { receipt, model });
        assert!(
            notice.text.starts_with("smollm2 gave back") && notice.text.contains("is ready"),
            "{notice:?}"
        );
    }

    #[test]
    fn a_clean_up_of_nothing_is_no_error() {
        let notice = said("/manage/cleanup", &CleanUp::Done { receipts: vec![], kept: vec![] });
        assert_eq!((notice.good, notice.text.as_str()), (true, "Nothing was unloaded."));
    }

    #[test]
    fn small_verbs_have_their_sentence_and_an_unknown_one_is_done() {
        assert_eq!(
            notice("/manage/cancel", &json!({"cancelled": false})).text,
            "That request had already ended."
        );
        assert_eq!(notice("/manage/theme", &json!({"theme": "dark"})).text, "");
        assert_eq!(
            notice("/manage/remove", &json!({"removed_bytes": 94 << 20})).text,
            "Removed; 94 MiB of disk are free again."
        );
        assert_eq!(notice("/manage/new", &json!(null)).text, "Done.");
    }
}
