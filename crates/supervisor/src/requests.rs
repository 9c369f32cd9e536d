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
            let wish = running.answer.wish();
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
            running.answer.wish().cancelled.store(true, Ordering::Release);
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
            FromWorker::Embedded { id, width, numbers, prompt_tokens } => {
                self.take_vectors(id, width, &numbers, prompt_tokens)
            }
            FromWorker::Error { id: Some(id), code, message } => {
                let running = self.running.remove(&id).ok_or(Breach::UnknownRequest)?;
                running.answer.fail(refusal(code, message));
                Ok(())
            }
            _ => Err(Breach::OutOfPlace),
        }
    }

    /// As many as there were texts, of one width; what was asked otherwise is not ended by it.
    fn take_vectors(
        &mut self,
        id: u64,
        width: u32,
        numbers: &[f32],
        prompt_tokens: u32,
    ) -> Result<(), Breach> {
        let running = self.running.get(&id).ok_or(Breach::UnknownRequest)?;
        let Answer::Vectors { texts, .. } = running.answer else { return Err(Breach::WrongAnswer) };
        let width = width as usize;
        if width == 0 || width.checked_mul(texts) != Some(numbers.len()) {
            return Err(Breach::WrongAnswer);
        }
        if let Some(Running { answer: Answer::Vectors { answer, .. }, .. }) = self.running.remove(&id) {
            let vectors = numbers.chunks_exact(width).map(<[f32]>::to_vec).collect();
            drop(answer.send(Ok(Vectors { vectors, prompt_tokens })));
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{Semaphore, mpsc, oneshot};

    use super::*;
    use crate::inbox::Wish;

    struct Held {
        requests: Requests,
        events: mpsc::Receiver<Event>,
        wish: Arc<Wish>,
        vectors: oneshot::Receiver<Result<Vectors, Problem>>,
        places: Arc<Semaphore>,
    }

    /// One generation as number 1, one embedding as number 2, in the two places that there are.
    fn held() -> Held {
        let places = Arc::new(Semaphore::new(2));
        let place = || Arc::clone(&places).try_acquire_owned().unwrap();
        let (events, receiver) = mpsc::channel(CREDITS as usize + 2);
        let (answer, vectors) = oneshot::channel();
        let wish = Arc::new(Wish::default());
        let mut requests = Requests::default();
        let tokens = Answer::Tokens { events, wish: Arc::clone(&wish) };
        requests.add(Posted { id: 1, frame: Vec::new(), answer: tokens, place: place() });
        requests.add(Posted {
            id: 2,
            frame: Vec::new(),
            answer: Answer::Vectors { answer, texts: 2, wish: Arc::default() },
            place: place(),
        });
        Held { requests, events: receiver, wish, vectors, places }
    }

    fn token(id: u64, seq: u32) -> FromWorker {
        FromWorker::Token { id, seq, text: String::new() }
    }

    fn refused(id: Option<u64>) -> FromWorker {
        FromWorker::Error { id, code: ErrorCode::BadRequest, message: "No.".into() }
    }

    fn problem() -> Problem {
        Problem::new(Code::WorkerDied, "It died.", "")
    }

    #[test]
    fn more_tokens_than_credit_are_a_breach() {
        let mut held = held();
        for seq in 0..CREDITS {
            assert_eq!(held.requests.hear(token(1, seq)), Ok(()));
        }
        assert_eq!(held.requests.hear(token(1, CREDITS)), Err(Breach::Overdrawn));
    }

    #[test]
    fn a_gap_a_stranger_and_a_wrong_answer_are_breaches() {
        let mut held = held();
        let embedded = |id| FromWorker::Embedded { id, width: 1, numbers: vec![0.5; 2], prompt_tokens: 0 };
        assert_eq!(held.requests.hear(token(1, 1)), Err(Breach::Gap));
        assert_eq!(held.requests.hear(token(3, 0)), Err(Breach::UnknownRequest));
        assert_eq!(held.requests.hear(token(2, 0)), Err(Breach::WrongAnswer));
        assert_eq!(held.requests.hear(embedded(1)), Err(Breach::WrongAnswer));
        assert_eq!(held.requests.hear(refused(None)), Err(Breach::OutOfPlace));
        // None of this has ended anything.
        assert_eq!(held.requests.fail_all(&problem()), 2);
    }

    #[test]
    fn as_many_vectors_come_as_there_were_texts_or_it_is_a_breach() {
        let mut held = held();
        let embedded = |width, numbers: &[f32]| FromWorker::Embedded {
            id: 2,
            width,
            numbers: numbers.to_vec(),
            prompt_tokens: 9,
        };
        for (width, numbers) in
            [(0, &[][..]), (0, &[1.0]), (2, &[1.0; 3]), (1, &[1.0; 3]), (u32::MAX, &[1.0; 2])]
        {
            assert_eq!(held.requests.hear(embedded(width, numbers)), Err(Breach::WrongAnswer), "{width}");
        }
        held.requests.hear(embedded(2, &[1.0, 2.0, 3.0, 4.0])).unwrap();
        let got = held.vectors.try_recv().unwrap().unwrap();
        assert_eq!(got, Vectors { vectors: vec![vec![1.0, 2.0], vec![3.0, 4.0]], prompt_tokens: 9 });
    }

    #[test]
    fn credit_follows_what_was_taken_and_ends_with_a_cancel() {
        let mut held = held();
        assert_eq!(held.requests.wishes(), []);
        held.wish.taken.store(5, Ordering::Relaxed);
        assert_eq!(held.requests.wishes(), [ToWorker::Credit { id: 1, tokens: 5 }]);
        assert_eq!(held.requests.wishes(), []);
        held.wish.taken.store(7, Ordering::Relaxed);
        held.requests.cancel_all();
        let mut told = held.requests.wishes();
        told.sort_by_key(|wish| *wish == ToWorker::Cancel { id: 2 });
        assert_eq!(told, [ToWorker::Cancel { id: 1 }, ToWorker::Cancel { id: 2 }], "vectors too");
        assert_eq!(held.requests.wishes(), [], "once");
    }

    #[test]
    fn a_worker_whose_requests_all_wait_for_their_readers_is_not_busy() {
        let mut held = held();
        held.requests.hear(refused(Some(2))).unwrap();
        for seq in 0..CREDITS {
            assert!(held.requests.keep_it_busy());
            held.requests.hear(token(1, seq)).unwrap();
        }
        assert!(!held.requests.keep_it_busy());
        held.requests.cancel_all();
        held.requests.wishes();
        assert!(held.requests.keep_it_busy(), "a cancel is work");
    }

    #[test]
    fn each_request_ends_once_and_gives_its_place_back() {
        let mut held = held();
        held.requests.hear(refused(Some(2))).unwrap();
        assert_eq!(held.vectors.try_recv().unwrap().unwrap_err().message, "No.");
        assert_eq!(held.requests.hear(refused(Some(2))), Err(Breach::UnknownRequest));
        assert_eq!(held.requests.fail_all(&problem()), 1);
        assert_eq!(held.events.try_recv(), Ok(Event::Error(problem())));
        assert!(held.events.try_recv().is_err());
        assert_eq!(held.places.available_permits(), 2);
    }
}
