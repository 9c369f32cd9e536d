//! The parts of pages, one a file. They draw what [`crate::Live`] knows and compute nothing themselves (`pure`,
//! `words`). No inline styles: the policy drops them.
#![expect(unreachable_pub, reason = "the component macro keeps each function in a hidden module, as pub")]

mod add_model;
mod chart;
mod cleanup_dialog;
pub mod dialog;
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

pub use add_model::{AddModel, NoModels};
pub use chart::HeldChart;
pub use cleanup_dialog::CleanUpDialog;
pub use dialog::{Ask, Dialog};
pub use downloads::Downloads;
pub use header::Header;
pub use help::HelpDialog;
pub use memory_panel::MemoryPanel;
pub use model_table::ModelTable;
pub use moment::Moment;
pub use notice_bar::NoticeBar;
pub use receipts::GivenBack;
pub use reinitialise_dialog::ReinitialiseDialog;
pub use sessions::SessionsPanel;
pub use verb_form::VerbForm;
