//! The requests that an engine works on: credits, sequence numbers, and exactly one end for each. Knows no channel.

use std::collections::HashMap;

use link::{ErrorCode, FromWorker, Generate, ToWorker};

use crate::port::{Admitted, Engine, Made, Refusal, Vectors};

/// Where a word to the server goes.
pub(crate) type Say<'a> = &'a mut dyn FnMut(FromWorker);

/// What is done before the ends of requests are told: whoever hears of an end may have this process ended at once. Given
/// what [`Serving::at_rest`] says.
pub(crate) type Look<'a> = &'a mut dyn FnMut(Option<(u64, bool)>, Say<'_>);

#[derive(Debug)]
struct Running {
    credits: u32,
    next_seq: u32,
}

/// An engine with what it works on.
#[derive(Debug)]
pub(crate) struct Serving<E> {
    engine: E,
    running: HashMap<u64, Running>,
}

impl<E: Engine> Serving<E> {
    pub(crate) fn new(engine: E) -> Self {
        Self { engine, running: HashMap::new() }
    }

    /// Grows with everything that the engine does.
    pub(crate) fn steps(&self) -> u64 {
        self.engine.steps()
    }

    /// What its engine keeps for sessions, and whether it has taken the largest step that there is. `None`: a request is
    /// there.
    fn at_rest(&self) -> Option<(u64, bool)> {
        self.running.is_empty().then(|| (self.engine.kept_bytes(), self.engine.is_full()))
    }

    /// Takes an order.
    pub(crate) fn take(&mut self, order: ToWorker, look: Look<'_>, say: Say<'_>) {
        match order {
            ToWorker::Generate(request) => self.admit(request, say),
            ToWorker::Embed(order) => {
                let made = match self.engine.embed(&order).and_then(laid_out) {
                    Ok((width, numbers, prompt_tokens)) => {
                        FromWorker::Embedded { id: order.id, width, numbers, prompt_tokens }
                    }
                    Err(refusal) => error(Some(order.id), refusal),
                };
                look(self.at_rest(), say);
                say(made);
            }
            ToWorker::Credit { id, tokens } => {
                if let Some(running) = self.running.get_mut(&id) {
                    let was_out = running.credits == 0;
                    running.credits = running.credits.saturating_add(tokens);
                    if was_out && tokens > 0 {
                        self.engine.pause(id, false);
                    }
                }
            }
            ToWorker::Cancel { id } => self.engine.cancel(id),
            ToWorker::EndSession { session } => {
                let released_bytes = self.engine.end_session(&session);
                say(FromWorker::SessionEnded { session, released_bytes });
            }
            ToWorker::Threads { n } => self.engine.set_threads(n.max(1)),
            ToWorker::Inspect(_) | ToWorker::Load(_) => say(error(None, not_again())),
            // The reader's.
            ToWorker::Hello(_) | ToWorker::Ping { .. } | ToWorker::Shutdown => {}
        }
    }

    /// One step of the engine. Returns whether the next may follow at once.
    pub(crate) fn step(&mut self, look: Look<'_>, say: Say<'_>) -> bool {
        let (mut out_of_credit, mut ends) = (Vec::new(), Vec::new());
        let running = &mut self.running;
        let more = self.engine.step(&mut |made| match made {
            Made::Token { id, text } => {
                let Some(one) = running.get_mut(&id) else { return };
                say(FromWorker::Token { id, seq: one.next_seq, text });
                one.next_seq += 1;
                one.credits = one.credits.saturating_sub(1);
                if one.credits == 0 {
                    out_of_credit.push(id);
                }
            }
            Made::Done { id, text, finish, usage, timings } => {
                if running.remove(&id).is_some() {
                    ends.push(FromWorker::Done { id, text, finish, usage, timings });
                }
            }
            Made::Failed { id, refusal } => {
                if running.remove(&id).is_some() {
                    ends.push(error(Some(id), refusal));
                }
            }
            Made::Held { session, bytes } => say(FromWorker::Held { session, bytes }),
        });
        for id in out_of_credit.into_iter().filter(|id| self.running.contains_key(id)) {
            self.engine.pause(id, true);
        }
        look(self.at_rest(), say);
        ends.into_iter().for_each(say);
        more
    }

    fn admit(&mut self, request: Generate, say: Say<'_>) {
        let (id, credits) = (request.id, request.credits);
        if self.running.contains_key(&id) {
            // The server's fault; an answer would be a second end for the first of the two.
            return crate::log(&format!("The server used the number {id} twice."));
        }
        match self.engine.admit(request) {
            Ok(Admitted { prompt_tokens, cached_tokens }) => {
                self.running.insert(id, Running { credits, next_seq: 0 });
                say(FromWorker::Started { id, prompt_tokens, cached_tokens });
                if credits == 0 {
                    self.engine.pause(id, true);
                }
            }
            Err(refusal) => say(error(Some(id), refusal)),
        }
    }
}

/// Vectors of one width, one after another.
fn laid_out(Vectors { vectors, prompt_tokens }: Vectors) -> Result<(u32, Vec<f32>, u32), Refusal> {
    let width = vectors.first().map_or(0, Vec::len);
    if vectors.iter().any(|vector| vector.len() != width) {
        let message = "The engine made vectors of several widths.".into();
        return Err(Refusal { code: ErrorCode::Internal, message });
    }
    Ok((u32::try_from(width).unwrap_or(u32::MAX), vectors.concat(), prompt_tokens))
}

/// The engine's no, as a message.
pub(crate) fn error(id: Option<u64>, refusal: Refusal) -> FromWorker {
    FromWorker::Error { id, code: refusal.code, message: refusal.message }
}

fn not_again() -> Refusal {
    Refusal { code: ErrorCode::BadRequest, message: "A model is loaded already.".into() }
}

#[cfg(test)]
mod tests;
