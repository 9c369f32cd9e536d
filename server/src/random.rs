//! Randomness from the kernel: seeds and names, never secrets that must be guessed by nobody for long.

use rustix::rand::{GetRandomFlags, getrandom};

/// 64 random bits. The kernel's generator cannot fail once the machine has booted; before that it blocks.
pub(crate) fn word() -> u64 {
    let mut bytes = [0; 8];
    let mut filled = 0;
    while filled < bytes.len() {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(n) => filled += n,
            Err(rustix::io::Errno::INTR) => {}
            // No getrandom: a kernel older than 3.17, which Rust's own threshold rules out.
            Err(_) => break,
        }
    }
    u64::from_le_bytes(bytes)
}

/// A name such as `req-5f2c9a7e01b3d468`.
pub(crate) fn name(prefix: &str) -> String {
    format!("{prefix}-{:016x}", word())
}
