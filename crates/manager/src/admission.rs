//! Whether there is room for a load. Pure arithmetic; nothing is evicted yet.

/// What counts against a load, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// That all models together may reserve.
    pub(crate) limit: u64,
    /// That models have reserved.
    pub(crate) reserved: u64,
    /// Of these, not taken yet.
    pub(crate) outstanding: u64,
    /// MemAvailable; `None` before the first measurement.
    pub(crate) available: Option<u64>,
    /// Of it, left to others.
    pub(crate) kept_back: u64,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// The limit leaves only so much.
    Limit { free: u64 },
    /// The machine has only so much.
    Machine { free: u64 },
}

impl Room {
    /// Bytes that a load may still reserve under the limit.
    pub(crate) fn within_limit(&self) -> u64 {
        self.limit.saturating_sub(self.reserved)
    }

    /// Bytes that the machine has for a load, once everybody has taken what was promised to them.
    pub(crate) fn within_machine(&self) -> Option<u64> {
        Some(self.available?.saturating_sub(self.kept_back).saturating_sub(self.outstanding))
    }

    /// Bytes that would be left after another reservation of `need`; negative: so many are missing.
    pub(crate) fn free_after(&self, need: u64) -> i64 {
        let free = self.within_limit().min(self.within_machine().unwrap_or(u64::MAX));
        let left = i128::from(free) - i128::from(need);
        // Bytes of a machine fit 63 bits by far.
        i64::try_from(left).unwrap_or(if left < 0 { i64::MIN } else { i64::MAX })
    }
}

/// Whether `need` bytes can be reserved.
pub(crate) fn admit(need: u64, room: &Room) -> Result<(), NoRoom> {
    let free = room.within_limit();
    if need > free {
        return Err(NoRoom::Limit { free });
    }
    match room.within_machine() {
        Some(free) if need > free => Err(NoRoom::Machine { free }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_admitted_fits_the_limit_and_the_machine(
            need in 0_u64..100, limit in 0_u64..100, reserved in 0_u64..100, taken in 0_u64..100,
            available in proptest::option::of(0_u64..100), kept_back in 0_u64..100,
        ) {
            let outstanding = reserved.saturating_sub(taken);
            let room = Room { limit, reserved, outstanding, available, kept_back };
            let fits = reserved + need <= limit
                && available.is_none_or(|free| need + outstanding + kept_back <= free);
            // A need of nothing fits even where too much is reserved already.
            prop_assert_eq!(admit(need, &room).is_ok(), fits || need == 0);
        }
    }
}
