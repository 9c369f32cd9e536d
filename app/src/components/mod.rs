//! The parts of pages, one a file. They draw what [`crate::Live`] knows and compute nothing themselves (`pure`,
//! `words`). No inline styles: the policy drops them.

mod add_model;
mod chart;
mod cleanup_dialog;
mod copy_button;
pub(crate) mod dialog;
mod downloads;
mod header;
mod help;
mod memory_bars;
mod memory_panel;
mod model_row;
mod model_table;
mod moment;
mod notice_bar;
mod receipts;
mod reinitialise_dialog;
mod row_actions;
mod sessions;
mod verb_form;

pub(crate) use chart::held_chart;
pub(crate) use header::header;
pub(crate) use help::help_dialog;
pub(crate) use memory_panel::memory_panel;
pub(crate) use model_table::model_table;
pub(crate) use notice_bar::notice_bar;
pub(crate) use receipts::given_back;
pub(crate) use sessions::sessions_panel;
pub use verb_form::NOTICE_TYPE;
pub(crate) use verb_form::{verb_form, verb_form_of};
