//! Models on disk: what the data folder holds, what can be loaded from it, how models get there and go.
//!
//! This room owns the layout of the data folder, the catalogue, the scan, pulls and removals. It never parses a model
//! file (the worker does): of a GGUF file it looks at the four magic bytes and no further. It knows no life cycle and
//! no HTTP. Nothing partial is ever visible: files come by rename, from a hidden folder beside their place.

mod catalogue;
mod digest;
mod error;
mod facts;
mod layout;
mod names;
mod pull;
mod scan;
mod shelf;

pub use catalogue::{CATALOGUE, CatalogueEntry, PinnedFile, WheelSource, catalogued};
pub use digest::digest;
pub use error::StoreError;
pub use facts::FactsCache;
pub use layout::Store;
pub use pull::{Cancel, PullProgress, PullStage, Pulled, Reference};
pub use scan::{FileKey, ModelKey, OnShelf, Pending, Scan, ShelfFile};
