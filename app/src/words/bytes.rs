//! Bytes as people read them: binary units, three significant digits.

use super::fixed;

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// An amount with three significant digits: `33.1 MiB`, `1.05 GiB`, `934 MiB`.
pub fn bytes(amount: u64) -> String {
    let unit = unit_of(amount);
    format!("{} {}", figure(amount, unit), UNITS[unit])
}

/// An amount that is only roughly known, without a fraction where none matters: `33 MiB`, `1.05 GiB`.
pub fn about(amount: u64) -> String {
    let unit = unit_of(amount);
    let value = scaled(amount, unit);
    if unit > 2 {
        return bytes(amount);
    }
    let decimals = if amount > 0 && value < 9.95 { 1 } else { 0 };
    format!("{} {}", fixed(value, decimals), UNITS[unit])
}

/// A round amount, without digits that say nothing: `48 MiB`, `1.5 GiB`.
pub fn round(amount: u64) -> String {
    let unit = unit_of(amount);
    let tenths = fixed(scaled(amount, unit), 1);
    format!("{} {}", tenths.strip_suffix(".0").unwrap_or(&tenths), UNITS[unit])
}

/// A part and its whole in the whole's unit: `33.1 of 33.1 MiB`.
pub fn part_of(part: u64, whole: u64) -> String {
    let unit = unit_of(whole);
    let decimals = decimals(whole, unit);
    format!(
        "{} of {} {}",
        fixed(scaled(part, unit), decimals),
        fixed(scaled(whole, unit), decimals),
        UNITS[unit]
    )
}

/// An amount that may be negative: `-12.0 MiB`.
pub fn signed(amount: i64) -> String {
    let sign = if amount < 0 { "\u{2212}" } else { "" };
    format!("{sign}{}", bytes(amount.unsigned_abs()))
}

fn unit_of(amount: u64) -> usize {
    let mut unit = 0;
    // 1023.6 MiB would be shown as 1024 MiB: what rounds to the next unit is written in it.
    while unit + 1 < UNITS.len() && scaled(amount, unit) >= 1023.5 {
        unit += 1;
    }
    // Memory is never worth a byte count to a person.
    if amount > 0 { unit.max(1) } else { 2 }
}

fn scaled(amount: u64, unit: usize) -> f64 {
    amount as f64 / 1024_f64.powi(unit as i32)
}

fn decimals(amount: u64, unit: usize) -> u32 {
    let value = scaled(amount, unit);
    if amount == 0 || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    }
}

fn figure(amount: u64, unit: usize) -> String {
    fixed(scaled(amount, unit), decimals(amount, unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    #[test]
    fn amounts_are_written_with_three_digits() {
        for (amount, text) in [
            (0, "0 MiB"),
            (512, "0.50 KiB"),
            (34_708_000, "33.1 MiB"),
            (934 * MIB, "934 MiB"),
            (1_095_216_660, "1.02 GiB"),
            (18 * GIB, "18.0 GiB"),
            (GIB - 1, "1.00 GiB"),
            (MIB * 100 - 1, "100 MiB"),
            (10 * MIB - 1, "10.0 MiB"),
        ] {
            assert_eq!(bytes(amount), text);
        }
    }

    #[test]
    fn rough_amounts_have_fewer_digits() {
        for (amount, text) in
            [(34_708_000, "33 MiB"), (1_127_428_915, "1.05 GiB"), (94 * MIB, "94 MiB"), (0, "0 MiB")]
        {
            assert_eq!(about(amount), text);
        }
    }

    #[test]
    fn a_round_amount_has_no_empty_digits() {
        assert_eq!(round(48 * MIB), "48 MiB");
        assert_eq!(round(3 * GIB / 2), "1.5 GiB");
    }

    #[test]
    fn a_part_stands_in_its_wholes_unit() {
        assert_eq!(part_of(34_708_000, 34_708_000), "33.1 of 33.1 MiB");
        assert_eq!(part_of(512 * MIB, 2 * GIB), "0.50 of 2.00 GiB");
        assert_eq!(part_of(0, 0), "0 of 0 MiB");
    }

    #[test]
    fn a_negative_amount_keeps_its_sign() {
        assert_eq!(signed(-12 * MIB as i64), "\u{2212}12.0 MiB");
        assert_eq!(signed(12 * MIB as i64), "12.0 MiB");
    }

    proptest! {
        #[test]
        fn no_figure_is_longer_than_four_digits_and_a_point(amount in 0_u64..(1 << 50)) {
            let text = bytes(amount);
            let figure = text.split(' ').next().unwrap_or_default();
            prop_assert!(figure.len() <= 5, "{}", text);
            prop_assert!(figure.parse::<f64>().unwrap() <= 1023.6 || text.ends_with("TiB"), "{}", text);
        }
    }
}
