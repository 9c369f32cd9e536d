//! An amount of memory as people write it: a share of the whole, or bytes.

use std::{fmt, str::FromStr};

use manager::GpuLimit;

/// `80%`, `12GiB`, `512MiB`, `1.5GB`, or a plain number of bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Amount {
    /// 0 to 100.
    Percent(f64),
    /// Bytes, under 2^53.
    Bytes(u64),
}

/// A text that is no amount.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no amount of memory: write 80%, 12GiB, 512MiB or a number of bytes")]
pub(crate) struct BadAmount(String);

impl Amount {
    /// As the manager takes it for GPUs, whose memory is known later.
    pub(crate) fn of_gpus(self) -> GpuLimit {
        match self {
            // At most 10,000, and not negative.
            Self::Percent(percent) => GpuLimit::Share((percent * 100.0).round() as u32),
            Self::Bytes(bytes) => GpuLimit::Bytes(bytes),
        }
    }

    /// The amount in bytes, of a whole of so many.
    pub(crate) fn of(self, total_bytes: u64) -> u64 {
        match self {
            // A share of at most the whole: the product cannot exceed it.
            Self::Percent(percent) => (total_bytes as f64 * percent / 100.0) as u64,
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl FromStr for Amount {
    type Err = BadAmount;

    fn from_str(text: &str) -> Result<Self, BadAmount> {
        let bad = || BadAmount(text.chars().take(40).collect());
        let text = text.trim();
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let number: f64 = digits.parse().map_err(|_| bad())?;
        let factor: f64 = match unit.trim() {
            "%" if number <= 100.0 => return Ok(Self::Percent(number)),
            "" | "B" => 1.0,
            "KiB" | "K" => 1024.0,
            "MiB" | "M" => 1_048_576.0,
            "GiB" | "G" => 1_073_741_824.0,
            "TiB" | "T" => 1_099_511_627_776.0,
            "kB" | "KB" => 1e3,
            "MB" => 1e6,
            "GB" => 1e9,
            "TB" => 1e12,
            _ => return Err(bad()),
        };
        let bytes = number * factor;
        if bytes < 9.007_199_254_740_992e15 { Ok(Self::Bytes(bytes.round() as u64)) } else { Err(bad()) }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Bytes(bytes) => {
                let units = [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
                match units.iter().find(|(_, size)| *bytes >= *size && bytes % size == 0) {
                    Some((unit, size)) => write!(f, "{}{unit}", bytes / size),
                    None => write!(f, "{bytes}B"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them_and_written_so_that_they_can_be_read() {
        for (text, bytes) in
            [("12GiB", 12 << 30), ("512 MiB", 512 << 20), ("1.5GB", 1_500_000_000), ("4096", 4096)]
        {
            let amount: Amount = text.parse().unwrap();
            assert_eq!(amount, Amount::Bytes(bytes));
            assert_eq!(amount.to_string().parse::<Amount>().unwrap(), amount);
        }
        assert_eq!("80%".parse::<Amount>().unwrap().of(1000), 800);
        for text in ["", "lots", "-1", "101%", "1e3", "9PiB", "99999999TiB", "GiB"] {
            assert!(text.parse::<Amount>().is_err(), "{text}");
        }
    }
}
