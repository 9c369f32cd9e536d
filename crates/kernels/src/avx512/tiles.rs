//! Tiles (AMX): sixteen rows of activations by a panel's sixteen columns, one block at a time, in one instruction. What it
//! gives are the same whole numbers that vectors give, and the floats are added by the same vectors in the same order, so
//! nobody can tell from the bits. Used where the processor has tiles, the system grants them, and a trial finds them right
//! and faster. Rust has no stable names for the instructions, so they stand here as text. Source: Intel's Software
//! Developer's Manual, volume 2, `TDPBSUD`; Linux, `Documentation/arch/x86/xstate.rst`.

#![expect(unsafe_code, reason = "instructions without names, and one system call")]

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use super::panel::{FOURS, Panel, Target, at_place, fill, with_block};
use crate::activations::{Activations, place};
use crate::blocks::Kind;
use crate::kinds::{Q4_1, Q6K};
use crate::matmul::{Level, Matrix, Out};
use crate::pool::Pool;

/// Rows of activations that a tile takes.
const ROWS: usize = 16;
/// From so many rows on, a tile that is not full pays.
const FEW: usize = 9;

/// Blocks whose sums are made before they are needed: what a tile stores can be read only some time after.
const AHEAD: usize = 2;
/// Sums of so many blocks are kept.
const RING: usize = 4;

/// Sixteen rows of sixteen sums, as a tile stores them.
#[repr(align(64))]
struct Sums {
    _rows: [i32; ROWS * 16],
}

/// What each tile holds: sums (0), a block of activations (1) and of weights (2), half a block of each (3, 4).
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

static SHAPES: Shapes = {
    let mut shapes = Shapes { palette: 1, start: 0, reserved: [0; 14], bytes: [0; 16], rows: [0; 16] };
    let of = [(16, 64), (16, 32), (8, 64), (16, 16), (4, 64)];
    let mut tile = 0;
    while tile < of.len() {
        (shapes.rows[tile], shapes.bytes[tile]) = of[tile];
        tile += 1;
    }
    shapes
};

/// Multiplies as many rows as fill tiles, or nearly do; gives their number.
///
/// # Safety
/// [`usable`] must have said so; the panel must hold the columns of `target`, in the format; `x` must be rounded, in plain
/// order.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
pub(super) unsafe fn multiply_all<const K: u8>(panel: &Panel, x: &Activations, target: &Target<'_>) -> usize {
    let mut first = 0;
    // SAFETY: the caller's promise; the activations are padded to whole sixteens of rows.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(nostack, preserves_flags, readonly));
        while first + FEW <= x.rows() {
            sixteen::<K>(panel, x, first, target);
            first += ROWS;
        }
        // Else every change of threads would save and restore eight kilobytes.
        asm!("tilerelease", options(nostack, preserves_flags, nomem));
    }
    first.min(x.rows())
}

/// # Safety
/// As for [`multiply_all`], with the tiles' shapes set.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
unsafe fn sixteen<const K: u8>(panel: &Panel, x: &Activations, first: usize, target: &Target<'_>) {
    let blocks = x.k() / 32;
    let zero = _mm512_setzero_ps();
    let (mut pair, mut whole) = ([zero; ROWS], [zero; ROWS]);
    let mut ring = MaybeUninit::<[Sums; 2 * RING]>::uninit();
    let ring: *mut Sums = ring.as_mut_ptr().cast();
    let mut now = 0;
    // SAFETY: blocks below `blocks` are in the panel and in the rows of `x`, which are padded to sixteens.
    unsafe {
        for number in 0..AHEAD.min(blocks) {
            make::<K>(panel, x, first, ring, number);
        }
        for (number, four) in FOURS.into_iter().enumerate() {
            let mut sums = [zero; ROWS];
            for turn in 0..4 {
                let mut there = [zero; ROWS];
                for block in at_place(four, turn, blocks) {
                    if now + AHEAD < blocks {
                        make::<K>(panel, x, first, ring, now + AHEAD);
                    }
                    let heads = &*panel.heads.as_ptr().add(place(block));
                    let whole: *const i32 = ring.add(now % RING).cast();
                    for (m, there) in there.iter_mut().enumerate() {
                        let sums = |of: *const i32| _mm512_load_si512(of.add(m * 16).cast());
                        let second = match K {
                            Q6K => sums(whole.add(RING * ROWS * 16)),
                            _ => _mm512_setzero_si512(),
                        };
                        let at = (first + m) * x.d_stride() + place(block);
                        *there = with_block::<K>(*there, heads, sums(whole), second, x, at);
                    }
                    now += 1;
                }
                for m in 0..ROWS {
                    sums[m] = _mm512_add_ps(sums[m], there[m]);
                }
            }
            for m in 0..ROWS {
                pair[m] = if number % 2 == 0 { sums[m] } else { _mm512_add_ps(pair[m], sums[m]) };
            }
            if number == 1 {
                whole = pair;
            }
        }
        for m in 0..ROWS.min(x.rows() - first) {
            target.put(first + m, _mm512_add_ps(whole[m], pair[m]));
        }
    }
}

/// Makes the sums of one block, the `number`th that is looked at, in the ring.
///
/// # Safety
/// As for [`sixteen`]; there must be so many blocks, and `ring` must have room for twice [`RING`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
unsafe fn make<const K: u8>(panel: &Panel, x: &Activations, first: usize, ring: *mut Sums, number: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let block = *panel.order.as_ptr().add(number) as usize;
        let stride = x.q_stride();
        let q = x.q.as_ptr().add(first * stride + block * 32);
        let weights = panel.weights.as_ptr().add(block * 8);
        let sums = ring.add(number % RING);
        if K == Q6K {
            half_product(q, stride, weights, sums);
            half_product(q.add(16), stride, weights.add(4), sums.add(RING));
        } else {
            product(q, stride, weights, sums);
        }
    }
}

/// A block of sixteen rows, `stride` bytes apart, by a block of sixteen columns.
///
/// # Safety
/// The tiles' shapes must be set; the rows and eight vectors of weights must be there.
#[inline(always)]
unsafe fn product(q: *const i8, stride: usize, weights: *const __m512i, out: *mut Sums) {
    // SAFETY: the caller's promise; the tiles are read and written as their shapes say.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tileloadd tmm2, [{weights} + {line}*1]",
            "tileloadd tmm1, [{q} + {stride}*1]",
            "tdpbsud tmm0, tmm1, tmm2",
            "tilestored [{out} + {line}*1], tmm0",
            weights = in(reg) weights,
            q = in(reg) q,
            stride = in(reg) stride,
            line = in(reg) 64usize,
            out = in(reg) out,
            out("tmm0") _, out("tmm1") _, out("tmm2") _,
            options(nostack, preserves_flags),
        );
    }
}

/// [`product`] of half a block.
///
/// # Safety
/// As there, with four vectors of weights.
#[inline(always)]
unsafe fn half_product(q: *const i8, stride: usize, weights: *const __m512i, out: *mut Sums) {
    // SAFETY: the caller's promise; the tiles are read and written as their shapes say.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tileloadd tmm4, [{weights} + {line}*1]",
            "tileloadd tmm3, [{q} + {stride}*1]",
            "tdpbsud tmm0, tmm3, tmm4",
            "tilestored [{out} + {line}*1], tmm0",
            weights = in(reg) weights,
            q = in(reg) q,
            stride = in(reg) stride,
            line = in(reg) 64usize,
            out = in(reg) out,
            out("tmm0") _, out("tmm3") _, out("tmm4") _,
            options(nostack, preserves_flags),
        );
    }
}

/// Whether tiles are there, granted, right and faster than vectors. Found out once; a process that shuts itself in should
/// have asked before.
pub(crate) fn usable() -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    // SAFETY: each question is asked only if those before were answered with yes.
    *USABLE.get_or_init(|| super::available() && present() && granted() && unsafe { trial() })
}

/// Whether the processor has tiles of bytes. Source: the manual, `CPUID`, leaf 7.
fn present() -> bool {
    let leaf = __cpuid_count(7, 0);
    leaf.edx & (1 << 24) != 0 && leaf.edx & (1 << 25) != 0
}

/// Asks Linux for the tiles' state, for all threads of this process.
fn granted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    if cfg!(not(target_os = "linux")) {
        return false;
    }
    let mut answer = ARCH_PRCTL;
    // SAFETY: the call takes two numbers and touches no memory of ours.
    unsafe {
        asm!("syscall", inout("rax") answer, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _, out("r11") _, options(nostack));
    }
    answer == 0
}

/// One panel by 32 rows, by vectors and by tiles: the same bits, in less time.
///
/// # Safety
/// The machine must have what [`super::available`] asks for, and tiles.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,f16c,fma")]
unsafe fn trial() -> bool {
    const K: usize = 576;
    const MANY: usize = 32;
    const TIMES: usize = 30;
    let bytes: Vec<u8> = (0..Kind::Q4_1.row_bytes(K) * 16).map(|at| ((at * 29) % 47) as u8).collect();
    let values: Vec<f32> = (0..K * MANY).map(|at| ((at * 31) % 101) as f32 - 50.0).collect();
    let Some(matrix) = Matrix::new(Kind::Q4_1, &bytes, K, 16) else { return false };
    let mut x = Activations::default();
    x.fill(&mut Pool::new(1), Level::Avx512Vnni, &values, K, false);
    let mut panel = Panel::default();
    // SAFETY: the matrix has sixteen rows of so many blocks.
    unsafe { fill::<Q4_1>(&mut panel, &matrix, 0, 16, K / 32) };
    let mut results = [vec![0f32; MANY * 16], vec![0f32; MANY * 16]];
    let mut best = [u64::MAX; 2];
    // In turn, so that what else runs on the machine meets both.
    for _ in 0..TIMES {
        for (which, (result, best)) in results.iter_mut().zip(&mut best).enumerate() {
            let out = Out::new(result);
            let target = Target::new(16, 0, 16, &out);
            // SAFETY: the caller's promise; the result has a row of sixteen for each row of `x`.
            unsafe {
                let start = _rdtsc();
                if which == 0 {
                    super::panel::by_vectors::<Q4_1>(&panel, &x, 0, &target);
                } else {
                    multiply_all::<Q4_1>(&panel, &x, &target);
                }
                *best = (*best).min(_rdtsc() - start);
            }
        }
    }
    let bits = |result: &[f32]| result.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
    bits(&results[0]) == bits(&results[1]) && best[1] < best[0]
}
