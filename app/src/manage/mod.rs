//! The server functions under `/manage`, one verb a file. They take form fields, answer plain JSON, and say what
//! went wrong as a [`Refusal`]; status codes, redirects and notices are the server's business (its answer layer).
#![cfg_attr(
    feature = "ssr",
    expect(
        unreachable_pub,
        reason = "the server macro keeps each function's body in a hidden place, as pub"
    )
)]
#![expect(
    missing_docs,
    reason = "the server macro makes a struct of each function's arguments and documents no field"
)]

mod about;
mod answers;
#[cfg(feature = "ssr")]
mod arguments;
mod cancel;
mod cancel_pull;
mod chat;
mod cleanup;
mod end_session;
mod forget;
mod history;
mod idle_timeout;
mod load;
mod measurements;
mod performance;
mod performance_words;
mod pin;
mod plan;
mod plan_words;
mod pull;
mod refusal;
mod reload;
mod remove;
mod rescan;
mod sessions;
mod settings;
mod snapshot;
mod theme;
mod unload;
mod weight;
mod yield_memory;

pub use about::{About, ModelFile, ReadModel, about};
pub use answers::{OneOrAll, Part};
#[cfg(feature = "ssr")]
pub use arguments::is_default;
pub use cancel::{CancelRequest, Cancelled, cancel};
pub use cancel_pull::{CancelPull, cancel_pull};
pub use chat::{Converse, chat};
pub use cleanup::{CleanUpResources, cleanup};
pub use end_session::{EndSession, Ended, end_session};
pub use forget::{ForgetConversation, Forgotten, forget};
#[cfg(feature = "ssr")]
pub use history::Wanted;
pub use history::{History, ReadHistory, history};
pub use idle_timeout::{SetIdleTimeout, idle_timeout};
pub use load::{LoadModel, load};
pub use measurements::{ReadMeasurements, measurements};
pub use performance::{ReadPerformance, performance};
pub use performance_words::{PerformanceCell, PerformanceRow, ReadPerformanceWords, performance_words};
pub use pin::{PinModel, pin};
pub use plan::{PlanLoad, plan};
pub use plan_words::{PlanWords, ReadPlan, plan_words};
pub use pull::{PullModel, Pulling, pull};
pub use refusal::Refusal;
pub use reload::{ReloadModel, reload};
pub use remove::{RemoveModel, Removed, remove};
pub use rescan::{LookAgain, Shelf, rescan};
pub use sessions::{ListSessions, Sessions, sessions};
pub use settings::{ChangeSettings, ReadSettings, change_settings, settings};
pub use snapshot::{TakeSnapshot, snapshot};
pub use theme::{Chosen, SetTheme, theme};
pub use unload::{UnloadModel, unload};
pub use weight::{WeighModel, weight};
pub use yield_memory::{YieldMemory, yield_memory};
