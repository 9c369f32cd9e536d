//! A chat template in a sound GGUF file, rendered for a conversation.
#![no_main]

use libfuzzer_sys::fuzz_target;
use link::FileRole;

fuzz_target!(|template: &str| {
    let file = fixtures::Counting::new(0).gguf_with_template(template).build();
    support::look_and_load(&[(FileRole::Gguf { part: 0 }, &file)]);
});
