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

/// What a load has to have: bytes of RAM, and of one GPU if it computes there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) ram: u64,
    /// Which, and how much of it.
    pub(crate) gpu: Option<(u32, u64)>,
}

impl Need {
    /// Of a GPU.
    pub(crate) fn of_gpu(&self, index: u32) -> u64 {
        self.gpu.filter(|(which, _)| *which == index).map_or(0, |(_, bytes)| bytes)
    }

    fn bytes(&self) -> Bytes {
        Bytes { ram: self.ram, gpu: self.gpu.map_or(0, |(_, bytes)| bytes) }
    }
}

/// Bytes of RAM, and of the GPU that a load is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) ram: u64,
    pub(crate) gpu: u64,
}

impl std::ops::AddAssign for Bytes {
    fn add_assign(&mut self, more: Self) {
        (self.ram, self.gpu) = (self.ram.saturating_add(more.ram), self.gpu.saturating_add(more.gpu));
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

/// The room of each device that a load needs: there has to be some on all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rooms {
    pub(crate) ram: Room,
    /// Of the GPU that the load needs, if it needs one.
    pub(crate) gpu: Option<Room>,
}

/// A loaded model, as far as making room is concerned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Holder {
    pub(crate) model: ModelId,
    /// Its reservation, which becomes free when its process is gone.
    pub(crate) bytes: Bytes,
    pub(crate) standing: Standing,
}

/// Whether and when a loaded model may be asked to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is going already.
    Leaving,
    /// Nobody uses it: idle for so long, and worth so much: the time of a load times its weight.
    Idle { idle_ms: u64, worth: u64 },
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
    /// On the GPU that the load needs, or in RAM.
    pub(crate) on_gpu: bool,
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
    /// What the machine or the GPU has.
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
        need == 0 || i128::from(need) <= gone.free().saturating_add(i128::from(more))
    }

    /// The same with nobody before us.
    fn alone(&self) -> Self {
        Self { promised: 0, ..*self }
    }
}

impl Rooms {
    fn holds(&self, need: Bytes) -> bool {
        self.ram.holds(need.ram) && self.gpu.is_none_or(|gpu| gpu.holds(need.gpu))
    }

    fn would_hold(&self, need: Bytes, more: Bytes) -> bool {
        !self.lacks(need, more, true) && !self.lacks(need, more, false)
    }

    /// Whether there would be too little of RAM, or of the GPU, once so much is gone and measured.
    fn lacks(&self, need: Bytes, more: Bytes, on_gpu: bool) -> bool {
        match on_gpu {
            true => self.gpu.is_some_and(|gpu| !gpu.would_hold(need.gpu, more.gpu)),
            false => !self.ram.would_hold(need.ram, more.ram),
        }
    }

    /// Whether it helps that somebody goes who holds so much.
    fn is_helped(&self, need: Bytes, more: Bytes, held: Bytes) -> bool {
        (held.ram > 0 && self.lacks(need, more, false)) || (held.gpu > 0 && self.lacks(need, more, true))
    }

    fn is_promised(&self) -> bool {
        self.ram.promised > 0 || self.gpu.is_some_and(|gpu| gpu.promised > 0)
    }

    fn alone(&self) -> Self {
        Self { ram: self.ram.alone(), gpu: self.gpu.map(|gpu| gpu.alone()) }
    }

    /// Where there is too little even then.
    fn no_room(&self, need: Bytes, more: Bytes) -> NoRoom {
        match self.gpu.filter(|_| !self.lacks(need, more, false)) {
            Some(gpu) => NoRoom { on_gpu: true, ..no_room(&gpu, more.gpu) },
            None => no_room(&self.ram, more.ram),
        }
    }
}

/// Decides about a load. Only who is first in the line asks others to go, so that no more go than are needed.
pub(crate) fn admit(need: Need, room: &Rooms, holders: &[Holder]) -> Result<Admission, NoRoom> {
    let need = need.bytes();
    if room.holds(need) {
        return Ok(Admission::Now);
    }
    let sum = |of: &dyn Fn(&Standing) -> bool| -> Bytes {
        holders.iter().filter(|holder| of(&holder.standing)).map(|holder| holder.bytes).sum()
    };
    let names = |of: &dyn Fn(&Standing) -> bool| -> Vec<ModelId> {
        holders.iter().filter(|holder| of(&holder.standing)).map(|holder| holder.model.clone()).collect()
    };
    let alone = room.alone();
    let may_go = |standing: &Standing| !matches!(standing, Standing::Pinned | Standing::Stuck);
    if !alone.would_hold(need, sum(&may_go)) {
        return Err(alone.no_room(need, sum(&may_go)));
    }
    if room.is_promised() {
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

/// The idle ones, those who are worth least to keep first: idle for long, quick to load again, of little weight, large.
fn by_worth(holders: &[Holder]) -> Vec<&Holder> {
    let mut idle: Vec<(&Holder, u64, u64)> = holders
        .iter()
        .filter_map(|holder| match holder.standing {
            Standing::Idle { idle_ms, worth } => Some((holder, idle_ms, worth.max(1))),
            _ => None,
        })
        .collect();
    idle.sort_by_key(|(holder, ..)| std::cmp::Reverse(holder.bytes.ram.saturating_add(holder.bytes.gpu)));
    // idle / worth, largest first, without a division.
    idle.sort_by(|(_, idle_a, worth_a), (_, idle_b, worth_b)| {
        (u128::from(*idle_b) * u128::from(*worth_a)).cmp(&(u128::from(*idle_a) * u128::from(*worth_b)))
    });
    idle.into_iter().map(|(holder, ..)| holder).collect()
}

/// The idle model that is worth least to keep.
pub(crate) fn least_worth(holders: &[Holder]) -> Option<ModelId> {
    by_worth(holders).first().map(|holder| holder.model.clone())
}

/// Those who go for a load: no more than needed, and nobody who holds nothing of what is lacking. `None`: all idle ones
/// together do not suffice.
fn victims(need: Bytes, room: &Rooms, coming: Bytes, holders: &[Holder]) -> Option<Vec<ModelId>> {
    let mut freed = coming;
    let mut chosen: Vec<&Holder> = Vec::new();
    for holder in by_worth(holders) {
        if room.would_hold(need, freed) {
            break;
        }
        if room.is_helped(need, freed, holder.bytes) {
            freed += holder.bytes;
            chosen.push(holder);
        }
    }
    if !room.would_hold(need, freed) {
        return None;
    }
    // A later, larger one may have made an earlier one needless; the worthiest is spared first.
    for at in (0..chosen.len()).rev() {
        let mut others = coming;
        for (number, holder) in chosen.iter().enumerate() {
            others += if number == at { Bytes::default() } else { holder.bytes };
        }
        if room.would_hold(need, others) {
            chosen.remove(at);
        }
    }
    Some(chosen.into_iter().map(|holder| holder.model.clone()).collect())
}

/// What a load that would fit if everybody went has to wait for.
fn later(need: Bytes, room: &Rooms, holders: &[Holder], coming: Bytes) -> Later {
    let idle: Bytes =
        holders.iter().filter(|h| matches!(h.standing, Standing::Idle { .. })).map(|h| h.bytes).sum();
    let mut young: Vec<(u64, &Holder)> = holders
        .iter()
        .filter_map(|holder| match holder.standing {
            Standing::Young { ms } => Some((ms, holder)),
            _ => None,
        })
        .collect();
    young.sort_by_key(|(ms, _)| *ms);
    let mut freed = coming;
    freed += idle;
    for (ms, holder) in young {
        if !room.is_helped(need, freed, holder.bytes) {
            continue;
        }
        freed += holder.bytes;
        if room.would_hold(need, freed) {
            return Later::Young { model: holder.model.clone(), ms };
        }
    }
    let helps = |holder: &&Holder| room.is_helped(need, freed, holder.bytes);
    let busy = holders.iter().filter(|holder| holder.standing == Standing::Busy).filter(helps);
    Later::Busy(busy.map(|holder| holder.model.clone()).collect())
}

fn no_room(room: &Room, more: u64) -> NoRoom {
    let bytes = |free: i128| u64::try_from(free.max(0)).unwrap_or(u64::MAX);
    let told = |whose, free: i128, more: u64| {
        let at_most = free.saturating_add(i128::from(more));
        NoRoom { on_gpu: false, whose, free: bytes(free), more: bytes(at_most) - bytes(free) }
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
            (0_u64..50, 0_u64..9).prop_map(|(idle_ms, worth)| Standing::Idle { idle_ms, worth }),
            (0_u64..50, 0_u64..9).prop_map(|(idle_ms, worth)| Standing::Idle { idle_ms, worth }),
            (1_u64..20).prop_map(|ms| Standing::Young { ms }),
            Just(Standing::Busy),
            Just(Standing::Pinned),
            Just(Standing::Stuck),
        ]
    }

    /// A device: limit, available, promised, kept back, returning.
    type Device = (u64, Option<u64>, u64, u64, u64);

    fn device() -> impl Strategy<Value = Device> {
        (0_u64..150, proptest::option::of(0_u64..150), 0_u64..40, 0_u64..20, 0_u64..20)
    }

    /// Its room, where so much is reserved and taken.
    fn room((limit, available, promised, kept_back, returning): Device, held: &[(u64, u64)]) -> Room {
        let reserved = held.iter().map(|(bytes, _)| bytes).sum();
        let outstanding = held.iter().map(|(bytes, taken)| bytes.saturating_sub(*taken)).sum();
        Room { limit, reserved, outstanding, promised, available, kept_back, returning }
    }

    fn house() -> impl Strategy<Value = (Need, Rooms, Vec<Holder>)> {
        let on_gpu = prop_oneof![Just((0_u64, 0_u64)), (0_u64..40, 0_u64..40)];
        let holders = proptest::collection::vec(((0_u64..40, 0_u64..40), on_gpu, standing()), 0..7);
        let gpu = proptest::option::of((1_u64..80, device()));
        ((1_u64..120, device()), gpu, holders).prop_map(|((ram, device), gpu, all)| {
            let of_ram: Vec<_> = all.iter().map(|(ram, ..)| *ram).collect();
            let of_gpu: Vec<_> = all.iter().map(|(_, gpu, _)| *gpu).collect();
            let rooms =
                Rooms { ram: room(device, &of_ram), gpu: gpu.map(|(_, device)| room(device, &of_gpu)) };
            let holder = |at: usize| {
                let ((ram, _), (on_gpu, _), standing) = all[at];
                let bytes = Bytes { ram, gpu: if gpu.is_some() { on_gpu } else { 0 } };
                Holder { model: format!("m{at}").parse().unwrap(), bytes, standing }
            };
            let holders = (0..all.len()).map(holder).collect();
            (Need { ram, gpu: gpu.map(|(bytes, _)| (3, bytes)) }, rooms, holders)
        })
    }

    /// Said once more in other words: what is free of a device, by limit and by measurement, once `gone` bytes are back.
    fn fits_one(need: u64, room: &Room, gone: u64, measured: bool) -> bool {
        let limit = room.reserved + room.promised + need <= room.limit + gone;
        let returning = if measured { room.returning } else { 0 };
        let machine = room.available.is_none_or(|available| {
            room.kept_back + room.outstanding + room.promised + need <= available + returning + gone
        });
        limit && machine
    }

    /// On every device that the load needs.
    fn fits(need: Need, rooms: &Rooms, gone: Bytes, measured: bool) -> bool {
        let of_gpu =
            need.gpu.zip(rooms.gpu).is_none_or(|((_, bytes), gpu)| fits_one(bytes, &gpu, gone.gpu, measured));
        of_gpu && fits_one(need.ram, &rooms.ram, gone.ram, measured)
    }

    fn held_by(holders: &[Holder], pick: impl Fn(&Holder) -> bool) -> Bytes {
        holders.iter().filter(|holder| pick(holder)).map(|holder| holder.bytes).sum()
    }

    fn first_in_line(rooms: Rooms) -> Rooms {
        let first = |room: Room| Room { promised: 0, ..room };
        Rooms { ram: first(rooms.ram), gpu: rooms.gpu.map(first) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8192))]

        #[test]
        fn a_decision_is_right_on_every_device_whoever_holds_what((need, rooms, holders) in house()) {
            let is_leaving = |holder: &Holder| holder.standing == Standing::Leaving;
            let leaving = held_by(&holders, is_leaving);
            let movable =
                held_by(&holders, |holder| !matches!(holder.standing, Standing::Pinned | Standing::Stuck));
            match admit(need, &rooms, &holders) {
                Ok(Admission::Now) => prop_assert!(fits(need, &rooms, Bytes::default(), false)),
                Ok(Admission::Evict(chosen)) => {
                    prop_assert_eq!(rooms, first_in_line(rooms), "only the first in the line pushes anybody out");
                    let after = |spared: Option<&ModelId>| held_by(&holders, |holder| {
                        is_leaving(holder) || (chosen.contains(&holder.model) && Some(&holder.model) != spared)
                    });
                    prop_assert!(fits(need, &rooms, after(None), true), "it does not help");
                    for model in &chosen {
                        let holder = holders.iter().find(|holder| holder.model == *model).unwrap();
                        let idle = matches!(holder.standing, Standing::Idle { .. });
                        prop_assert!(idle, "{:?} goes", holder);
                        prop_assert!(!fits(need, &rooms, after(Some(model)), true), "{} goes in vain", model);
                        let ram_lacks = !fits_one(need.ram, &rooms.ram, leaving.ram, true);
                        prop_assert!(ram_lacks || holder.bytes.gpu > 0, "{} has nothing of what is lacking", model);
                    }
                }
                Ok(Admission::Later(_)) => {
                    prop_assert!(!fits(need, &rooms, Bytes::default(), false));
                    prop_assert!(fits(need, &first_in_line(rooms), movable, true), "it waits in vain");
                }
                Err(why) => {
                    prop_assert!(!fits(need, &first_in_line(rooms), movable, true));
                    let there = if why.on_gpu { need.gpu.unwrap().1 } else { need.ram };
                    prop_assert!(there > why.free + why.more);
                }
            }
        }

        #[test]
        fn where_idle_ones_suffice_nobody_waits_for_busy_ones((need, rooms, holders) in house()) {
            let idle = held_by(&holders, |holder| {
                matches!(holder.standing, Standing::Idle { .. } | Standing::Leaving)
            });
            let first = first_in_line(rooms);
            if fits(need, &first, idle, true) {
                let decision = admit(need, &first, &holders);
                let waits = matches!(&decision, Ok(Admission::Later(Later::Leaving(_))));
                prop_assert!(waits || matches!(&decision, Ok(Admission::Now | Admission::Evict(_))), "{decision:?}");
            }
        }
    }

    #[test]
    fn who_was_idle_longest_for_the_price_of_a_load_goes_first() {
        let idle = |name: &str, idle_ms, worth| Holder {
            model: name.parse().unwrap(),
            bytes: Bytes { ram: 10, gpu: 0 },
            standing: Standing::Idle { idle_ms, worth },
        };
        let ram = Room {
            limit: 30,
            reserved: 30,
            outstanding: 0,
            promised: 0,
            available: None,
            kept_back: 0,
            returning: 0,
        };
        let rooms = Rooms { ram, gpu: None };
        let need = |ram| Need { ram, gpu: None };
        let holders = [idle("slow", 9000, 3000), idle("quick", 5000, 100), idle("fresh", 100, 100)];
        assert_eq!(admit(need(10), &rooms, &holders), Ok(Admission::Evict(vec!["quick".parse().unwrap()])));
        let two = Admission::Evict(vec!["quick".parse().unwrap(), "slow".parse().unwrap()]);
        assert_eq!(admit(need(20), &rooms, &holders), Ok(two));
    }
}
