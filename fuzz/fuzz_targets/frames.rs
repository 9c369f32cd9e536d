//! What a worker may send to the server, frame by frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use link::{Decoder, FromWorker};

fuzz_target!(|bytes: &[u8]| {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    while let Ok(Some(_)) = decoder.take::<FromWorker>() {}
});
