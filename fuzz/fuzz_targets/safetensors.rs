//! `model.safetensors` beside a sound configuration and tokenizer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bert = fixtures::Bert::default();
    support::bert(bytes, bert.config.to_string().as_bytes(), bert.tokenizer.to_string().as_bytes());
});
