//! What happens to one row at a time: norms, positions, the activation between the two halves of a layer.

use kernels::exp;

/// Root-mean-square norm: `out = x / rms(x) * weight`. Source: Zhang and Sennrich, 2019.
pub(super) fn norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let mut lanes = [0f32; 16];
    let whole = x.len() / 16 * 16;
    for part in x[..whole].chunks_exact(16) {
        for (lane, x) in lanes.iter_mut().zip(part) {
            *lane += x * x;
        }
    }
    let rest: f32 = x[whole..].iter().map(|x| x * x).sum();
    let scale = 1.0 / ((lanes.iter().sum::<f32>() + rest) / x.len() as f32 + epsilon).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

/// [`norm`] of each head, in place.
pub(super) fn norm_heads(x: &mut [f32], weight: &[f32], epsilon: f32) {
    for head in x.chunks_exact_mut(weight.len()) {
        let square: f32 = head.iter().map(|x| x * x).sum();
        let scale = 1.0 / (square / head.len() as f32 + epsilon).sqrt();
        for (x, weight) in head.iter_mut().zip(weight) {
            *x *= scale * weight;
        }
    }
}

/// Rotates each head by its position's angles, given as cosine and sine. `halves`: a pair is (i, i + half), else
/// (2i, 2i + 1). Source: Su et al., 2021, and llama.cpp's `llama_model_rope_type`.
pub(super) fn rotate(x: &mut [f32], width: usize, angles: &[(f32, f32)], halves: bool) {
    for head in x.chunks_exact_mut(width) {
        for (i, (cos, sin)) in angles.iter().enumerate() {
            let (a, b) = if halves { (i, i + angles.len()) } else { (2 * i, 2 * i + 1) };
            let (first, second) = (head[a], head[b]);
            head[a] = first * cos - second * sin;
            head[b] = first * sin + second * cos;
        }
    }
}

/// `gate = silu(gate) * up`.
pub(super) fn gated(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp(-*gate)) * up;
    }
}

/// `gate = gelu(gate) * up`, with the approximation by the hyperbolic tangent. Source: Hendrycks and Gimpel, 2016.
pub(super) fn gated_by_gelu(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        let inner = 1.595_769 * (*gate + 0.044_715 * *gate * *gate * *gate);
        *gate = *gate / (1.0 + exp(-inner)) * up;
    }
}

/// Adds `more` to `x`, each row normed by `weight` if there is one.
pub(super) fn add_rows(x: &mut [f32], more: &mut [f32], weight: Option<&[f32]>, epsilon: f32) {
    if let Some(weight) = weight {
        norm_heads(more, weight, epsilon);
    }
    add(x, more);
}

/// Adds `more` to `x`.
pub(super) fn add(x: &mut [f32], more: &[f32]) {
    for (x, more) in x.iter_mut().zip(more) {
        *x += more;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_rotation_keeps_lengths_and_turns_back(values in proptest::collection::vec(-2f32..2.0, 16), angle in -3f32..3.0, halves in any::<bool>()) {
            let mut x = values.clone();
            let there = [(angle.cos(), angle.sin()); 4];
            let back = [(angle.cos(), -angle.sin()); 4];
            rotate(&mut x, 8, &there, halves);
            let length = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>();
            prop_assert!((length(&x) - length(&values)).abs() < 1e-3);
            rotate(&mut x, 8, &back, halves);
            for (a, b) in x.iter().zip(&values) {
                prop_assert!((a - b).abs() < 1e-5);
            }
        }

        #[test]
        fn a_norm_makes_the_mean_square_one(x in proptest::collection::vec(0.5f32..2.0, 1..70)) {
            let mut out = vec![0.0; x.len()];
            norm(&x, &vec![1.0; x.len()], 0.0, &mut out);
            let mean = out.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
            prop_assert!((mean - 1.0).abs() < 1e-4);
        }
    }
}
