//! Receipts in words, and what they mean for the exit code.

use app::words::receipt;
use protocol::{Receipt, Verdict};

use super::{output::Output, trouble::Trouble};

/// `smollm2 gave back 33.1 of 33.1 MiB in 12 ms (measured · asked by api 127.0.0.1)`.
pub(crate) fn line(one: &Receipt) -> String {
    let words = receipt(one);
    if words.why.is_empty() || words.amount.is_empty() {
        return words.text();
    }
    format!("{} {} {} ({})", words.who, words.amount, words.rest, words.why)
}

/// Says them all; memory that did not come back is an error of its own.
pub(crate) fn say(receipts: &[Receipt], out: &mut Output) -> Result<(), Trouble> {
    for one in receipts {
        out.line(&line(one))?;
    }
    all_returned(receipts)
}

/// Whether the exit code may be 0.
pub(crate) fn all_returned(receipts: &[Receipt]) -> Result<(), Trouble> {
    let kept = receipts.iter().any(|one| matches!(one.verdict, Verdict::Residual | Verdict::Stuck));
    if kept { Err(Trouble::NotReturned) } else { Ok(()) }
}

#[cfg(test)]
pub(super) mod tests {
    use protocol::{Method, RamReturn, Reason, Time};

    use super::*;
    use crate::cli::output::tests::pages;

    pub(crate) fn receipt_of(verdict: Verdict, held: u64, returned: u64) -> Receipt {
        Receipt {
            id: 7,
            model: "smollm2".parse().unwrap(),
            pid: Some(4121),
            reason: Reason::Asked,
            asked_by: "api 127.0.0.1".to_owned(),
            at: Time::from_unix_ms(0),
            duration_ms: 12,
            method: Method::Exit,
            ram: RamReturn { held_bytes: held, returned_bytes: returned, residual_bytes: held - returned },
            gpus: Vec::new(),
            verdict,
            cut_off_requests: 0,
            left: Vec::new(),
            evidence: None,
            server_bytes: None,
        }
    }

    #[test]
    fn a_receipt_is_a_sentence_with_its_proof() {
        let one = receipt_of(Verdict::Returned, 34_708_000, 34_708_000);
        assert_eq!(
            line(&one),
            "smollm2 gave back 33.1 of 33.1 MiB in 12 ms (measured \u{b7} asked by api 127.0.0.1)"
        );
        let none = Receipt::not_loaded("smollm2".parse().unwrap(), String::new(), Time::from_unix_ms(0));
        assert_eq!(line(&none), "smollm2 was not loaded.");
    }

    #[test]
    fn memory_that_stayed_is_said_and_ends_with_code_5() {
        let (mut out, page, _) = pages(false);
        let receipts = [
            receipt_of(Verdict::Returned, 8 << 20, 8 << 20),
            receipt_of(Verdict::Residual, 8 << 20, 4 << 20),
        ];
        let trouble = say(&receipts, &mut out).unwrap_err();
        assert_eq!(trouble.exit_code(), 5);
        assert!(page.text().contains("4.00 MiB did not come back"), "{}", page.text());
        assert!(all_returned(&receipts[..1]).is_ok());
    }
}
