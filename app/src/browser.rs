//! Which browser a request comes from.

/// The name under which the server keeps things for a browser: the value of its session cookie. The server puts it
/// into the context of every request that has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Browser(pub String);
