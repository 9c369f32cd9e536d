//! The pages, one a file.
#![expect(unreachable_pub, reason = "the component macro keeps each function in a hidden module, as pub")]

mod chat;
mod not_found;
mod resources;

pub use chat::ChatPage;
pub use not_found::NotFound;
pub use resources::ResourcesPage;
