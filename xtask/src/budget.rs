//! How large the browser's half may be.

use anyhow::{Result, bail};

/// What the WASM may weigh on the wire, brotli, in bytes.
pub(crate) const WASM_BROTLI_BYTES: usize = 250_000;

/// A sentence about the size, or an error that says what to look at.
pub(crate) fn wasm(bytes: usize) -> Result<String> {
    let kilobytes = |bytes: usize| (bytes as f64 / 1000.0 * 10.0).round() / 10.0;
    let (is, may) = (kilobytes(bytes), kilobytes(WASM_BROTLI_BYTES));
    if bytes > WASM_BROTLI_BYTES {
        bail!(
            "the WASM weighs {is} kB brotli; {may} kB are allowed. If wasm-opt was left out, install npm and build \
             again; otherwise look for new dependencies: cargo tree -p frontend --target wasm32-unknown-unknown"
        );
    }
    Ok(format!("the WASM weighs {is} of {may} kB brotli"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_holds_to_the_byte() {
        assert_eq!(wasm(WASM_BROTLI_BYTES).unwrap(), "the WASM weighs 250 of 250 kB brotli");
        assert!(wasm(WASM_BROTLI_BYTES + 1).is_err());
        assert_eq!(wasm(98_040).unwrap(), "the WASM weighs 98 of 250 kB brotli");
    }
}
