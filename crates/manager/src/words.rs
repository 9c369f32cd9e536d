//! Every sentence in which the manager refuses something or ends a request: cause, then what to do.

use protocol::{Code, Problem};

use crate::event::Answer;

pub(crate) fn stopped() -> Problem {
    Problem::new(Code::Draining, "The server is stopping.", "Ask again when it has started anew.").retry_after(5)
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
