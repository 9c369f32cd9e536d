//! The proof after an unload, in words.

use protocol::{Method, Reason, Receipt, Verdict};

use super::{bytes, count, part_of, sentence, signed, took};

/// A receipt in parts, so that a page can set the amount in bold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptWords {
    /// Whether all of it came back.
    pub good: bool,
    /// `smollm2 gave back`.
    pub who: String,
    /// `33.1 of 33.1 MiB`; empty when there is no amount.
    pub amount: String,
    /// `in 12 ms`, or what is left and who holds it.
    pub rest: String,
    /// `measured · idle timeout`.
    pub why: String,
}

impl ReceiptWords {
    /// The whole as one sentence: `smollm2 gave back 33.1 of 33.1 MiB in 12 ms, measured.`
    pub fn text(&self) -> String {
        let parts = [self.who.as_str(), &self.amount, &self.rest];
        let said = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        if self.good && !self.amount.is_empty() { format!("{said}, measured.") } else { sentence_end(said) }
    }
}

/// A receipt in words.
pub fn receipt(receipt: &Receipt) -> ReceiptWords {
    let model = &receipt.model;
    let time = took(receipt.duration_ms);
    let held = receipt.ram.held_bytes > 0 || receipt.gpus.iter().any(|gpu| gpu.held_bytes > 0);
    match receipt.verdict {
        Verdict::NotLoaded => ReceiptWords {
            good: true,
            who: format!("{model} was not loaded"),
            amount: String::new(),
            rest: String::new(),
            why: String::new(),
        },
        Verdict::Stuck => ReceiptWords {
            good: false,
            who: format!("{model} still holds"),
            amount: bytes(receipt.ram.held_bytes),
            rest: match receipt.pid {
                Some(pid) => format!("after {time}: process {pid} cannot be ended"),
                None => format!("after {time}: its process cannot be ended"),
            },
            why: why(receipt),
        },
        Verdict::Returned | Verdict::Residual if !held => ReceiptWords {
            good: receipt.verdict == Verdict::Returned,
            who: format!("{model} ended"),
            amount: String::new(),
            rest: format!("after {time}, before anything of it was measured"),
            why: why(receipt),
        },
        Verdict::Returned => ReceiptWords {
            good: true,
            who: format!("{model} gave back"),
            amount: amount(receipt),
            rest: format!("in {time}"),
            why: format!("measured \u{b7} {}", why(receipt)),
        },
        Verdict::Residual => ReceiptWords {
            good: false,
            who: format!("{model} gave back"),
            amount: amount(receipt),
            rest: format!("in {time}. {}.", left(receipt).trim_end_matches('.')),
            why: why(receipt),
        },
    }
}

fn amount(receipt: &Receipt) -> String {
    let mut parts = Vec::new();
    if receipt.ram.held_bytes > 0 || receipt.gpus.is_empty() {
        parts.push(part_of(receipt.ram.returned_bytes, receipt.ram.held_bytes));
    }
    for gpu in &receipt.gpus {
        parts.push(format!("{} on GPU {}", part_of(gpu.returned_bytes, gpu.held_bytes), gpu.index));
    }
    parts.join(" and ")
}

fn left(receipt: &Receipt) -> String {
    let residual =
        receipt.ram.residual_bytes + receipt.gpus.iter().map(|gpu| gpu.residual_bytes).sum::<u64>();
    if receipt.left.is_empty() {
        format!("{} did not come back", bytes(residual))
    } else {
        format!("{} did not come back: {}", bytes(residual), receipt.left.join("; "))
    }
}

/// Why it was unloaded, and by whom where somebody asked: `asked by the page`.
pub fn why_it_went(receipt: &Receipt) -> String {
    match receipt.reason {
        Reason::Asked => format!("asked by {}", receipt.asked_by),
        Reason::Idle if receipt.asked_by == protocol::LAST_SESSION => {
            "the last session that used it had ended".to_owned()
        }
        Reason::Idle => "its idle timeout ended".to_owned(),
        Reason::Evicted => "evicted to make room".to_owned(),
        Reason::Reload => format!("reinitialised by {}", receipt.asked_by),
        Reason::Shutdown => "the server stopped".to_owned(),
        Reason::Failed => "it had failed".to_owned(),
    }
}

/// How a worker ended, in words.
pub fn method(method: Method) -> &'static str {
    match method {
        Method::Exit => "itself, when told to go",
        Method::Terminated => "a termination signal",
        Method::Killed => "a kill",
        Method::Unknown => "something unknown",
        Method::None => "nothing: there was no process",
    }
}

fn why(receipt: &Receipt) -> String {
    let mut parts = vec![why_it_went(receipt)];
    match receipt.method {
        Method::Terminated => parts.push("had to be terminated".to_owned()),
        Method::Killed => parts.push("had to be killed".to_owned()),
        Method::Exit | Method::Unknown | Method::None => {}
    }
    if receipt.cut_off_requests > 0 {
        parts.push(format!("{} cut off", count(u64::from(receipt.cut_off_requests), "request")));
    }
    // Evidence beside the proof: others take and give meanwhile.
    if let Some(evidence) = receipt.evidence {
        let plus = if evidence.free_bytes < 0 { "" } else { "+" };
        parts.push(format!("machine: {plus}{} free", signed(evidence.free_bytes)));
    }
    parts.join(" \u{b7} ")
}

fn sentence_end(said: String) -> String {
    // A capital letter would change a model's name, so only the stop is added.
    let stop = sentence(&said).ends_with('.') && !said.ends_with('.');
    if stop { said + "." } else { said }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn memory_that_came_back_is_told_with_its_proof() {
        let words = receipt(&example::receipt("smollm2", 34_708_000, 34_708_000));
        assert_eq!(words.text(), "smollm2 gave back 33.1 of 33.1 MiB in 12 ms, measured.");
        assert_eq!(words.why, "measured \u{b7} asked by the page");
    }

    #[test]
    fn how_the_machine_changed_stands_beside_the_proof() {
        let mut one = example::receipt("smollm2", 34_708_000, 34_708_000);
        one.evidence = Some(protocol::Evidence { free_bytes: 21 << 20, shared_bytes: 0 });
        assert_eq!(receipt(&one).why, "measured \u{b7} asked by the page \u{b7} machine: +21.0 MiB free");
    }

    #[test]
    fn memory_that_stayed_is_told_with_its_holder() {
        let mut one = example::receipt("whisper", 1_400 << 20, 888 << 20);
        one.left = vec!["held by process 4121".to_owned()];
        let words = receipt(&one);
        assert!(!words.good);
        assert_eq!(
            words.text(),
            "whisper gave back 0.87 of 1.37 GiB in 12 ms. 512 MiB did not come back: held by process 4121."
        );
    }

    #[test]
    fn an_idle_model_went_for_its_timeout_or_for_its_last_session() {
        let mut one = example::receipt("smollm2", 34_708_000, 34_708_000);
        (one.reason, one.asked_by) = (Reason::Idle, "idle timer".to_owned());
        assert_eq!(receipt(&one).why, "measured \u{b7} its idle timeout ended");
        one.asked_by = protocol::LAST_SESSION.to_owned();
        assert_eq!(receipt(&one).why, "measured \u{b7} the last session that used it had ended");
    }

    #[test]
    fn what_was_not_loaded_gave_nothing_back() {
        let at = protocol::Time::from_unix_ms(0);
        let one = Receipt::not_loaded("smollm2".parse().unwrap(), "the page".to_owned(), at);
        assert_eq!(receipt(&one).text(), "smollm2 was not loaded.");
    }

    #[test]
    fn a_load_that_was_killed_claims_no_measurement() {
        let mut one = example::receipt("smollm2", 0, 0);
        one.method = Method::Killed;
        let words = receipt(&one);
        assert_eq!(words.text(), "smollm2 ended after 12 ms, before anything of it was measured.");
        assert_eq!(words.why, "asked by the page \u{b7} had to be killed");
    }
}
