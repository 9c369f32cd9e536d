//! The child's end: message loop, parent watch, sandbox. Owns one engine, which it knows as a trait alone, so that
//! this room and its tests compile without candle.

pub mod port;
