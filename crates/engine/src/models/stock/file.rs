//! A GGUF file as candle reads it, made from our checked header: a description, and a reader of the tensors' bytes.

use std::collections::HashMap;
use std::io::{Error as IoError, ErrorKind as IoKind, Read, Seek, SeekFrom};

use candle_core::Shape;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, TensorInfo as CandleTensor, Value, VersionedMagic};

use crate::gguf::TensorType;
use crate::weights::Weights;

/// The file with these keys; offsets count through the tensors one after another.
pub(super) fn describe<'a>(
    weights: &'a Weights,
    metadata: HashMap<String, Value>,
    progress: &'a mut dyn FnMut(u64, u64),
) -> (Content, Joined<'a>) {
    let mut tensor_infos = HashMap::new();
    let mut parts = Vec::new();
    let mut at = 0;
    for view in weights.tensors() {
        // candle wants the outermost dimension first.
        let shape: Vec<usize> = view.entry.shape.iter().rev().map(|n| *n as usize).collect();
        tensor_infos.insert(
            view.entry.name.clone(),
            CandleTensor { ggml_dtype: dtype(view.entry.kind), shape: Shape::from(shape), offset: at },
        );
        parts.push((at, view.bytes));
        at += view.bytes.len() as u64;
    }
    let content = Content { magic: VersionedMagic::GgufV3, metadata, tensor_infos, tensor_data_offset: 0 };
    (content, Joined { parts, at: 0, end: at, read: 0, progress })
}

fn dtype(kind: TensorType) -> GgmlDType {
    match kind {
        TensorType::F32 => GgmlDType::F32,
        TensorType::F16 => GgmlDType::F16,
        TensorType::Bf16 => GgmlDType::BF16,
        TensorType::Q4_0 => GgmlDType::Q4_0,
        TensorType::Q4_1 => GgmlDType::Q4_1,
        TensorType::Q5_0 => GgmlDType::Q5_0,
        TensorType::Q5_1 => GgmlDType::Q5_1,
        TensorType::Q8_0 => GgmlDType::Q8_0,
        TensorType::Q8_1 => GgmlDType::Q8_1,
        TensorType::Q2K => GgmlDType::Q2K,
        TensorType::Q3K => GgmlDType::Q3K,
        TensorType::Q4K => GgmlDType::Q4K,
        TensorType::Q5K => GgmlDType::Q5K,
        TensorType::Q6K => GgmlDType::Q6K,
        TensorType::Q8K => GgmlDType::Q8K,
    }
}

/// The tensors' bytes one after another, as candle wants to read them, though they lie in several maps.
pub(super) struct Joined<'a> {
    parts: Vec<(u64, &'a [u8])>,
    at: u64,
    end: u64,
    read: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Read for Joined<'_> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, IoError> {
        let number = self.parts.partition_point(|(start, _)| *start <= self.at);
        let Some((start, bytes)) = number.checked_sub(1).map(|n| self.parts[n]) else { return Ok(0) };
        let rest = bytes.get((self.at - start) as usize..).unwrap_or_default();
        let length = rest.len().min(out.len());
        out[..length].copy_from_slice(&rest[..length]);
        self.at += length as u64;
        self.read += length as u64;
        (self.progress)(self.read.min(self.end), self.end);
        Ok(length)
    }
}

impl Seek for Joined<'_> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64, IoError> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.end.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| IoError::from(IoKind::InvalidInput))?;
        Ok(self.at)
    }
}
