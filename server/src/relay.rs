//! One task a request: takes the lease, talks to the worker, and owns the lease until the worker has said its last
//! word. A reader that goes away only cancels, so a worker that still computes is never counted idle.

use std::time::Duration;

use link::{Finish, Prompt, Sampling, Timings, Usage};
use manager::{LeaseWish, Meter, SessionWish};
use protocol::{Code, IdleTimeout, ModelId, ModelKind, Problem, RequestState};
use supervisor::{Ask as WorkerAsk, Event, Generation};
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
    /// Another than the loaded one is a reload.
    pub(crate) context: Option<u32>,
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
    let model = house.wanted(&ask.model).await?;
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
        context: ask.context,
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
            let generation = lease.instance().generate(order);
            let relay = Relay::new(arrived, lease.meter(), &words);
            match relay.run(generation).await {
                Ok(Whole { finish, usage, timings, ttft_ms }) => Word::Done(Finished {
                    finish,
                    usage,
                    timings,
                    queue_ms: lease.queue_ms(),
                    load_ms: lease.load_ms(),
                    ttft_ms,
                }),
                Err(problem) => Word::Failed(problem),
            }
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

/// What a relay needs of a generation.
trait Source {
    async fn next(&mut self) -> Option<Event>;
    fn cancel(&self);
}

impl Source for Generation {
    async fn next(&mut self) -> Option<Event> {
        Self::next(self).await
    }

    fn cancel(&self) {
        Self::cancel(self);
    }
}

/// Why the relay itself cancelled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cancelled {
    ReaderGone,
    ReaderSlow,
    /// By the manager; the meter says why.
    Told,
}

/// An answer that its reader has been given in full.
#[derive(Debug)]
struct Whole {
    finish: Finish,
    usage: Usage,
    timings: Timings,
    ttft_ms: Option<u64>,
}

struct Relay<'a> {
    arrived: Instant,
    meter: &'a Meter,
    words: &'a mpsc::Sender<Word>,
    cancelled: Option<Cancelled>,
    /// A piece of the answer did not go to its reader.
    withheld: bool,
    ttft_ms: Option<u64>,
}

impl<'a> Relay<'a> {
    fn new(arrived: Instant, meter: &'a Meter, words: &'a mpsc::Sender<Word>) -> Self {
        Self { arrived, meter, words, cancelled: None, withheld: false, ttft_ms: None }
    }

    /// Carries words until the worker's last one.
    async fn run(mut self, mut generation: impl Source) -> Result<Whole, Problem> {
        self.meter.set_state(RequestState::Prefill);
        loop {
            let event = tokio::select! {
                biased;
                () = self.words.closed(), if self.cancelled.is_none() => { self.cancel(&generation, Cancelled::ReaderGone); continue }
                () = self.meter.cancelled().cancelled(), if self.cancelled.is_none() => { self.cancel(&generation, Cancelled::Told); continue }
                event = generation.next() => event,
            };
            match event {
                Some(Event::Started { prompt_tokens, .. }) => {
                    self.meter.set_prompt_tokens(u64::from(prompt_tokens));
                    self.send(&generation, Word::Started).await;
                }
                Some(Event::Token { text }) => {
                    self.meter.set_state(RequestState::Decode);
                    self.meter.add_completion_tokens(1);
                    self.text(&generation, text).await;
                }
                Some(Event::Done { text, finish, usage, timings }) => {
                    self.text(&generation, text).await;
                    // A worker that was done before it heard of the cancel does not make an answer whole whose last
                    // words lie here.
                    if finish == Finish::Cancelled || self.withheld {
                        return Err(self.broken_off());
                    }
                    return Ok(Whole { finish, usage, timings, ttft_ms: self.ttft_ms });
                }
                Some(Event::Error(problem)) => return Err(problem),
                None => return Err(lost()),
            }
        }
    }

    fn cancel(&mut self, generation: &impl Source, why: Cancelled) {
        self.cancelled = Some(why);
        self.meter.set_state(RequestState::Cancelling);
        generation.cancel();
    }

    async fn text(&mut self, generation: &impl Source, text: String) {
        if !text.is_empty() {
            self.ttft_ms.get_or_insert_with(|| ms(self.arrived));
            self.send(generation, Word::Text(text)).await;
        }
    }

    async fn send(&mut self, generation: &impl Source, word: Word) {
        let is_text = matches!(word, Word::Text(_));
        if self.cancelled.is_none() {
            match timeout(READER, self.words.send(word)).await {
                Ok(Ok(())) => return,
                Ok(Err(_)) => self.cancel(generation, Cancelled::ReaderGone),
                Err(_) => self.cancel(generation, Cancelled::ReaderSlow),
            }
        }
        self.withheld |= is_text;
    }

    /// Why the answer is not whole.
    fn broken_off(&self) -> Problem {
        if self.cancelled == Some(Cancelled::ReaderSlow) {
            let message = "Nothing was read for 30 s, so the answer was given up.";
            return Problem::new(Code::Cancelled, message, "Ask again, and read.");
        }
        let told = self.meter.why().cloned();
        told.unwrap_or_else(|| Problem::new(Code::Cancelled, "The request was cancelled.", "Ask again."))
    }
}

/// Milliseconds since then.
pub(crate) fn ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::*;

    /// Events that are there already: the worker said them before it could hear of a cancel.
    #[derive(Default)]
    struct Queued {
        events: VecDeque<Event>,
        cancelled: AtomicBool,
    }

    impl Source for &mut Queued {
        async fn next(&mut self) -> Option<Event> {
            self.events.pop_front()
        }

        fn cancel(&self) {
            self.cancelled.store(true, Ordering::Relaxed);
        }
    }

    /// So many tokens, then the end by itself, with a last piece of text.
    fn whole_answer(tokens: usize, last: &str) -> Queued {
        let token = |_| Event::Token { text: "a1;".to_owned() };
        let usage = Usage::default();
        let done =
            Event::Done { text: last.to_owned(), finish: Finish::Length, usage, timings: Timings::default() };
        Queued { events: (0..tokens).map(token).chain([done]).collect(), ..Queued::default() }
    }

    #[tokio::test]
    async fn an_answer_that_was_all_read_is_whole() {
        let (words, mut reader) = mpsc::channel(ROOM);
        let (mut queued, meter) = (whole_answer(4, ""), Meter::default());
        let whole = Relay::new(Instant::now(), &meter, &words).run(&mut queued).await.unwrap();
        assert_eq!(whole.finish, Finish::Length);
        let mut texts = 0;
        while let Ok(Word::Text(_)) = reader.try_recv() {
            texts += 1;
        }
        assert_eq!(texts, 4);
    }

    #[tokio::test]
    async fn an_answer_whose_last_words_were_withheld_is_never_done() {
        for last in [0, 4] {
            let (words, _reader) = mpsc::channel(ROOM);
            let (mut queued, meter) = (whole_answer(last, "a5;"), Meter::default());
            // An unload that is forced, a grace that ends: the worker's Done lies in the queue by then.
            meter.cancelled().cancel();
            let end = Relay::new(Instant::now(), &meter, &words).run(&mut queued).await;
            assert_eq!(end.unwrap_err().code, Code::Cancelled);
            assert!(queued.cancelled.load(Ordering::Relaxed));
        }
    }

    #[tokio::test]
    async fn an_answer_that_lacks_nothing_is_whole_though_it_was_told_to_stop() {
        let (words, _reader) = mpsc::channel(ROOM);
        let (mut queued, meter) = (whole_answer(0, ""), Meter::default());
        meter.cancelled().cancel();
        assert!(Relay::new(Instant::now(), &meter, &words).run(&mut queued).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stands_for_thirty_seconds_is_told_so_and_not_that_the_answer_is_whole() {
        let (words, _reader) = mpsc::channel(ROOM);
        let (mut queued, meter) = (whole_answer(ROOM + 4, ""), Meter::default());
        let end = Relay::new(Instant::now(), &meter, &words).run(&mut queued).await;
        assert!(end.unwrap_err().message.contains("30 s"));
    }

    #[tokio::test]
    async fn a_reader_that_went_away_has_no_whole_answer() {
        let (words, reader) = mpsc::channel(ROOM);
        drop(reader);
        let (mut queued, meter) = (whole_answer(4, ""), Meter::default());
        let end = Relay::new(Instant::now(), &meter, &words).run(&mut queued).await;
        assert_eq!(end.unwrap_err().code, Code::Cancelled);
    }
}
