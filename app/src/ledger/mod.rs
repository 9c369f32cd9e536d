//! The ledger on a page: which events are asked for, those that are there, and those that come while it is open.

mod query;
mod shown;

pub(crate) use query::{Query, WINDOWS};
pub(crate) use shown::Shown;
