//! `tokenizer.json` beside sound weights.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bert = fixtures::Bert::default();
    support::bert(&bert.safetensors(), bert.config.to_string().as_bytes(), bytes);
});
