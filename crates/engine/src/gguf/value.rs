//! The metadata of a GGUF file: scalars are kept, strings and arrays stay where they are in the file.

use std::collections::BTreeMap;
use std::ops::Range;

use super::error::GgufError;

/// What an array is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    pub(crate) fn from_id(id: u32) -> Option<Self> {
        const ALL: [Kind; 13] = [
            Kind::U8,
            Kind::I8,
            Kind::U16,
            Kind::I16,
            Kind::U32,
            Kind::I32,
            Kind::F32,
            Kind::Bool,
            Kind::String,
            Kind::Array,
            Kind::U64,
            Kind::I64,
            Kind::F64,
        ];
        ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// Bytes of one value; `None` for those that vary.
    pub(crate) fn width(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }
}

/// One value. Ranges point into the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    String(Range<usize>),
    Array { of: Kind, count: u64, bytes: Range<usize> },
}

impl Value {
    fn words(&self) -> String {
        match self {
            Self::Unsigned(n) => n.to_string(),
            Self::Signed(n) => n.to_string(),
            Self::Float(x) => x.to_string(),
            Self::Bool(b) => b.to_string(),
            Self::String(_) => "a text".to_owned(),
            Self::Array { count, .. } => format!("a list of {count}"),
        }
    }
}

/// All keys of a file, with the bytes that they point into given at each call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metadata {
    pub(super) entries: BTreeMap<String, Value>,
}

impl Metadata {
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(key)
    }

    fn bad(key: &str, wanted: &'static str, value: &Value) -> GgufError {
        GgufError::BadKey { key: key.to_owned(), wanted, found: value.words() }
    }

    /// A whole number that is not negative; `None` if the key is absent.
    pub(crate) fn unsigned(&self, key: &str) -> Result<Option<u64>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Unsigned(n)) => Ok(Some(*n)),
            Some(value @ Value::Signed(n)) => {
                u64::try_from(*n).map(Some).map_err(|_| Self::bad(key, "a whole number", value))
            }
            Some(value) => Err(Self::bad(key, "a whole number", value)),
        }
    }

    /// A whole number between 1 and `most`, which must be there.
    pub(crate) fn count(&self, key: &str, most: u32) -> Result<u32, GgufError> {
        let n = self.unsigned(key)?.ok_or_else(|| GgufError::MissingKey(key.to_owned()))?;
        match u32::try_from(n) {
            Ok(small) if (1..=most).contains(&small) => Ok(small),
            _ => Err(GgufError::BadKey {
                key: key.to_owned(),
                wanted: "a sensible count",
                found: n.to_string(),
            }),
        }
    }

    /// A finite number; `None` if the key is absent.
    pub(crate) fn float(&self, key: &str) -> Result<Option<f32>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Float(x)) if x.is_finite() => Ok(Some(*x as f32)),
            Some(Value::Unsigned(n)) => Ok(Some(*n as f32)),
            Some(value) => Err(Self::bad(key, "a number", value)),
        }
    }

    /// Yes or no; `None` if the key is absent.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(*b)),
            Some(value) => Err(Self::bad(key, "yes or no", value)),
        }
    }

    /// A text; `None` if the key is absent.
    pub(crate) fn text<'a>(&self, bytes: &'a [u8], key: &str) -> Result<Option<&'a str>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(value @ Value::String(range)) => bytes
                .get(range.clone())
                .and_then(|slice| std::str::from_utf8(slice).ok())
                .map(Some)
                .ok_or_else(|| Self::bad(key, "UTF-8 text", value)),
            Some(value) => Err(Self::bad(key, "a text", value)),
        }
    }

    /// How many entries a list has; `None` if the key is absent.
    pub(crate) fn length(&self, key: &str) -> Option<u64> {
        match self.get(key) {
            Some(Value::Array { count, .. }) => Some(*count),
            _ => None,
        }
    }

    /// Where the texts of a list lie in the file; `None` if the key is absent.
    pub(crate) fn texts(&self, bytes: &[u8], key: &str) -> Result<Option<Vec<Range<usize>>>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let Value::Array { of: Kind::String, count, bytes: range } = value else {
            return Err(Self::bad(key, "a list of texts", value));
        };
        let broken = || Self::bad(key, "a list of texts", value);
        let mut found = Vec::with_capacity(usize::try_from(*count).map_err(|_| broken())?);
        let mut at = range.start;
        for _ in 0..*count {
            let head: [u8; 8] =
                bytes.get(at..at + 8).and_then(|slice| slice.try_into().ok()).ok_or_else(broken)?;
            let length = usize::try_from(u64::from_le_bytes(head)).map_err(|_| broken())?;
            let end = at.checked_add(8).and_then(|from| from.checked_add(length)).ok_or_else(broken)?;
            if end > range.end {
                return Err(broken());
            }
            found.push(at + 8..end);
            at = end;
        }
        Ok(Some(found))
    }

    /// A list of small whole numbers; `None` if the key is absent.
    pub(crate) fn numbers(&self, bytes: &[u8], key: &str) -> Result<Option<Vec<u32>>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value {
            Value::Array { of: Kind::U32 | Kind::I32, bytes: range, .. } => {
                let slice =
                    bytes.get(range.clone()).ok_or_else(|| Self::bad(key, "a list of numbers", value))?;
                Ok(Some(
                    slice.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect(),
                ))
            }
            _ => Err(Self::bad(key, "a list of numbers", value)),
        }
    }

    /// A list of 32-bit floats; `None` if the key is absent.
    pub(crate) fn floats(&self, bytes: &[u8], key: &str) -> Result<Option<Vec<f32>>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let bad = || Self::bad(key, "a list of numbers", value);
        let Value::Array { of: Kind::F32, bytes: range, .. } = value else { return Err(bad()) };
        let slice = bytes.get(range.clone()).ok_or_else(bad)?;
        Ok(Some(slice.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()))
    }
}
