//! What happens to one row at a time: norms, positions, the activation between the two halves of a layer. Plain loops that
//! the compiler makes vectors of, once for each level of instructions.

#![expect(unsafe_code, reason = "calls into instructions whose presence the level vouches for")]

use crate::attention::exp;
use crate::matmul::Level;

/// Sums are made in so many lanes.
const LANES: usize = 16;

/// Makes a plain function run with the instructions of a level.
macro_rules! by_level {
    ($(#[$about:meta])* $name:ident = $plain:ident($($argument:ident: $type:ty),*)) => {
        $(#[$about])*
        pub fn $name(level: Level, $($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
                fn wide($($argument: $type),*) {
                    $plain($($argument),*);
                }
                #[target_feature(enable = "avx2,fma")]
                fn half($($argument: $type),*) {
                    $plain($($argument),*);
                }
                match level.sound() {
                    // SAFETY: the machine has what a sound level stands for.
                    Level::Avx512Vnni => return unsafe { wide($($argument),*) },
                    // SAFETY: as above.
                    Level::Avx2 => return unsafe { half($($argument),*) },
                    _ => {}
                }
            }
            let _ = level;
            $plain($($argument),*);
        }
    };
}

by_level! {
    /// Root-mean-square norm: `out = x / rms(x) * weight`. Source: Zhang and Sennrich, 2019.
    norm = norm_plain(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32])
}

by_level! {
    /// [`norm`] of each head, as wide as the weight, in place.
    norm_heads = norm_heads_plain(x: &mut [f32], weight: &[f32], epsilon: f32)
}

by_level! {
    /// Rotates each head by its position's angles, given as cosine and sine. `halves`: a pair is (i, i + half), else
    /// (2i, 2i + 1). Source: Su et al., 2021, and llama.cpp's `llama_model_rope_type`.
    rotate = rotate_plain(x: &mut [f32], width: usize, angles: &[(f32, f32)], halves: bool)
}

by_level! {
    /// `gate = silu(gate) * up`.
    gated = gated_plain(gate: &mut [f32], up: &[f32])
}

by_level! {
    /// `gate = gelu(gate) * up`, with the approximation by the hyperbolic tangent. Source: Hendrycks and Gimpel, 2016.
    gated_by_gelu = gated_by_gelu_plain(gate: &mut [f32], up: &[f32])
}

by_level! {
    /// A norm with mean and bias, in place. Source: Ba, Kiros and Hinton, 2016.
    norm_with_mean = norm_with_mean_plain(x: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32)
}

by_level! {
    /// `x * P(X <= x)` of the normal distribution, by an approximation of the error function that is right to 2e-7. Source:
    /// Abramowitz and Stegun, 7.1.26.
    gelu = gelu_plain(x: &mut [f32])
}

by_level! {
    /// Adds `more` to `x`.
    add = add_plain(x: &mut [f32], more: &[f32])
}

/// The mean of what becomes of each value.
#[inline(always)]
fn mean(x: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for part in whole {
        for (lane, x) in lanes.iter_mut().zip(part) {
            *lane += of(*x);
        }
    }
    let rest: f32 = rest.iter().map(|x| of(*x)).sum();
    (lanes.iter().sum::<f32>() + rest) / x.len() as f32
}

/// What a row is multiplied with so that the mean of its squares is one.
#[inline(always)]
fn inverse_root(x: &[f32], epsilon: f32) -> f32 {
    1.0 / (mean(x, |x| x * x) + epsilon).sqrt()
}

#[inline(always)]
fn norm_plain(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let scale = inverse_root(x, epsilon);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

#[inline(always)]
fn norm_heads_plain(x: &mut [f32], weight: &[f32], epsilon: f32) {
    for head in x.chunks_exact_mut(weight.len()) {
        let scale = inverse_root(head, epsilon);
        for (x, weight) in head.iter_mut().zip(weight) {
            *x *= scale * weight;
        }
    }
}

#[inline(always)]
fn rotate_plain(x: &mut [f32], width: usize, angles: &[(f32, f32)], halves: bool) {
    for head in x.chunks_exact_mut(width) {
        if halves {
            let (first, second) = head.split_at_mut(angles.len());
            for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(angles) {
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
            }
        } else {
            for ([a, b], (cos, sin)) in head.as_chunks_mut::<2>().0.iter_mut().zip(angles) {
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
            }
        }
    }
}

#[inline(always)]
fn gated_plain(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp(-*gate)) * up;
    }
}

#[inline(always)]
fn gated_by_gelu_plain(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        let inner = 1.595_769 * (*gate + 0.044_715 * *gate * *gate * *gate);
        *gate = *gate / (1.0 + exp(-inner)) * up;
    }
}

#[inline(always)]
fn norm_with_mean_plain(x: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    let middle = mean(x, |x| x);
    let scale = 1.0 / (mean(x, |x| (x - middle) * (x - middle)) + epsilon).sqrt();
    for ((x, weight), bias) in x.iter_mut().zip(weight).zip(bias) {
        *x = (*x - middle) * scale * weight + bias;
    }
}

#[inline(always)]
fn gelu_plain(x: &mut [f32]) {
    for x in x {
        let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
        let t = 1.0 / (1.0 + 0.327_591_1 * z);
        let series =
            ((((1.061_405_4 * t - 1.453_152_1) * t + 1.421_413_8) * t - 0.284_496_74) * t + 0.254_829_6) * t;
        let erf = 1.0 - series * exp(-z * z);
        *x = 0.5 * *x * (1.0 + if *x < 0.0 { -erf } else { erf });
    }
}

#[inline(always)]
fn add_plain(x: &mut [f32], more: &[f32]) {
    for (x, more) in x.iter_mut().zip(more) {
        *x += more;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::levels;

    proptest! {
        #[test]
        fn a_rotation_keeps_lengths_and_turns_back(values in proptest::collection::vec(-2f32..2.0, 16), angle in -3f32..3.0, halves in any::<bool>()) {
            for level in levels() {
                let mut x = values.clone();
                let there = [(angle.cos(), angle.sin()); 4];
                let back = [(angle.cos(), -angle.sin()); 4];
                rotate(level, &mut x, 8, &there, halves);
                let length = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>();
                prop_assert!((length(&x) - length(&values)).abs() < 1e-3);
                rotate(level, &mut x, 8, &back, halves);
                for (a, b) in x.iter().zip(&values) {
                    prop_assert!((a - b).abs() < 1e-5);
                }
            }
        }

        #[test]
        fn a_norm_makes_the_mean_square_one(x in proptest::collection::vec(0.5f32..2.0, 1..70)) {
            for level in levels() {
                let (mut out, mut head) = (vec![0.0; x.len()], x.clone());
                norm(level, &x, &vec![1.0; x.len()], 0.0, &mut out);
                let mean = out.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
                prop_assert!((mean - 1.0).abs() < 1e-4);
                norm_heads(level, &mut head, &vec![1.0; x.len()], 0.0);
                prop_assert_eq!(head, out);
            }
        }

        #[test]
        fn gates_are_the_formulas_of_their_sources(gate in proptest::collection::vec(-30f32..30.0, 1..70)) {
            let up: Vec<f32> = gate.iter().map(|x| 1.0 + x / 7.0).collect();
            for level in levels() {
                let (mut silu, mut gelu) = (gate.clone(), gate.clone());
                gated(level, &mut silu, &up);
                gated_by_gelu(level, &mut gelu, &up);
                for (at, (x, up)) in gate.iter().zip(&up).enumerate() {
                    let (x, up) = (f64::from(*x), f64::from(*up));
                    let near = |made: f32, expected: f64| (f64::from(made) - expected).abs() < 1e-5 * (1.0 + expected.abs());
                    prop_assert!(near(silu[at], x / (1.0 + (-x).exp()) * up), "{} of {x}", silu[at]);
                    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                    prop_assert!(near(gelu[at], 0.5 * x * (1.0 + inner.tanh()) * up), "{} of {x}", gelu[at]);
                }
            }
        }
    }
}
