//! The requests that a worker holds: who gets what it says, how much credit it has, and that each ends exactly once.
//! Pure: no socket, no clock.

use std::{collections::HashMap, sync::atomic::Ordering};

use link::{ErrorCode, FromWorker, ToWorker};
use protocol::{Code, Problem};
use tokio::sync::{OwnedSemaphorePermit, mpsc::error::TrySendError};

use crate::{
    CREDITS, Event, Vectors,
    inbox::{Answer, Posted},
};

/// The worker said what it may not say; it is ended for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Breach {
    #[error("it spoke of a request that it does not have")]
    UnknownRequest,
    #[error("it sent more tokens than it had credit for")]
    Overdrawn,
    #[error("its tokens have a gap")]
    Gap,
    #[error("it answered another question than it was asked")]
    WrongAnswer,
    #[error("it said something that does not belong here")]
    OutOfPlace,
}

#[derive(Debug)]
struct Running {
    answer: Answer,
    /// Tokens that the worker may still send.
    credit: u32,
    next_seq: u32,
    cancel_sent: bool,
    _place: OwnedSemaphorePermit,
}

/// All that one worker holds.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    running: HashMap<u64, Running>,
}

impl Requests {
    /// Takes a request in; its frame is to be sent.
    pub(crate) fn add(&mut self, posted: Posted) -> Vec<u8> {
        let Posted { id, frame, answer, place } = posted;
        let running = Running { answer, credit: CREDITS, next_seq: 0, cancel_sent: false, _place: place };
        self.running.insert(id, running);
        frame
    }

    /// Whether the worker has something to do: a request that has no credit left waits for its reader.
    pub(crate) fn keep_it_busy(&self) -> bool {
        self.running.values().any(|running| running.credit > 0 || running.cancel_sent)
    }

    /// What to tell the worker, after holders took tokens or went away.
    pub(crate) fn wishes(&mut self) -> Vec<ToWorker> {
        let mut out = Vec::new();
        for (&id, running) in &mut self.running {
            let Answer::Tokens { wish, .. } = &running.answer else { continue };
            if running.cancel_sent {
                continue;
            }
            if wish.cancelled.load(Ordering::Acquire) {
                running.cancel_sent = true;
                out.push(ToWorker::Cancel { id });
                continue;
            }
            let tokens = wish.taken.swap(0, Ordering::AcqRel);
            if tokens > 0 {
                running.credit += tokens;
                out.push(ToWorker::Credit { id, tokens });
            }
        }
        out
    }

    /// Wishes on behalf of every holder that it would stop.
    pub(crate) fn cancel_all(&self) {
        for running in self.running.values() {
            if let Answer::Tokens { wish, .. } = &running.answer {
                wish.cancelled.store(true, Ordering::Release);
            }
        }
    }

    /// Takes in what the worker says about a request.
    pub(crate) fn hear(&mut self, message: FromWorker) -> Result<(), Breach> {
        match message {
            FromWorker::Started { id, prompt_tokens, cached_tokens } => {
                self.tell(id, Event::Started { prompt_tokens, cached_tokens })
            }
            FromWorker::Token { id, seq, text } => {
                let running = self.running.get_mut(&id).ok_or(Breach::UnknownRequest)?;
                if seq != running.next_seq {
                    return Err(Breach::Gap);
                }
                running.credit = running.credit.checked_sub(1).ok_or(Breach::Overdrawn)?;
                running.next_seq += 1;
                self.tell(id, Event::Token { text })
            }
            FromWorker::Done { id, text, finish, usage, timings } => {
                self.tell(id, Event::Done { text, finish, usage, timings })?;
                self.running.remove(&id);
                Ok(())
            }
            FromWorker::Embedded { id, vectors, prompt_tokens } => match self.running.remove(&id) {
                Some(Running { answer: Answer::Vectors(answer), .. }) => {
                    drop(answer.send(Ok(Vectors { vectors, prompt_tokens })));
                    Ok(())
                }
                Some(other) => {
                    self.running.insert(id, other);
                    Err(Breach::WrongAnswer)
                }
                None => Err(Breach::UnknownRequest),
            },
            FromWorker::Error { id: Some(id), code, message } => {
                let running = self.running.remove(&id).ok_or(Breach::UnknownRequest)?;
                running.answer.fail(refusal(code, message));
                Ok(())
            }
            _ => Err(Breach::OutOfPlace),
        }
    }

    /// Ends all that is left with this reason. Returns how many those were.
    pub(crate) fn fail_all(&mut self, problem: &Problem) -> usize {
        let running = std::mem::take(&mut self.running);
        let count = running.len();
        for (_, running) in running {
            running.answer.fail(problem.clone());
        }
        count
    }

    fn tell(&mut self, id: u64, event: Event) -> Result<(), Breach> {
        let running = self.running.get(&id).ok_or(Breach::UnknownRequest)?;
        let Answer::Tokens { events, .. } = &running.answer else { return Err(Breach::WrongAnswer) };
        match events.try_send(event) {
            // A holder that went away has cancelled; nobody hears the rest.
            Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
            Err(TrySendError::Full(_)) => Err(Breach::Overdrawn),
        }
    }
}

/// The engine's no, as a person hears it.
pub(crate) fn refusal(code: ErrorCode, message: String) -> Problem {
    let (code, hint) = match code {
        ErrorCode::BadFile => (Code::UnsupportedModel, "Fetch the file again, or take another one."),
        ErrorCode::Unsupported => (Code::UnsupportedModel, "Take a model of a family that runs here."),
        ErrorCode::BadRequest => (Code::BadArgument, "Change the request."),
        ErrorCode::ContextExceeded => (
            Code::ContextLengthExceeded,
            "Shorten the conversation, or load the model with a larger context.",
        ),
        ErrorCode::OutOfMemory => (Code::OutOfMemory, "Unload another model, or ask for a smaller context."),
        ErrorCode::Internal => (Code::Internal, "Look into the model's log (innkeeper logs MODEL)."),
    };
    Problem::new(code, message, hint)
}
