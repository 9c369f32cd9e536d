//! What a load would do, by the very decision that a load takes. Changes nothing.

use protocol::{Expected, ModelId, Plan, Refused};

use super::{Turn, room::Ask};
use crate::{
    admission::Admission,
    event::{Answer, Ticket},
    model::{Record, ms},
    words,
};

impl Turn<'_> {
    pub(super) fn plan(&mut self, ticket: Ticket, model: &ModelId, context: Option<u32>) {
        self.to(ticket, model, |turn, id, record| {
            let answer = match &record.shelf.trouble {
                // Nothing can be said of what cannot be loaded at all.
                Some(trouble) => Err(trouble.clone()),
                None => Ok(Answer::Plan(Box::new(turn.planned(id, record, context)))),
            };
            turn.answer(ticket, answer);
        });
    }

    fn planned(&self, id: &ModelId, record: &Record, context: Option<u32>) -> Plan {
        let forecast = record.forecast(context);
        let ask = Ask { context, anyway: false, place: None };
        let (mut evict, mut wait_ms, mut waits_for, mut refusal) = (Vec::new(), None, None, None);
        // Only want of room can be gone past; whatever else stands in the way stands in the way of that, too.
        let anyway = || {
            self.held_back(id, record).is_ok() && self.decide(id, record, Ask { anyway: true, ..ask }).is_ok()
        };
        let decision = match self.held_back(id, record) {
            Ok(Some(until)) => {
                waits_for = Some(words::PAUSE.to_owned());
                wait_ms = Some(ms(until.saturating_sub(self.now.mono)));
                Ok(Admission::Now)
            }
            Ok(None) => self.decide(id, record, ask),
            Err(problem) => Err(problem),
        };
        match decision {
            Ok(Admission::Now) => {}
            Ok(Admission::Evict(victims)) => {
                wait_ms = self.eviction_ms(&victims);
                evict = victims;
            }
            Ok(Admission::Later(later)) => {
                waits_for = Some(words::waits_for(&later));
                wait_ms = self.wait_ms(&later, None);
            }
            Err(problem) => refusal = Some(problem),
        }
        Plan {
            model: id.clone(),
            fits: refusal.is_none() && waits_for.is_none(),
            predicted_bytes: forecast.predicted_bytes,
            reserve_bytes: forecast.reserve_bytes(),
            mapped_bytes: forecast.mapped_bytes(),
            prediction: forecast.prediction(),
            free_after_bytes: self.free_after(forecast.reserve_bytes(), ask, &evict),
            evict: evict.into_iter().map(|model| self.expected_back(model)).collect(),
            wait_ms,
            waits_for,
            refusal: refusal.map(|problem| Refused {
                code: problem.code.word().to_owned(),
                message: problem.message,
                hint: problem.hint,
                anyway: anyway(),
            }),
        }
    }

    /// What would be left of the limit and of the machine; negative: so many bytes are missing.
    fn free_after(&self, need: u64, ask: Ask, evicted: &[ModelId]) -> i64 {
        let workers = evicted.iter().filter_map(|model| self.house.models.get(model)?.state.worker());
        let back: u64 = workers.map(|worker| worker.reserved()).sum();
        let left = self.house.room(ask).free() + i128::from(back) - i128::from(need);
        // Bytes of a machine fit 63 bits by far.
        i64::try_from(left).unwrap_or(if left < 0 { i64::MIN } else { i64::MAX })
    }

    fn expected_back(&self, model: ModelId) -> Expected {
        let worker = self.house.models.get(&model).and_then(|record| record.state.worker());
        let memory = worker.and_then(|worker| worker.memory);
        Expected { expected_bytes: memory.map(|memory| memory.private_bytes), model }
    }
}
