//! Writes small GGUF files for tests.

use super::TensorType;

/// A file in the making.
#[derive(Clone, Default)]
pub(crate) struct Builder {
    keys: Vec<(String, Vec<u8>)>,
    tensors: Vec<(String, u32, Vec<u64>, Vec<u8>)>,
}

fn text(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

impl Builder {
    pub(crate) fn raw(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend(value);
        self.keys.push((key.to_owned(), bytes));
        self
    }

    pub(crate) fn u32(self, key: &str, n: u32) -> Self {
        self.raw(key, 4, &n.to_le_bytes())
    }

    pub(crate) fn f32(self, key: &str, x: f32) -> Self {
        self.raw(key, 6, &x.to_le_bytes())
    }

    pub(crate) fn bool(self, key: &str, yes: bool) -> Self {
        self.raw(key, 7, &[yes.into()])
    }

    pub(crate) fn text(self, key: &str, s: &str) -> Self {
        let mut bytes = Vec::new();
        text(&mut bytes, s);
        self.raw(key, 8, &bytes)
    }

    pub(crate) fn texts<S: AsRef<str>>(self, key: &str, list: &[S]) -> Self {
        let mut bytes = 8u32.to_le_bytes().to_vec();
        bytes.extend((list.len() as u64).to_le_bytes());
        for s in list {
            text(&mut bytes, s.as_ref());
        }
        self.raw(key, 9, &bytes)
    }

    pub(crate) fn numbers(self, key: &str, list: &[u32]) -> Self {
        let mut bytes = 5u32.to_le_bytes().to_vec();
        bytes.extend((list.len() as u64).to_le_bytes());
        for n in list {
            bytes.extend(n.to_le_bytes());
        }
        self.raw(key, 9, &bytes)
    }

    pub(crate) fn float_list(self, key: &str, list: &[f32]) -> Self {
        let mut bytes = 6u32.to_le_bytes().to_vec();
        bytes.extend((list.len() as u64).to_le_bytes());
        list.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
        self.raw(key, 9, &bytes)
    }

    pub(crate) fn tensor(mut self, name: &str, kind: u32, shape: &[u64], bytes: Vec<u8>) -> Self {
        self.tensors.push((name.to_owned(), kind, shape.to_vec(), bytes));
        self
    }

    pub(crate) fn floats(self, name: &str, shape: &[u64], values: &[f32]) -> Self {
        self.tensor(name, 0, shape, values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            text(&mut out, key);
            out.extend(value);
        }
        let mut offset = 0u64;
        for (name, kind, shape, bytes) in &self.tensors {
            text(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            for n in shape {
                out.extend(n.to_le_bytes());
            }
            out.extend(kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset = (offset + bytes.len() as u64).next_multiple_of(32);
        }
        for (.., bytes) in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(bytes);
        }
        out
    }
}

/// A small file with one of each: keys of many kinds, two tensors.
pub(crate) fn small() -> Builder {
    Builder::default()
        .text("general.architecture", "llama")
        .u32("llama.block_count", 2)
        .f32("llama.rope.freq_base", 1e4)
        .bool("tokenizer.ggml.add_bos_token", false)
        .texts("tokenizer.ggml.tokens", &["a", "b", "\u{120}ab"])
        .numbers("tokenizer.ggml.token_type", &[1, 1, 3])
        .floats("norm.weight", &[4], &[1.0, 2.0, 3.0, 4.0])
        .tensor("w.weight", 3, &[32, 2], vec![7; TensorType::Q4_1.block_bytes() as usize * 2])
}
