//! The tensor types of GGUF: their ids, names and block shapes. Source: ggml's `ggml_type` and `type_traits`.

/// A tensor type that this engine reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// bfloat16.
    Bf16,
    /// 4 bits, a scale for 32.
    Q4_0,
    /// 4 bits, a scale and a minimum for 32.
    Q4_1,
    /// 5 bits, a scale for 32.
    Q5_0,
    /// 5 bits, a scale and a minimum for 32.
    Q5_1,
    /// 8 bits, a scale for 32.
    Q8_0,
    /// 8 bits, a scale and a sum for 32.
    Q8_1,
    /// 2 bits, super-blocks of 256.
    Q2K,
    /// 3 bits, super-blocks of 256.
    Q3K,
    /// 4 bits, super-blocks of 256.
    Q4K,
    /// 5 bits, super-blocks of 256.
    Q5K,
    /// 6 bits, super-blocks of 256.
    Q6K,
    /// 8 bits, super-blocks of 256.
    Q8K,
}

/// One row a type: id in the file, type, name in the field, values in a block, bytes of a block.
const TABLE: [(u32, TensorType, &str, u64, u64); 15] = [
    (0, TensorType::F32, "F32", 1, 4),
    (1, TensorType::F16, "F16", 1, 2),
    (30, TensorType::Bf16, "BF16", 1, 2),
    (2, TensorType::Q4_0, "Q4_0", 32, 18),
    (3, TensorType::Q4_1, "Q4_1", 32, 20),
    (6, TensorType::Q5_0, "Q5_0", 32, 22),
    (7, TensorType::Q5_1, "Q5_1", 32, 24),
    (8, TensorType::Q8_0, "Q8_0", 32, 34),
    (9, TensorType::Q8_1, "Q8_1", 32, 36),
    (10, TensorType::Q2K, "Q2_K", 256, 84),
    (11, TensorType::Q3K, "Q3_K", 256, 110),
    (12, TensorType::Q4K, "Q4_K", 256, 144),
    (13, TensorType::Q5K, "Q5_K", 256, 176),
    (14, TensorType::Q6K, "Q6_K", 256, 210),
    (15, TensorType::Q8K, "Q8_K", 256, 292),
];

/// Types that exist but that nothing here computes with; they are named in the refusal.
const FOREIGN: [(u32, &str); 19] = [
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

impl TensorType {
    /// The type with this id; an unknown one gives the name that the field has for it.
    pub(crate) fn from_id(id: u32) -> Result<Self, String> {
        if let Some(row) = TABLE.iter().find(|row| row.0 == id) {
            return Ok(row.1);
        }
        match FOREIGN.iter().find(|row| row.0 == id) {
            Some((_, name)) => Err((*name).to_owned()),
            None => Err(format!("type {id}")),
        }
    }

    fn row(self) -> &'static (u32, Self, &'static str, u64, u64) {
        TABLE.iter().find(|row| row.1 == self).unwrap_or(&TABLE[0])
    }

    /// As the field writes it: `Q4_1`.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// Values in a block.
    pub(crate) fn block_values(self) -> u64 {
        self.row().3
    }

    /// Bytes of a block.
    pub(crate) fn block_bytes(self) -> u64 {
        self.row().4
    }

    /// Bytes of `values` values, which must be whole blocks; `None` if they are not, or too many.
    pub(crate) fn bytes_of(self, values: u64) -> Option<u64> {
        if !values.is_multiple_of(self.block_values()) {
            return None;
        }
        (values / self.block_values()).checked_mul(self.block_bytes())
    }
}
