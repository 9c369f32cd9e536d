//! One value that can be set: its field, where the value comes from, why it is locked, and what was wrong with what
//! was typed. The same on Settings, on a model's page and in a row of Resources.

use leptos::prelude::*;
use protocol::Setting;

use super::{dialog::unless, model_row::hidden_field, verb_form, verb_form::FOLLOWS};
use crate::{
    Live,
    dom::{El, el, unseen},
    words,
};

/// What a field for a timeout offers; `default` takes back what was set.
const TIMEOUTS: [&str; 7] = ["default", "1m", "5m", "15m", "1h", "0", "never"];

/// What the fields for timeouts offer; once on a page that has such fields.
pub(crate) fn timeouts() -> El {
    el("datalist").id("timeouts").children(TIMEOUTS.map(|span| el("option").attr("value", span)))
}

/// Which value, and which verb sets it.
pub(crate) struct Field {
    /// Its key, as refusals name it: `idle_timeout`, `models.smollm2.idle_timeout`.
    pub(crate) key: String,
    /// The verb.
    pub(crate) to: &'static str,
    /// The verb's argument.
    pub(crate) name: &'static str,
    /// The model that it is for, if it is one model's.
    pub(crate) model: Option<String>,
    /// What the field is called.
    pub(crate) label: String,
    /// Whether the source is said below the field.
    pub(crate) explained: bool,
}

/// The form. `setting` is the value as it is set now; `None`: it is not set, and `usual` is what holds then.
pub(crate) fn setting_form(
    field: Field,
    setting: impl Fn() -> Option<Setting> + Copy + Send + Sync + 'static,
    usual: impl Fn() -> String + Copy + Send + Sync + 'static,
) -> El {
    let live = expect_context::<Live>();
    let Field { key, to, name, model, label, explained } = field;
    let id = key.replace('.', "-");
    let (said_id, source_id) = (format!("{id}-said"), format!("{id}-source"));
    let key = StoredValue::new(key);
    let wrong = move || live.said.with(|said| said.as_ref().and_then(|n| key.with_value(|key| n.at(key))));
    let typed = move || live.said.with(|said| said.as_ref().map(|n| n.typed.clone())).unwrap_or_default();
    let value = move || {
        let kept = || setting().map_or_else(usual, |setting| setting.value);
        Some(if wrong().is_some() && !typed().is_empty() { typed() } else { kept() })
    };
    let reason = move || setting().map(|setting| words::locked(&setting)).unwrap_or_default();
    let input = el("input")
        .id(id)
        .attr("name", name)
        .class("short")
        .attr_of("value", value)
        .attr("aria-label", label.clone())
        .attr("aria-describedby", format!("{said_id} {source_id}"))
        .attr_of("aria-invalid", move || wrong().map(|_| "true".to_owned()))
        .flag_if("readonly", move || !reason().is_empty())
        .attr("autocomplete", "off")
        .attr("spellcheck", "false")
        .flag("required");
    let input = if name.contains("time") || name.contains("session") {
        input.attr("list", "timeouts")
    } else {
        input
    };
    let save = unless(el("button").class("btn small"), reason).say("Save").child(unseen(format!(" {label}")));
    let form = verb_form(to).class("inline").flag(FOLLOWS);
    let form = match model {
        Some(model) => form.child(hidden_field("model", model)),
        None => form,
    };
    let from = move || match setting() {
        Some(setting) if setting.locked => words::locked(&setting),
        Some(setting) => words::source(&setting),
        None => "the default of all models".to_owned(),
    };
    el("div")
        .class("setting")
        .child(form.child(input).child(save))
        .child(el("p").id(said_id).class("sub bad").attr("role", "alert").text_if(wrong))
        .child(el("p").id(source_id).class("sub val").hidden_if(move || !explained).text(from))
}
