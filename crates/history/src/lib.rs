//! What happened and what was measured, kept over restarts in one SQLite file.
//!
//! This room owns `history.db`: the ledger's events, measurements (each second for an hour, each minute for a week,
//! each hour for a year), and a row of numbers for each request. One thread writes, about once a second; reads have a
//! connection of their own and a deadline. It knows no HTTP, no process and no engine, and no prompt or answer ever
//! comes here. A full disk stops nothing: what waits is kept in memory within bounds, and the trouble is told. A
//! damaged file, or one of a newer version, is set aside and never overwritten.

mod book;
mod events;
mod inbox;
mod keeper;
mod measured;
mod performance;
mod reader;
mod requests;
mod trouble;
mod writer;

#[cfg(test)]
mod tests;

pub use keeper::{History, Opened};
pub use measured::{Columns, Measurement, SeriesQuery};
pub use requests::{DONE, RequestRow};
pub use trouble::HistoryError;
