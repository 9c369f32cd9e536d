//! Whether there is room for a load, who would have to go for it, what it has to wait for, or why it never fits. Pure
//! arithmetic over who holds what; a load and a plan take the same decision here.

use protocol::ModelId;

/// What counts against a load, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// That all models together may reserve.
    pub(crate) limit: u64,
    /// That models have reserved.
    pub(crate) reserved: u64,
    /// Of these, not taken yet.
    pub(crate) outstanding: u64,
    /// What others have been promised who wait for room since earlier.
    pub(crate) promised: u64,
    /// What the machine can give without harm; `None` before the first measurement.
    pub(crate) available: Option<u64>,
    /// Of it, left to other programs.
    pub(crate) kept_back: u64,
    /// Given back since that measurement, so not yet in it.
    pub(crate) returning: u64,
}

/// A loaded model, as far as making room is concerned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Holder {
    pub(crate) model: ModelId,
    /// Its reservation, which becomes free when its process is gone.
    pub(crate) bytes: u64,
    pub(crate) standing: Standing,
}

/// Whether and when a loaded model may be asked to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is going already.
    Leaving,
    /// Nobody uses it: idle for so long, and so long to load again.
    Idle { idle_ms: u64, load_ms: u64 },
    /// Nobody uses it, but it came only now; it may be asked after so long.
    Young { ms: u64 },
    /// In use, or on its way to somebody who waits.
    Busy,
    /// A person wants it to stay.
    Pinned,
    /// It cannot be ended.
    Stuck,
}

/// What is to be done about a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// There is room.
    Now,
    /// There is once these have gone.
    Evict(Vec<ModelId>),
    /// There will be.
    Later(Later),
}

/// What a load waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Later {
    /// That those have gone who are going; or, if nobody is, that the freed memory is measured.
    Leaving(Vec<ModelId>),
    /// That a model has been there for its least stay.
    Young { model: ModelId, ms: u64 },
    /// That one of these is used no more.
    Busy(Vec<ModelId>),
    /// Its turn.
    Line,
}

/// Why there is no room, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom {
    pub(crate) whose: Whose,
    /// Free now.
    pub(crate) free: u64,
    /// What would come free if every model went that may.
    pub(crate) more: u64,
}

/// Which of the two binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// What models may use together.
    Limit,
    /// What the machine has.
    Machine,
}

impl Room {
    /// Bytes that are free for a load under the limit and on the machine; negative: so many are missing already.
    pub(crate) fn free(&self) -> i128 {
        self.within_limit().min(self.within_machine().unwrap_or(i128::MAX))
    }

    fn within_limit(&self) -> i128 {
        i128::from(self.limit) - i128::from(self.reserved) - i128::from(self.promised)
    }

    /// Once everybody has taken what was promised to them.
    fn within_machine(&self) -> Option<i128> {
        let spoken_for =
            i128::from(self.kept_back) + i128::from(self.outstanding) + i128::from(self.promised);
        Some(i128::from(self.available?) - spoken_for)
    }

    /// Whether `need` bytes can be reserved now.
    fn holds(&self, need: u64) -> bool {
        need == 0 || i128::from(need) <= self.free()
    }

    /// The same once `more` bytes of reservations are gone and measured.
    fn would_hold(&self, need: u64, more: u64) -> bool {
        let gone = Room {
            returning: 0,
            available: self.available.map(|a| a.saturating_add(self.returning)),
            ..*self
        };
        i128::from(need) <= gone.free().saturating_add(i128::from(more))
    }

    /// The same with nobody before us.
    fn alone(&self) -> Self {
        Self { promised: 0, ..*self }
    }
}

/// Decides about `need` bytes. Only who is first in the line asks others to go, so that no more go than are needed.
pub(crate) fn admit(need: u64, room: &Room, holders: &[Holder]) -> Result<Admission, NoRoom> {
    if room.holds(need) {
        return Ok(Admission::Now);
    }
    let sum = |of: &dyn Fn(&Standing) -> bool| -> u64 {
        holders.iter().filter(|holder| of(&holder.standing)).map(|holder| holder.bytes).sum()
    };
    let names = |of: &dyn Fn(&Standing) -> bool| -> Vec<ModelId> {
        holders.iter().filter(|holder| of(&holder.standing)).map(|holder| holder.model.clone()).collect()
    };
    let alone = room.alone();
    let may_go = |standing: &Standing| !matches!(standing, Standing::Pinned | Standing::Stuck);
    if !alone.would_hold(need, sum(&may_go)) {
        return Err(no_room(&alone, sum(&may_go)));
    }
    if room.promised > 0 {
        return Ok(Admission::Later(Later::Line));
    }
    let leaving = |standing: &Standing| *standing == Standing::Leaving;
    let coming = sum(&leaving);
    if room.would_hold(need, coming) {
        return Ok(Admission::Later(Later::Leaving(names(&leaving))));
    }
    if let Some(chosen) = victims(need, room, coming, holders) {
        return Ok(Admission::Evict(chosen));
    }
    Ok(Admission::Later(later(need, room, holders, coming)))
}

/// The idle ones, those who are worth least to keep first: idle for long, quick to load again, large.
fn by_worth(holders: &[Holder]) -> Vec<&Holder> {
    let mut idle: Vec<(&Holder, u64, u64)> = holders
        .iter()
        .filter_map(|holder| match holder.standing {
            Standing::Idle { idle_ms, load_ms } => Some((holder, idle_ms, load_ms.max(1))),
            _ => None,
        })
        .collect();
    idle.sort_by_key(|(holder, ..)| std::cmp::Reverse(holder.bytes));
    // idle / load, largest first, without a division.
    idle.sort_by(|(_, idle_a, load_a), (_, idle_b, load_b)| {
        (u128::from(*idle_b) * u128::from(*load_a)).cmp(&(u128::from(*idle_a) * u128::from(*load_b)))
    });
    idle.into_iter().map(|(holder, ..)| holder).collect()
}

/// The idle model that is worth least to keep.
pub(crate) fn least_worth(holders: &[Holder]) -> Option<ModelId> {
    by_worth(holders).first().map(|holder| holder.model.clone())
}

/// Those who go for a load: no more than needed. `None`: all idle ones together do not suffice.
fn victims(need: u64, room: &Room, coming: u64, holders: &[Holder]) -> Option<Vec<ModelId>> {
    let mut freed = coming;
    let mut chosen: Vec<&Holder> = Vec::new();
    for holder in by_worth(holders) {
        if room.would_hold(need, freed) {
            break;
        }
        freed += holder.bytes;
        chosen.push(holder);
    }
    if !room.would_hold(need, freed) {
        return None;
    }
    // A later, larger one may have made an earlier one needless; the worthiest is spared first.
    for at in (0..chosen.len()).rev() {
        if room.would_hold(need, freed - chosen[at].bytes) {
            freed -= chosen.remove(at).bytes;
        }
    }
    Some(chosen.into_iter().map(|holder| holder.model.clone()).collect())
}

/// What a load that would fit if everybody went has to wait for.
fn later(need: u64, room: &Room, holders: &[Holder], coming: u64) -> Later {
    let idle: u64 =
        holders.iter().filter(|h| matches!(h.standing, Standing::Idle { .. })).map(|h| h.bytes).sum();
    let mut young: Vec<(u64, &Holder)> = holders
        .iter()
        .filter_map(|holder| match holder.standing {
            Standing::Young { ms } => Some((ms, holder)),
            _ => None,
        })
        .collect();
    young.sort_by_key(|(ms, _)| *ms);
    let mut freed = coming + idle;
    for (ms, holder) in young {
        freed += holder.bytes;
        if room.would_hold(need, freed) {
            return Later::Young { model: holder.model.clone(), ms };
        }
    }
    let busy = holders.iter().filter(|holder| holder.standing == Standing::Busy);
    Later::Busy(busy.map(|holder| holder.model.clone()).collect())
}

fn no_room(room: &Room, more: u64) -> NoRoom {
    let bytes = |free: i128| u64::try_from(free.max(0)).unwrap_or(u64::MAX);
    let told = |whose, free: i128, more: u64| {
        let at_most = free.saturating_add(i128::from(more));
        NoRoom { whose, free: bytes(free), more: bytes(at_most) - bytes(free) }
    };
    let (limit, returned) = (room.within_limit(), more.saturating_add(room.returning));
    match room.within_machine() {
        Some(machine) if machine.saturating_add(i128::from(room.returning)) < limit => {
            told(Whose::Machine, machine, returned)
        }
        _ => told(Whose::Limit, limit, more),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn standing() -> impl Strategy<Value = Standing> {
        prop_oneof![
            Just(Standing::Leaving),
            (0_u64..50, 0_u64..9).prop_map(|(idle_ms, load_ms)| Standing::Idle { idle_ms, load_ms }),
            (0_u64..50, 0_u64..9).prop_map(|(idle_ms, load_ms)| Standing::Idle { idle_ms, load_ms }),
            (1_u64..20).prop_map(|ms| Standing::Young { ms }),
            Just(Standing::Busy),
            Just(Standing::Pinned),
            Just(Standing::Stuck),
        ]
    }

    fn house() -> impl Strategy<Value = (Room, Vec<Holder>)> {
        let holders = proptest::collection::vec((0_u64..40, 0_u64..40, standing()), 0..7);
        let rest = (0_u64..150, proptest::option::of(0_u64..150), 0_u64..40, 0_u64..20, 0_u64..20);
        (holders, rest).prop_map(|(all, (limit, available, promised, kept_back, returning))| {
            let reserved = all.iter().map(|(bytes, ..)| bytes).sum();
            let outstanding = all.iter().map(|(bytes, taken, _)| bytes.saturating_sub(*taken)).sum();
            let room = Room { limit, reserved, outstanding, promised, available, kept_back, returning };
            let holder = |(at, (bytes, _, standing)): (usize, &(u64, u64, Standing))| Holder {
                model: format!("m{at}").parse().unwrap(),
                bytes: *bytes,
                standing: *standing,
            };
            let holders = all.iter().enumerate().map(holder).collect();
            (room, holders)
        })
    }

    /// Said once more in other words: what is free of both once `gone` bytes are back.
    fn fits(need: u64, room: &Room, gone: u64, measured: bool) -> bool {
        let limit = room.reserved + room.promised + need <= room.limit + gone;
        let returning = if measured { room.returning } else { 0 };
        let machine = room.available.is_none_or(|available| {
            room.kept_back + room.outstanding + room.promised + need <= available + returning + gone
        });
        limit && machine
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn a_decision_is_right_whoever_holds_what(need in 1_u64..120, (room, holders) in house()) {
            let of = |pick: fn(&Standing) -> bool| -> u64 {
                holders.iter().filter(|holder| pick(&holder.standing)).map(|holder| holder.bytes).sum()
            };
            let leaving = of(|s| *s == Standing::Leaving);
            let movable = of(|s| !matches!(s, Standing::Pinned | Standing::Stuck));
            let nobody_before = Room { promised: 0, ..room };
            match admit(need, &room, &holders) {
                Ok(Admission::Now) => prop_assert!(fits(need, &room, 0, false)),
                Ok(Admission::Evict(chosen)) => {
                    prop_assert_eq!(room.promised, 0, "only the first in the line pushes anybody out");
                    let bytes = |model: &ModelId| {
                        let holder = holders.iter().find(|holder| holder.model == *model).unwrap();
                        assert!(matches!(holder.standing, Standing::Idle { .. }), "{holder:?} goes");
                        holder.bytes
                    };
                    let freed: u64 = chosen.iter().map(bytes).sum();
                    prop_assert!(fits(need, &room, leaving + freed, true), "it does not help");
                    for model in &chosen {
                        prop_assert!(!fits(need, &room, leaving + freed - bytes(model), true), "{model} goes in vain");
                    }
                }
                Ok(Admission::Later(_)) => {
                    prop_assert!(!fits(need, &room, 0, false));
                    prop_assert!(fits(need, &nobody_before, movable, true), "it waits in vain");
                }
                Err(why) => {
                    prop_assert!(!fits(need, &nobody_before, movable, true));
                    prop_assert!(need > why.free + why.more);
                }
            }
        }

        #[test]
        fn where_idle_ones_suffice_nobody_waits_for_busy_ones(need in 1_u64..120, (room, holders) in house()) {
            let idle: u64 = holders.iter()
                .filter(|holder| matches!(holder.standing, Standing::Idle { .. } | Standing::Leaving))
                .map(|holder| holder.bytes).sum();
            let first = Room { promised: 0, ..room };
            if fits(need, &first, idle, true) {
                let decision = admit(need, &first, &holders);
                let waits = matches!(&decision, Ok(Admission::Later(Later::Leaving(_))));
                prop_assert!(waits || matches!(&decision, Ok(Admission::Now | Admission::Evict(_))), "{decision:?}");
            }
        }
    }

    #[test]
    fn who_was_idle_longest_for_the_price_of_a_load_goes_first() {
        let idle = |name: &str, idle_ms, load_ms| Holder {
            model: name.parse().unwrap(),
            bytes: 10,
            standing: Standing::Idle { idle_ms, load_ms },
        };
        let room = Room {
            limit: 30,
            reserved: 30,
            outstanding: 0,
            promised: 0,
            available: None,
            kept_back: 0,
            returning: 0,
        };
        let holders = [idle("slow", 9000, 3000), idle("quick", 5000, 100), idle("fresh", 100, 100)];
        assert_eq!(admit(10, &room, &holders), Ok(Admission::Evict(vec!["quick".parse().unwrap()])));
        let two = Admission::Evict(vec!["quick".parse().unwrap(), "slow".parse().unwrap()]);
        assert_eq!(admit(20, &room, &holders), Ok(two));
    }
}
