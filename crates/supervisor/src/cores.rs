//! Who computes with how many threads: the machine's cores, shared out among the workers that have something to do, so
//! that their threads do not wait for each other's processors. Knows no worker; each has a seat and asks.

use std::sync::Arc;

use tokio::sync::watch;

/// The machine's cores.
#[derive(Debug)]
pub(crate) struct Cores {
    threads: u32,
    busy: watch::Sender<u32>,
}

/// One worker's claim.
#[derive(Debug)]
pub(crate) struct Seat {
    cores: Arc<Cores>,
    others: watch::Receiver<u32>,
    busy: bool,
    told: u32,
}

impl Cores {
    pub(crate) fn new(threads: u32) -> Arc<Self> {
        Arc::new(Self { threads: threads.max(1), busy: watch::Sender::new(0) })
    }

    /// A seat for a worker that was loaded with all threads.
    pub(crate) fn seat(self: &Arc<Self>) -> Seat {
        let others = self.busy.subscribe();
        Seat { cores: Arc::clone(self), others, busy: false, told: self.threads }
    }
}

impl Seat {
    /// Whether this worker has something to do; what it is to be told, if its share is another than it knows.
    pub(crate) fn claim(&mut self, busy: bool) -> Option<u32> {
        if busy != self.busy {
            self.busy = busy;
            self.cores.busy.send_modify(|count| *count = if busy { *count + 1 } else { *count - 1 });
        }
        let share = (self.cores.threads / (*self.others.borrow_and_update()).max(1)).max(1);
        (busy && share != self.told).then(|| {
            self.told = share;
            share
        })
    }

    /// Waits until another worker has begun or ended its work. May be dropped and called again.
    pub(crate) async fn changed(&mut self) {
        // The sender lives in `cores`, so this cannot fail.
        let _ = self.others.changed().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.claim(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_busy_workers_share_the_cores_and_one_alone_has_them_all() {
        let cores = Cores::new(4);
        let (mut a, mut b) = (cores.seat(), cores.seat());
        assert_eq!(a.claim(true), None, "it was loaded with all");
        assert_eq!(b.claim(true), Some(2));
        assert_eq!(a.claim(true), Some(2));
        assert_eq!(a.claim(true), None, "once");
        drop(b);
        assert_eq!(a.claim(true), Some(4));
    }

    #[test]
    fn an_idle_worker_is_told_nothing_and_nobody_gets_less_than_one() {
        let cores = Cores::new(2);
        let mut seats: Vec<Seat> = (0..5).map(|_| cores.seat()).collect();
        let told: Vec<_> = seats.iter_mut().map(|seat| seat.claim(true)).collect();
        assert_eq!(told, [None, Some(1), Some(1), Some(1), Some(1)]);
        assert_eq!(seats[0].claim(false), None);
        assert_eq!(seats[0].claim(true), Some(1));
    }

    #[tokio::test]
    async fn a_worker_hears_when_another_begins() {
        let cores = Cores::new(2);
        let (mut a, mut b) = (cores.seat(), cores.seat());
        a.claim(true);
        b.claim(true);
        a.changed().await;
        assert_eq!(a.claim(true), Some(1));
    }
}
