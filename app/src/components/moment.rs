//! A moment, in UTC until the browser's zone is known: so the first render is the same on both sides.

use leptos::prelude::*;
use protocol::Time;

use crate::{
    Live,
    dom::{El, el},
};

/// `<time>` with the exact moment in its attribute, and seconds unless it is short.
pub(crate) fn moment(at: impl Fn() -> Time + Copy + Send + 'static, short: bool) -> El {
    let live = expect_context::<Live>();
    el("time").attr_of("datetime", move || Some(at().to_string())).text(move || live.clock_text(at(), short))
}
