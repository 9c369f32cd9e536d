//! The framed channel between the server and a worker: messages, codec, limits. Both ends use it.
//!
//! This room owns the words of the worker protocol and how they become bytes. It knows no engine, no HTTP and no
//! life cycle. A frame that breaks a rule is an error that its reader answers by ending the other side.

/// The protocol this build speaks.
pub const PROTOCOL: u32 = 3;

pub mod blocking;
mod frame;
mod messages;
#[cfg(feature = "tokio")]
pub mod nonblocking;
mod socket;

pub use frame::{Class, Decoder, MAX_DESCRIPTORS, Message, Received, WireError, encode};
pub use messages::{
    Embed, ErrorCode, Facts, FileRole, Finish, Footprint, FromWorker, Generate, Hello, Load, Order, Prompt,
    Ready, Role, Sampling, Stage, Timings, ToWorker, Turn, Usage,
};
