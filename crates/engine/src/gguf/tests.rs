use proptest::prelude::*;

use super::testing::{Builder, small};
use super::*;

#[test]
fn a_sound_file_is_read_with_its_keys_and_tensors() {
    let bytes = small().build();
    let header = Header::read(&bytes).unwrap();
    assert_eq!(header.metadata.text(&bytes, "general.architecture").unwrap(), Some("llama"));
    assert_eq!(header.metadata.count("llama.block_count", 100).unwrap(), 2);
    assert_eq!(header.metadata.flag("tokenizer.ggml.add_bos_token").unwrap(), Some(false));
    let tokens = header.metadata.texts(&bytes, "tokenizer.ggml.tokens").unwrap().unwrap();
    assert_eq!(&bytes[tokens[2].clone()], "\u{120}ab".as_bytes());
    assert_eq!(header.metadata.numbers(&bytes, "tokenizer.ggml.token_type").unwrap().unwrap(), [1, 1, 3]);
    assert_eq!(header.tensors[1].kind, TensorType::Q4_1);
    assert_eq!(&bytes[header.tensors[1].bytes.clone()], &[7; 40]);
}

#[test]
fn every_truncation_is_an_error_and_not_a_panic() {
    let bytes = small().build();
    for end in 0..bytes.len() {
        Header::read(&bytes[..end]).unwrap_err();
    }
}

#[test]
fn a_file_that_is_no_gguf_says_so() {
    assert_eq!(Header::read(b"PK\x03\x04 something").unwrap_err(), GgufError::NotGguf);
    assert_eq!(Header::read(b"").unwrap_err(), GgufError::NotGguf);
}

#[test]
fn an_alignment_of_zero_or_three_or_two_mebibytes_is_refused() {
    for alignment in [0, 3, 2 << 20] {
        let bytes = small().u32("general.alignment", alignment).build();
        assert_eq!(
            Header::read(&bytes).unwrap_err(),
            GgufError::Absurd { what: "the alignment", value: alignment.into() }
        );
    }
}

#[test]
fn an_unsupported_tensor_type_is_named_with_its_tensor() {
    let bytes = Builder::default().tensor("blk.0.odd", 20, &[32], vec![0; 18]).build();
    let sentence = Header::read(&bytes).unwrap_err().to_string();
    assert!(sentence.contains("blk.0.odd") && sentence.contains("IQ4_NL"), "{sentence}");
}

#[test]
fn a_product_that_overflows_is_a_wrong_shape() {
    let huge = 1u64 << 33;
    let bytes = Builder::default().tensor("big", 0, &[huge, huge], vec![0; 4]).build();
    assert!(matches!(Header::read(&bytes), Err(GgufError::Shape { .. })));
}

#[test]
fn one_name_twice_is_refused() {
    let bytes = Builder::default().u32("k", 1).u32("k", 2).build();
    assert!(matches!(Header::read(&bytes), Err(GgufError::Twice { what: "the key", .. })));
}

#[test]
fn a_list_of_lists_of_lists_is_refused() {
    let mut nested = Vec::new();
    for _ in 0..3 {
        nested.extend(9u32.to_le_bytes());
        nested.extend(1u64.to_le_bytes());
    }
    let bytes = Builder::default().raw("deep", 9, &nested).build();
    assert!(matches!(Header::read(&bytes), Err(GgufError::Absurd { what: "the depth of a list", .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn random_mutations_never_panic_and_never_place_a_tensor_outside(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        shorten in any::<bool>(),
    ) {
        let mut bytes = small().build();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if shorten {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(header) = Header::read(&bytes) {
            for tensor in &header.tensors {
                prop_assert!(tensor.bytes.end <= bytes.len());
                prop_assert_eq!(tensor.kind.bytes_of(tensor.values()), Some(tensor.bytes.len() as u64));
            }
            let _ = header.metadata.texts(&bytes, "tokenizer.ggml.tokens");
            let _ = header.metadata.numbers(&bytes, "tokenizer.ggml.token_type");
            let _ = header.metadata.text(&bytes, "general.architecture");
        }
    }
}
