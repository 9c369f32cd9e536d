//! Arithmetic on the quantised blocks of GGUF, on slices that stay where they are. The only arithmetic `unsafe` in the
//! house. Knows shapes and block formats, no model. Which instructions run is decided at run time; a row's result does
//! not depend on the rows beside it, on the number of threads or on how the work was cut.

#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(
        dead_code,
        unused_imports,
        unfulfilled_lint_expectations,
        reason = "what x86-64's paths alone need is left where it is"
    )
)]

mod activations;
mod ahead;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod blocks;
mod columns;
mod half;
#[cfg(target_arch = "x86_64")]
mod kinds;
mod lines;
mod matmul;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
mod pool;
pub mod rows;

#[cfg(test)]
mod tests;

pub use activations::Activations;
pub use attention::{Attention, KEY_BLOCK, Page, Pages, Partials, Stretch, exp};
pub use blocks::{Kind, dequantise, quantise};
pub use half::{as_halves, as_halves_mut, from_half, to_half, write_halves};
pub use matmul::{Job, Level, Matrix, expect, has_tiles, level, matmul};
pub use pool::Pool;
