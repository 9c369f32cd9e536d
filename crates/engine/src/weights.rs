//! A GGUF model's files in the address space: the header is read once, tensors and texts are slices of the map. The
//! only place of this room with `unsafe`.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;

use memmap2::{Advice, Mmap};

use crate::error::Error;
use crate::gguf::{GgufError, Header, Metadata, TensorEntry};

/// A sound file is never split into more.
const MOST_PARTS: u64 = 1024;

/// All parts of one model.
#[derive(Debug)]
pub(crate) struct Weights {
    parts: Vec<Mmap>,
    metadata: Metadata,
    tensors: HashMap<String, (usize, TensorEntry)>,
}

/// A tensor with its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorView<'a> {
    pub(crate) entry: &'a TensorEntry,
    pub(crate) bytes: &'a [u8],
}

/// Where a tensor lies.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    part: usize,
    bytes: Range<usize>,
}

/// Maps a file for reading.
#[expect(unsafe_code, reason = "a memory map; the design allows it here alone")]
pub(crate) fn map(file: &File) -> Result<Mmap, Error> {
    // SAFETY: the map is private and read-only. Files of the store are immutable (written under another name, then
    // renamed), and if one is cut all the same, the SIGBUS ends this worker process and nothing else.
    let map = unsafe { Mmap::map(file) }.map_err(Error::Map)?;
    // What is not in memory yet comes in large pages then, where system and file system have them. Weights are read whole
    // for every token, and pages of 4 kB cost a tenth of that. A hint: private memory stays as it is.
    #[cfg(target_os = "linux")]
    let _ = map.advise(Advice::HugePage);
    Ok(map)
}

impl Weights {
    /// Maps the parts, in their order, and reads their headers.
    pub(crate) fn open(files: &[File]) -> Result<Self, Error> {
        let parts = files.iter().map(map).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = parts.first() else { return Err(Error::NoFile("a GGUF file")) };
        let Header { metadata, tensors } = Header::read(first)?;
        let wanted = metadata.unsigned("split.count")?.filter(|n| *n > 0).unwrap_or(1);
        if wanted > MOST_PARTS || wanted != parts.len() as u64 {
            return Err(GgufError::Parts { wanted, found: parts.len() as u64 }.into());
        }
        let mut entries = vec![tensors];
        for part in &parts[1..] {
            entries.push(Header::read(part)?.tensors);
        }
        let mut tensors = HashMap::new();
        for (number, entries) in entries.into_iter().enumerate() {
            for entry in entries {
                let name = entry.name.clone();
                if tensors.insert(name.clone(), (number, entry)).is_some() {
                    return Err(GgufError::Twice { what: "the tensor", name }.into());
                }
            }
        }
        Ok(Self { parts, metadata, tensors })
    }

    /// Asks the system to read ahead; a hint that may do nothing.
    pub(crate) fn will_need(&self) {
        for part in &self.parts {
            let _ = part.advise(Advice::WillNeed);
        }
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The bytes that the metadata points into.
    pub(crate) fn header_bytes(&self) -> &[u8] {
        &self.parts[0]
    }

    /// A text of the metadata; `None` if the key is absent.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.metadata.text(self.header_bytes(), key)
    }

    /// All tensors, in no order.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = TensorView<'_>> {
        self.tensors.values().map(|(part, entry)| self.view(*part, entry))
    }

    /// A tensor, if it is there.
    pub(crate) fn find(&self, name: &str) -> Option<TensorView<'_>> {
        self.tensors.get(name).map(|(part, entry)| self.view(*part, entry))
    }

    /// Where a tensor lies, for one who keeps the place and not the borrow.
    pub(crate) fn place(&self, name: &str) -> Option<Place> {
        self.tensors.get(name).map(|(part, entry)| Place { part: *part, bytes: entry.bytes.clone() })
    }

    /// The bytes at a place that [`Self::place`] gave.
    pub(crate) fn at(&self, place: &Place) -> &[u8] {
        &self.parts[place.part][place.bytes.clone()]
    }

    fn view<'a>(&'a self, part: usize, entry: &'a TensorEntry) -> TensorView<'a> {
        // The header's check placed every tensor inside its part.
        TensorView { entry, bytes: &self.parts[part][entry.bytes.clone()] }
    }
}
