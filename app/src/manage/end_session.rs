//! POST /manage/end_session

use leptos::prelude::*;
use serde::{Deserialize, Serialize};

use super::Refusal;

/// Whether there was such a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// False: it had ended already.
    pub ended: bool,
}

/// Ends a session: what is kept of its conversations is given back.
#[server(name = EndSession, prefix = "/manage", endpoint = "end_session")]
pub async fn end_session(session: String) -> Result<Ended, Refusal> {
    let desk = crate::request::desk()?;
    Ok(Ended { ended: desk.end_session(&session, crate::request::caller()).await })
}
