//! One task a request: takes the lease, talks to the worker, and owns the lease until the worker has said its last
//! word. A reader that goes away only cancels, so a worker that still computes is never counted idle.

use std::time::Duration;

use link::{Finish, Prompt, Sampling, Timings, Usage};
use manager::{Lease, LeaseWish, SessionWish};
use protocol::{Code, IdleTimeout, ModelId, ModelKind, Problem, RequestState};
use supervisor::{Ask as WorkerAsk, Event, Generation, Instance};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use crate::{compose::House, past::Course};

/// Words that may wait for a slow reader before the worker runs out of credit.
const ROOM: usize = 32;
/// A reader that takes nothing for so long is given up.
const READER: Duration = Duration::from_secs(30);

/// What is wanted.
pub(crate) struct Ask {
    pub(crate) id: String,
    pub(crate) model: ModelId,
    pub(crate) prompt: Prompt,
    pub(crate) sampling: Sampling,
    pub(crate) idle_timeout: Option<IdleTimeout>,
    pub(crate) session: SessionWish,
}

/// What comes back, in order: `Started`, `Text`..., then exactly one `Done` or `Failed`.
#[derive(Debug)]
pub(crate) enum Word {
    Started,
    Text(String),
    Done(Finished),
    Failed(Problem),
}

/// The end of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished {
    pub(crate) finish: Finish,
    pub(crate) usage: Usage,
    pub(crate) timings: Timings,
    /// Waited for the lease, a load included.
    pub(crate) queue_ms: u64,
    /// Of that, the load, if one happened for this request.
    pub(crate) load_ms: Option<u64>,
    /// From the request to the first text.
    pub(crate) ttft_ms: Option<u64>,
}

/// The reader's end. Dropping it cancels the request.
pub(crate) struct Words(mpsc::Receiver<Word>);

impl Words {
    /// The next word; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Option<Word> {
        self.0.recv().await
    }
}

/// What to say when the relay itself is gone.
pub(crate) fn lost() -> Problem {
    Problem::new(
        Code::Internal,
        "The answer broke off inside the server.",
        "Try again; the server's log says more.",
    )
}

/// Begins a request. What can be told at once (no such model, wrong kind) is told at once; the rest comes as words.
pub(crate) async fn begin(house: &House, ask: Ask) -> Result<Words, Problem> {
    let model = house.find(&ask.model).await?;
    if model.kind != ModelKind::Chat {
        return Err(Problem::new(
            Code::WrongKind,
            format!("`{}` makes embeddings and answers no conversations.", model.id),
            "Use a chat model, such as smollm2, or POST /v1/embeddings.",
        ));
    }
    let (words, reader) = mpsc::channel(ROOM);
    let owned = house.clone();
    house.tasks().spawn(async move { carry(&owned, ask, words).await });
    Ok(Words(reader))
}

async fn carry(house: &House, ask: Ask, words: mpsc::Sender<Word>) {
    let arrived = Instant::now();
    let wish = LeaseWish {
        model: ask.model.clone(),
        request: ask.id,
        client: ask.session.label.clone(),
        session: Some(ask.session.clone()),
        idle_timeout: ask.idle_timeout,
        context: None,
    };
    let mut course = Course::new(ask.model, arrived);
    let leased = tokio::select! {
        biased;
        () = words.closed() => return house.record(course, Err(Code::Cancelled)),
        leased = house.handle().lease(wish) => leased,
    };
    let last = match leased {
        Err(problem) => Word::Failed(problem),
        Ok(lease) => {
            course.leased(lease.queue_ms(), lease.load_ms(), lease.meter());
            let order = WorkerAsk { session: ask.session.key, prompt: ask.prompt, sampling: ask.sampling };
            Relay { arrived, lease, words: &words, cancelled: None, ttft_ms: None }.run(order).await
        }
    };
    let outcome = match &last {
        Word::Done(finished) => {
            course.answered(finished);
            Ok(())
        }
        Word::Failed(problem) => Err(problem.code),
        // Never the last word.
        Word::Started | Word::Text(_) => Err(Code::Internal),
    };
    house.record(course, outcome);
    // The reader may be gone by now; then nobody needs the last word.
    let _ = timeout(READER, words.send(last)).await;
}

/// Why the relay itself cancelled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cancelled {
    ReaderGone,
    ReaderSlow,
    /// By the manager; the meter says why.
    Told,
}

struct Relay<'a> {
    arrived: Instant,
    lease: Lease<Instance>,
    words: &'a mpsc::Sender<Word>,
    cancelled: Option<Cancelled>,
    ttft_ms: Option<u64>,
}

impl Relay<'_> {
    /// Carries words until the worker's last one, which is returned. The lease goes back when this returns.
    async fn run(mut self, order: WorkerAsk) -> Word {
        let meter = self.lease.meter().clone();
        meter.set_state(RequestState::Prefill);
        let mut generation = self.lease.instance().generate(order);
        loop {
            let event = tokio::select! {
                biased;
                () = self.words.closed(), if self.cancelled.is_none() => { self.cancel(&generation, Cancelled::ReaderGone); continue }
                () = meter.cancelled().cancelled(), if self.cancelled.is_none() => { self.cancel(&generation, Cancelled::Told); continue }
                event = generation.next() => event,
            };
            match event {
                Some(Event::Started { prompt_tokens, .. }) => {
                    meter.set_prompt_tokens(u64::from(prompt_tokens));
                    self.send(&generation, Word::Started).await;
                }
                Some(Event::Token { text }) => {
                    meter.set_state(RequestState::Decode);
                    meter.add_completion_tokens(1);
                    self.text(&generation, text).await;
                }
                Some(Event::Done { text, finish, usage, timings }) => {
                    self.text(&generation, text).await;
                    return self.last(finish, usage, timings);
                }
                Some(Event::Error(problem)) => return Word::Failed(problem),
                None => return Word::Failed(lost()),
            }
        }
    }

    fn cancel(&mut self, generation: &Generation, why: Cancelled) {
        self.cancelled = Some(why);
        self.lease.meter().set_state(RequestState::Cancelling);
        generation.cancel();
    }

    async fn text(&mut self, generation: &Generation, text: String) {
        if !text.is_empty() {
            self.ttft_ms.get_or_insert_with(|| ms(self.arrived));
            self.send(generation, Word::Text(text)).await;
        }
    }

    async fn send(&mut self, generation: &Generation, word: Word) {
        if self.cancelled.is_none() && timeout(READER, self.words.send(word)).await.is_err() {
            self.cancel(generation, Cancelled::ReaderSlow);
        }
    }

    fn last(&self, finish: Finish, usage: Usage, timings: Timings) -> Word {
        let problem =
            match (finish, self.cancelled) {
                (Finish::Cancelled, Some(Cancelled::ReaderSlow)) => Problem::new(
                    Code::Cancelled,
                    "Nothing was read for 30 s, so the answer was given up.",
                    "Ask again, and read.",
                ),
                (Finish::Cancelled, _) => self.lease.meter().why().cloned().unwrap_or_else(|| {
                    Problem::new(Code::Cancelled, "The request was cancelled.", "Ask again.")
                }),
                _ => {
                    return Word::Done(Finished {
                        finish,
                        usage,
                        timings,
                        queue_ms: self.lease.queue_ms(),
                        load_ms: self.lease.load_ms(),
                        ttft_ms: self.ttft_ms,
                    });
                }
            };
        Word::Failed(problem)
    }
}

/// Milliseconds since then.
pub(crate) fn ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
