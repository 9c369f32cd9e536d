//! What can be wrong with a GGUF file.

use super::types::TensorType;

/// Why a file cannot be read as GGUF. Each says what is wrong where, for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GgufError {
    /// Other first bytes.
    #[error("This is not a GGUF file: it does not begin with the letters GGUF.")]
    NotGguf,
    /// Big-endian, or another version.
    #[error("This is GGUF version {0}; versions 2 and 3 can be read.")]
    Version(u32),
    /// The header ends before it is complete.
    #[error("The file is cut off: its header ends at byte {at}, in the middle of {what}.")]
    Truncated {
        /// Where the file ends.
        at: u64,
        /// What was being read.
        what: &'static str,
    },
    /// A number that no sound file has.
    #[error("The file is damaged: {what} is {value}, which cannot be.")]
    Absurd {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// Bytes that are not text where text must be.
    #[error("The file is damaged: {what} is not UTF-8 text.")]
    NotText {
        /// Which text.
        what: &'static str,
    },
    /// One name twice.
    #[error("The file is damaged: it has {what} {name} twice.")]
    Twice {
        /// "the key" or "the tensor".
        what: &'static str,
        /// Which.
        name: String,
    },
    /// A tensor outside the file.
    #[error("The file is cut off: tensor {name} ends at byte {end}, the file at byte {file_bytes}.")]
    TensorOutside {
        /// Which tensor.
        name: String,
        /// Where it would end.
        end: u64,
        /// Where the file ends.
        file_bytes: u64,
    },
    /// A tensor that does not begin where the alignment says.
    #[error(
        "The file is damaged: tensor {name} begins at {offset}, which the alignment {alignment} does not divide."
    )]
    Misaligned {
        /// Which tensor.
        name: String,
        /// Where it begins, from the start of the tensor data.
        offset: u64,
        /// What should divide it.
        alignment: u64,
    },
    /// A shape whose values do not fill whole blocks, or overflow.
    #[error("The file is damaged: tensor {name} of type {kind} has the shape {shape:?}, which cannot be.")]
    Shape {
        /// Which tensor.
        name: String,
        /// Its type.
        kind: &'static str,
        /// Its dimensions, innermost first.
        shape: Vec<u64>,
    },
    /// A tensor type that nothing here computes with.
    #[error(
        "Tensor {name} has the type {kind}, which this engine does not run; take a file quantised as Q4_K_M, Q4_1 or Q8_0, say."
    )]
    Unsupported {
        /// Which tensor.
        name: String,
        /// Its type.
        kind: String,
    },
    /// A key that must be there.
    #[error("The file says nothing about {0}, which every model of its kind has.")]
    MissingKey(String),
    /// A key of another type, or with a value that cannot be.
    #[error("The file is damaged: {key} is {found}, where {wanted} was expected.")]
    BadKey {
        /// Which key.
        key: String,
        /// What it should hold.
        wanted: &'static str,
        /// What it holds.
        found: String,
    },
    /// A tensor that must be there.
    #[error("The file has no tensor {0}, which every model of its family has.")]
    MissingTensor(String),
    /// A tensor of another shape than the header says.
    #[error("The file is damaged: tensor {name} has the shape {found:?}; its header asks for {wanted:?}.")]
    WrongShape {
        /// Which tensor.
        name: String,
        /// Its dimensions, innermost first.
        found: Vec<u64>,
        /// What they should be.
        wanted: Vec<u64>,
    },
    /// A tensor of a type that cannot stand there.
    #[error("Tensor {name} has the type {}, which cannot stand there.", kind.name())]
    WrongType {
        /// Which tensor.
        name: String,
        /// Its type.
        kind: TensorType,
    },
    /// A part of a split file that is missing or out of order.
    #[error("The model is split into {wanted} parts, and {found} were found; fetch the missing ones.")]
    Parts {
        /// As the first part says.
        wanted: u64,
        /// How many are here.
        found: u64,
    },
}

impl GgufError {
    /// Whether the file is sound, but not for this engine.
    pub(crate) fn unsupported(&self) -> bool {
        matches!(self, Self::Unsupported { .. } | Self::Version(_) | Self::WrongType { .. })
    }
}
