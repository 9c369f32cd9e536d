//! The tensors of a safetensors file, where they lie in the map. Format: eight bytes of length, JSON with a type, a shape and
//! a range for each tensor, then the bytes. Nothing in it is believed.

use std::collections::BTreeMap;
use std::ops::Range;

use kernels::{Kind, dequantise};
use memmap2::Mmap;

use crate::error::Error;

/// No sound header is longer.
const LONGEST_HEADER: usize = 100 << 20;

fn bad(why: &str) -> Error {
    Error::BadPart { what: "model.safetensors", why: why.to_owned() }
}

/// A tensor that this room can read.
#[derive(Clone, Debug)]
struct Entry {
    kind: Kind,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

/// A mapped file.
#[derive(Debug)]
pub(super) struct Tensors {
    map: Mmap,
    entries: BTreeMap<String, Entry>,
    /// Values of all tensors, also of types that nobody here reads.
    pub(super) parameters: u64,
    /// The type of most values.
    pub(super) kind: String,
}

impl Tensors {
    /// Reads the header and checks that every tensor lies inside the file.
    pub(super) fn open(map: Mmap) -> Result<Self, Error> {
        let head: [u8; 8] =
            map.get(..8).and_then(|b| b.try_into().ok()).ok_or_else(|| bad("it is cut off"))?;
        let length = usize::try_from(u64::from_le_bytes(head)).ok().filter(|n| *n < LONGEST_HEADER);
        let json = length
            .and_then(|length| map.get(8..8usize.checked_add(length)?))
            .ok_or_else(|| bad("it is cut off or no safetensors file"))?;
        let start = 8 + json.len();
        let tensors: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(json).map_err(|why| bad(&why.to_string()))?;
        let (mut parameters, mut kinds) = (0u64, BTreeMap::<String, u64>::new());
        let mut entries = BTreeMap::new();
        for (name, tensor) in tensors.iter().filter(|(name, _)| *name != "__metadata__") {
            let numbers = |key: &str| -> Option<Vec<u64>> {
                tensor[key].as_array()?.iter().map(serde_json::Value::as_u64).collect()
            };
            let shape = numbers("shape").ok_or_else(|| bad("a tensor has no shape"))?;
            let values = shape
                .iter()
                .try_fold(1u64, |product, n| product.checked_mul(*n))
                .filter(|values| parameters.checked_add(*values).is_some())
                .ok_or_else(|| bad("a tensor has an impossible shape"))?;
            parameters += values;
            let dtype = tensor["dtype"].as_str().unwrap_or("F32");
            *kinds.entry(dtype.to_owned()).or_default() += values;
            let Some(kind) = kind_of(dtype) else { continue };
            let bytes = range(&numbers("data_offsets").unwrap_or_default(), start, map.len())
                .filter(|bytes| Some(bytes.len() as u64) == values.checked_mul(kind.block().1 as u64))
                .ok_or_else(|| {
                    bad(&format!("the tensor {name} lies outside the file or has another size"))
                })?;
            let shape = shape.into_iter().map(|n| n as usize).collect();
            entries.insert(name.clone(), Entry { kind, shape, bytes });
        }
        let kind =
            kinds.into_iter().max_by_key(|(_, n)| *n).map_or_else(|| "F32".to_owned(), |(kind, _)| kind);
        Ok(Self { map, entries, parameters, kind })
    }

    fn entry(&self, name: &str, shape: &[usize]) -> Result<&Entry, Error> {
        // Some files have the family before every name.
        let entry = self.entries.get(name).or_else(|| self.entries.get(&format!("bert.{name}")));
        let entry = entry.ok_or_else(|| bad(&format!("it lacks the tensor {name}")))?;
        if entry.shape != shape {
            return Err(bad(&format!(
                "the tensor {name} has the shape {:?} instead of {shape:?}",
                entry.shape
            )));
        }
        Ok(entry)
    }

    /// The values of a tensor of this shape.
    pub(super) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let entry = self.entry(name, shape)?;
        let mut out = vec![0.0; shape.iter().product()];
        dequantise(entry.kind, &self.map[entry.bytes.clone()], &mut out);
        Ok(out)
    }

    /// The bytes of a tensor of this shape, where they lie.
    pub(super) fn bytes(&self, name: &str, shape: &[usize]) -> Result<(Kind, &[u8]), Error> {
        let entry = self.entry(name, shape)?;
        Ok((entry.kind, &self.map[entry.bytes.clone()]))
    }

    /// A table of rows that stays in the map.
    pub(super) fn table(&self, name: &str, rows: usize, width: usize) -> Result<Table, Error> {
        let entry = self.entry(name, &[rows, width])?;
        Ok(Table { kind: entry.kind, bytes: entry.bytes.clone(), width })
    }

    /// Writes one row of a table.
    pub(super) fn row(&self, table: &Table, number: usize, out: &mut [f32]) {
        let size = table.kind.row_bytes(table.width);
        dequantise(table.kind, &self.map[table.bytes.clone()][number * size..][..size], out);
    }
}

/// Where a table lies.
#[derive(Clone, Debug)]
pub(super) struct Table {
    kind: Kind,
    bytes: Range<usize>,
    width: usize,
}

fn kind_of(dtype: &str) -> Option<Kind> {
    Some(match dtype {
        "F32" => Kind::F32,
        "F16" => Kind::F16,
        "BF16" => Kind::Bf16,
        _ => return None,
    })
}

fn range(offsets: &[u64], start: usize, end: usize) -> Option<Range<usize>> {
    let [from, to] = *offsets else { return None };
    let place = |offset: u64| usize::try_from(offset).ok()?.checked_add(start).filter(|at| *at <= end);
    let (from, to) = (place(from)?, place(to)?);
    (from <= to).then_some(from..to)
}
