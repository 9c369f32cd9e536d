//! The whole of a GGUF file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use link::FileRole;

fuzz_target!(|bytes: &[u8]| support::look_and_load(&[(FileRole::Gguf { part: 0 }, bytes)]));
