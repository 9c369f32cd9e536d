//! The GGUF header, read from bytes of which nothing is believed: counts, alignment, products and the place of every
//! tensor are checked before anything is used. Knows the format alone, no model family. Format: ggml's `gguf.md`.

mod error;
#[cfg(test)]
pub(crate) mod testing;
mod types;
mod value;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ops::Range;

pub use error::GgufError;
pub use types::TensorType;
pub(crate) use value::{Kind, Metadata, Value};

/// No sound file comes near these.
const MOST_KEYS: u64 = 65_536;
const MOST_TENSORS: u64 = 65_536;
const LONGEST_NAME: u64 = 65_535;
const MOST_DIMENSIONS: u32 = 4;
const LARGEST_ALIGNMENT: u64 = 1 << 20;
const DEFAULT_ALIGNMENT: u64 = 32;
/// A list of lists is the deepest thing that any known key holds.
const DEEPEST_LIST: u32 = 2;

/// One tensor, with its place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TensorEntry {
    pub(crate) name: String,
    pub(crate) kind: TensorType,
    /// Innermost (contiguous) first.
    pub(crate) shape: Vec<u64>,
    /// Bytes in the file.
    pub(crate) bytes: Range<usize>,
}

impl TensorEntry {
    /// Values in it.
    pub(crate) fn values(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// A header that has passed all checks.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<TensorEntry>,
}

impl Header {
    /// Reads the header of the file that `bytes` holds whole.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, GgufError> {
        let mut reader = Reader { bytes, at: 0 };
        if bytes.len() < 4 || &bytes[..4] != b"GGUF" {
            return Err(GgufError::NotGguf);
        }
        reader.at = 4;
        let version = reader.u32("its version")?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version(version));
        }
        let tensor_count = reader.count("the number of tensors", MOST_TENSORS)?;
        let key_count = reader.count("the number of keys", MOST_KEYS)?;
        let metadata = read_metadata(&mut reader, key_count)?;
        let alignment = alignment(&metadata)?;
        let raw = read_tensors(&mut reader, tensor_count)?;
        let start = (reader.at as u64).next_multiple_of(alignment);
        let tensors = raw
            .into_iter()
            .map(|tensor| tensor.place(start, alignment, bytes.len()))
            .collect::<Result<_, _>>()?;
        Ok(Self { metadata, tensors })
    }
}

fn alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    let alignment = metadata.unsigned("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
    if alignment.is_power_of_two() && alignment <= LARGEST_ALIGNMENT {
        Ok(alignment)
    } else {
        Err(GgufError::Absurd { what: "the alignment", value: alignment })
    }
}

fn read_metadata(reader: &mut Reader<'_>, count: u64) -> Result<Metadata, GgufError> {
    let mut metadata = Metadata::default();
    for _ in 0..count {
        let key = reader.name("a key")?;
        let kind = reader.kind()?;
        let value = reader.value(kind, 0)?;
        if metadata.entries.insert(key.clone(), value).is_some() {
            return Err(GgufError::Twice { what: "the key", name: key });
        }
    }
    Ok(metadata)
}

/// A tensor as the file describes it, not yet placed.
struct Raw {
    name: String,
    kind: Result<TensorType, String>,
    shape: Vec<u64>,
    offset: u64,
}

impl Raw {
    fn place(self, start: u64, alignment: u64, file: usize) -> Result<TensorEntry, GgufError> {
        let Self { name, kind, shape, offset } = self;
        let kind = match kind {
            Ok(kind) => kind,
            Err(kind) => return Err(GgufError::Unsupported { name, kind }),
        };
        let values = shape.iter().try_fold(1u64, |product, n| product.checked_mul(*n));
        // A row must be whole blocks: kernels walk rows.
        let whole_rows = shape.first().is_some_and(|row| row.is_multiple_of(kind.block_values()));
        let Some(size) = values.filter(|n| *n > 0 && whole_rows).and_then(|n| kind.bytes_of(n)) else {
            return Err(GgufError::Shape { name, kind: kind.name(), shape });
        };
        if !offset.is_multiple_of(alignment) {
            return Err(GgufError::Misaligned { name, offset, alignment });
        }
        let file_bytes = file as u64;
        let end = start.saturating_add(offset).saturating_add(size);
        if end > file_bytes {
            return Err(GgufError::TensorOutside { name, end, file_bytes });
        }
        let bytes = (start + offset) as usize..end as usize;
        Ok(TensorEntry { name, kind, shape, bytes })
    }
}

fn read_tensors(reader: &mut Reader<'_>, count: u64) -> Result<Vec<Raw>, GgufError> {
    let mut raw = Vec::new();
    let mut names = HashSet::new();
    for _ in 0..count {
        let name = reader.name("a tensor's name")?;
        if !names.insert(name.clone()) {
            return Err(GgufError::Twice { what: "the tensor", name });
        }
        let dimensions = reader.u32("a tensor's shape")?;
        if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
            return Err(GgufError::Absurd {
                what: "a tensor's number of dimensions",
                value: dimensions.into(),
            });
        }
        let shape =
            (0..dimensions).map(|_| reader.u64("a tensor's shape")).collect::<Result<Vec<_>, GgufError>>()?;
        let kind = TensorType::from_id(reader.u32("a tensor's type")?);
        let offset = reader.u64("a tensor's place")?;
        raw.push(Raw { name, kind, shape, offset });
    }
    Ok(raw)
}

/// Walks the bytes; every step is checked against their end.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn skip(&mut self, length: u64, what: &'static str) -> Result<Range<usize>, GgufError> {
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        match end {
            Some(end) if end <= self.bytes.len() => {
                let range = self.at..end;
                self.at = end;
                Ok(range)
            }
            _ => Err(GgufError::Truncated { at: self.bytes.len() as u64, what }),
        }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        let range = self.skip(N as u64, what)?;
        let mut out = [0; N];
        out.copy_from_slice(&self.bytes[range]);
        Ok(out)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn count(&mut self, what: &'static str, most: u64) -> Result<u64, GgufError> {
        let value = self.u64(what)?;
        if value > most { Err(GgufError::Absurd { what, value }) } else { Ok(value) }
    }

    fn string(&mut self, what: &'static str) -> Result<Range<usize>, GgufError> {
        let length = self.u64(what)?;
        self.skip(length, what)
    }

    fn name(&mut self, what: &'static str) -> Result<String, GgufError> {
        let range = self.string(what)?;
        if range.len() as u64 > LONGEST_NAME {
            return Err(GgufError::Absurd { what: "the length of a name", value: range.len() as u64 });
        }
        match std::str::from_utf8(&self.bytes[range]) {
            Ok(name) => Ok(name.to_owned()),
            Err(_) => Err(GgufError::NotText { what }),
        }
    }

    fn kind(&mut self) -> Result<Kind, GgufError> {
        let id = self.u32("a value's type")?;
        Kind::from_id(id).ok_or(GgufError::Absurd { what: "a value's type", value: id.into() })
    }

    fn value(&mut self, kind: Kind, depth: u32) -> Result<Value, GgufError> {
        const WHAT: &str = "a value";
        Ok(match kind {
            Kind::U8 => Value::Unsigned(self.array::<1>(WHAT)?[0].into()),
            Kind::I8 => Value::Signed(i8::from_le_bytes(self.array(WHAT)?).into()),
            Kind::U16 => Value::Unsigned(u16::from_le_bytes(self.array(WHAT)?).into()),
            Kind::I16 => Value::Signed(i16::from_le_bytes(self.array(WHAT)?).into()),
            Kind::U32 => Value::Unsigned(self.u32(WHAT)?.into()),
            Kind::I32 => Value::Signed(i32::from_le_bytes(self.array(WHAT)?).into()),
            Kind::U64 => Value::Unsigned(self.u64(WHAT)?),
            Kind::I64 => Value::Signed(i64::from_le_bytes(self.array(WHAT)?)),
            Kind::F32 => Value::Float(f32::from_le_bytes(self.array(WHAT)?).into()),
            Kind::F64 => Value::Float(f64::from_le_bytes(self.array(WHAT)?)),
            Kind::Bool => Value::Bool(self.array::<1>(WHAT)?[0] != 0),
            Kind::String => Value::String(self.string(WHAT)?),
            Kind::Array => self.list(depth + 1)?,
        })
    }

    fn list(&mut self, depth: u32) -> Result<Value, GgufError> {
        const WHAT: &str = "a list";
        if depth > DEEPEST_LIST {
            return Err(GgufError::Absurd { what: "the depth of a list", value: depth.into() });
        }
        let of = self.kind()?;
        let count = self.u64(WHAT)?;
        let start = self.at;
        match of.width() {
            Some(width) => {
                let length =
                    count.checked_mul(width).ok_or(GgufError::Absurd { what: "a length", value: count })?;
                self.skip(length, WHAT)?;
            }
            // Each entry takes at least its own length field, so the loop ends with the file.
            None if of == Kind::String => {
                for _ in 0..count {
                    self.string(WHAT)?;
                }
            }
            None => {
                for _ in 0..count {
                    self.list(depth + 1)?;
                }
            }
        }
        Ok(Value::Array { of, count, bytes: start..self.at })
    }
}
