//! The life cycle of models.
pub mod ports;
