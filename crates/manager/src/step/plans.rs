//! What a load would do, by the very decision that a load takes. Changes nothing.

use protocol::{ModelId, Plan, Refused};

use super::Turn;
use crate::{
    event::{Answer, Ticket},
    model::Record,
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
        let refusal = self.may_load(id, record, context).err();
        Plan {
            model: id.clone(),
            fits: refusal.is_none(),
            predicted_bytes: forecast.predicted_bytes(),
            reserve_bytes: forecast.reserve_bytes(),
            mapped_bytes: forecast.mapped_bytes,
            prediction: forecast.prediction(),
            free_after_bytes: self.house.room().free_after(forecast.reserve_bytes()),
            evict: Vec::new(),
            wait_ms: None,
            refusal: refusal.map(|problem| Refused {
                code: problem.code.word().to_owned(),
                message: problem.message,
                hint: problem.hint,
            }),
        }
    }
}
