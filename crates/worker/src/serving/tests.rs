//! What the server would see of a worker, whatever orders come in whatever order.

use std::collections::BTreeMap;

use link::{Embed, Finish, Prompt, Sampling, Timings, Usage};
use proptest::{collection::vec, prelude::*};

use super::*;

/// Makes one token a step of each request that is not paused, until its `max_tokens`.
#[derive(Debug, Default)]
struct Counter {
    running: BTreeMap<u64, (u32, bool, bool)>,
    steps: u64,
}

impl Engine for Counter {
    fn admit(&mut self, request: Generate) -> Result<Admitted, Refusal> {
        let Some(tokens) = request.sampling.max_tokens else {
            return Err(Refusal { code: ErrorCode::BadRequest, message: "No end.".into() });
        };
        self.running.insert(request.id, (tokens, false, false));
        Ok(Admitted { prompt_tokens: 1, cached_tokens: 0 })
    }

    fn cancel(&mut self, id: u64) {
        if let Some(one) = self.running.get_mut(&id) {
            one.2 = true;
        }
    }

    fn pause(&mut self, id: u64, paused: bool) {
        if let Some(one) = self.running.get_mut(&id) {
            one.1 = paused;
        }
    }

    fn step(&mut self, out: &mut dyn FnMut(Made)) -> bool {
        self.running.retain(|&id, (left, paused, cancelled)| {
            let finish = match (*cancelled, *paused, *left) {
                (true, ..) => Finish::Cancelled,
                (false, true, _) => return true,
                (false, false, 0) => Finish::Length,
                (false, false, _) => {
                    *left -= 1;
                    out(Made::Token { id, text: "x".into() });
                    return true;
                }
            };
            let (usage, timings) = (Usage::default(), Timings::default());
            out(Made::Done { id, text: String::new(), finish, usage, timings });
            false
        });
        self.steps += 1;
        self.running.values().any(|(_, paused, _)| !paused)
    }

    fn embed(&mut self, order: &Embed) -> Result<Vectors, Refusal> {
        Ok(Vectors { vectors: order.texts.iter().map(|_| vec![1.0]).collect(), prompt_tokens: 1 })
    }

    fn end_session(&mut self, _session: &str) -> u64 {
        7
    }

    fn set_threads(&mut self, n: u32) {
        assert!(n > 0);
    }

    fn steps(&self) -> u64 {
        self.steps
    }
}

fn generate(id: u64, credits: u32, max_tokens: Option<u32>) -> ToWorker {
    let sampling = Sampling { max_tokens, ..Sampling::greedy() };
    let prompt = Prompt::Text(String::new());
    ToWorker::Generate(Generate { id, session: String::new(), prompt, sampling, credits })
}

fn step(serving: &mut Serving<Counter>) -> (Vec<FromWorker>, bool) {
    let mut said = Vec::new();
    let more = serving.step(&mut |_, _| {}, &mut |message| said.push(message));
    (said, more)
}

fn take(serving: &mut Serving<Counter>, order: ToWorker) -> Vec<FromWorker> {
    let mut said = Vec::new();
    serving.take(order, &mut |_, _| {}, &mut |message| said.push(message));
    said
}

#[test]
fn a_request_without_credit_waits_and_costs_nothing() {
    let mut serving = Serving::new(Counter::default());
    take(&mut serving, generate(1, 2, Some(9)));
    assert_eq!(step(&mut serving).0.len(), 1);
    assert_eq!(step(&mut serving).0.len(), 1);
    assert_eq!(step(&mut serving), (vec![], false), "out of credit, nothing to do at once");
    take(&mut serving, ToWorker::Credit { id: 1, tokens: 1 });
    assert_eq!(step(&mut serving).0, [FromWorker::Token { id: 1, seq: 2, text: "x".into() }]);
    assert_eq!(step(&mut serving).0, []);
}

#[test]
fn a_cancelled_request_ends_within_one_step_even_without_credit() {
    let mut serving = Serving::new(Counter::default());
    for (id, credits) in [(1, 0), (2, 1), (3, 50)] {
        take(&mut serving, generate(id, credits, Some(100)));
    }
    step(&mut serving);
    for id in [1, 2, 3] {
        take(&mut serving, ToWorker::Cancel { id });
    }
    let (said, more) = step(&mut serving);
    let ends = |message: &FromWorker| matches!(message, FromWorker::Done { finish: Finish::Cancelled, .. });
    assert!(said.len() == 3 && said.iter().all(ends) && !more, "{said:?}");
}

#[test]
fn a_refused_request_gets_its_error_and_no_second_word() {
    let mut serving = Serving::new(Counter::default());
    let said = take(&mut serving, generate(5, 64, None));
    assert!(matches!(said.as_slice(), [FromWorker::Error { id: Some(5), .. }]), "{said:?}");
    assert_eq!(step(&mut serving), (vec![], false));
}

#[derive(Clone, Debug)]
enum Do {
    Start(u32, u32),
    Credit(u64, u32),
    Cancel(u64),
    Step,
}

fn deeds() -> impl Strategy<Value = Vec<Do>> {
    let deed = prop_oneof![
        2 => (0_u32..6, 0_u32..12).prop_map(|(credits, tokens)| Do::Start(credits, tokens)),
        3 => (1_u64..8, 0_u32..6).prop_map(|(id, tokens)| Do::Credit(id, tokens)),
        1 => (1_u64..8).prop_map(Do::Cancel),
        6 => Just(Do::Step),
    ];
    vec(deed, 0..80)
}

/// What the server would see of each request: credit given, tokens got, ends.
#[derive(Debug, Default)]
struct Seen {
    granted: u32,
    tokens: u32,
    ends: u32,
}

fn check(seen: &mut BTreeMap<u64, Seen>, said: Vec<FromWorker>) {
    for message in said {
        match message {
            FromWorker::Started { id, .. } => assert_eq!(seen[&id].tokens, 0),
            FromWorker::Token { id, seq, .. } => {
                let one = seen.get_mut(&id).unwrap();
                assert_eq!(seq, one.tokens, "no gap");
                one.tokens += 1;
                assert!(one.tokens <= one.granted && one.ends == 0, "{id}: {one:?}");
            }
            FromWorker::Done { id, .. } => {
                let one = seen.get_mut(&id).unwrap();
                one.ends += 1;
                assert_eq!(one.ends, 1);
            }
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn credit_is_never_overdrawn_and_every_request_ends_exactly_once(deeds in deeds()) {
        let mut serving = Serving::new(Counter::default());
        let mut seen: BTreeMap<u64, Seen> = BTreeMap::new();
        for deed in deeds {
            let said = match deed {
                Do::Start(credits, tokens) => {
                    let id = seen.len() as u64 + 1;
                    seen.insert(id, Seen { granted: credits, ..Seen::default() });
                    take(&mut serving, generate(id, credits, Some(tokens)))
                }
                Do::Credit(id, tokens) => {
                    if let Some(one) = seen.get_mut(&id) {
                        one.granted += tokens;
                    }
                    take(&mut serving, ToWorker::Credit { id, tokens })
                }
                Do::Cancel(id) => take(&mut serving, ToWorker::Cancel { id }),
                Do::Step => step(&mut serving).0,
            };
            check(&mut seen, said);
        }
        // Enough credit for all, then each has ended once.
        for id in 1..=seen.len() as u64 {
            take(&mut serving, ToWorker::Credit { id, tokens: 100 });
            seen.get_mut(&id).unwrap().granted += 100;
        }
        for _ in 0..20 {
            let said = step(&mut serving).0;
            check(&mut seen, said);
        }
        prop_assert!(seen.values().all(|one| one.ends == 1), "{:?}", seen);
    }
}

#[test]
fn what_is_held_is_looked_at_before_the_last_end_is_told() {
    let mut serving = Serving::new(Counter::default());
    take(&mut serving, generate(1, 9, Some(1)));
    let said = std::cell::RefCell::new(Vec::new());
    let mut look = |at_rest: Option<(u64, bool)>, _: Say<'_>| {
        said.borrow_mut().push(if at_rest.is_some() { "at rest" } else { "busy" });
    };
    let mut say = |message: FromWorker| {
        said.borrow_mut().push(match message {
            FromWorker::Token { .. } => "token",
            FromWorker::Done { .. } => "done",
            FromWorker::Embedded { .. } => "vectors",
            _ => "else",
        });
    };
    while serving.step(&mut look, &mut say) {}
    let embed = ToWorker::Embed(Embed { id: 2, texts: vec![String::new()] });
    serving.take(embed, &mut look, &mut say);
    assert_eq!(said.into_inner(), ["token", "busy", "at rest", "done", "at rest", "vectors"]);
}
