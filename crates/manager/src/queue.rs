//! Who waits for a model, in the order in which they came. Pure; knows nothing of what they wait for.

use std::{collections::VecDeque, time::Duration};

use protocol::{IdleTimeout, Receipt};

use crate::{event::Ticket, lease::SessionWish, ports::Now};

/// Who runs a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Caller {
    /// The request's id.
    pub(crate) request: String,
    /// In words.
    pub(crate) client: String,
    /// In which session.
    pub(crate) session: Option<SessionWish>,
}

impl Caller {
    /// Who reset a timer, in words.
    pub(crate) fn words(&self) -> String {
        format!("request by {}", self.client)
    }
}

/// What somebody waits for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Want {
    /// A lease.
    Lease(Caller),
    /// That the model is ready; a person may take it on themselves to go past the limit.
    Load { anyway: bool },
    /// The same, after its old instance went; the receipt, once there is one.
    Reload(Option<Box<Receipt>>),
}

/// One who waits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Waiter {
    pub(crate) ticket: Ticket,
    pub(crate) since: Now,
    /// Rules the instance from the grant on.
    pub(crate) idle_timeout: Option<IdleTimeout>,
    /// Positions that a sequence must be able to have.
    pub(crate) context: Option<u32>,
    /// In words.
    pub(crate) by: String,
    /// Whether it waited while the present instance was loaded.
    pub(crate) saw_load: bool,
    pub(crate) want: Want,
}

impl Waiter {
    pub(crate) fn caller(&self) -> Option<&Caller> {
        match &self.want {
            Want::Lease(caller) => Some(caller),
            Want::Load { .. } | Want::Reload(_) => None,
        }
    }
}

/// A load that was asked for by itself: it goes on when nobody waits for it any more.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wish {
    pub(crate) by: String,
    pub(crate) reason: &'static str,
    /// Past the limit.
    pub(crate) anyway: bool,
    pub(crate) context: Option<u32>,
    pub(crate) idle_timeout: Option<IdleTimeout>,
}

impl Wish {
    /// A later wish says more, and takes back nothing of what it does not speak of: whoever took it on themselves to go past the
    /// limit still does.
    fn after(self, earlier: Self) -> Self {
        let (by, reason) = match earlier.anyway && !self.anyway {
            true => (earlier.by, earlier.reason),
            false => (self.by, self.reason),
        };
        Self {
            by,
            reason,
            anyway: self.anyway || earlier.anyway,
            context: self.context.or(earlier.context),
            idle_timeout: self.idle_timeout.or(earlier.idle_timeout),
        }
    }
}

/// Everybody who waits for a model's next instance, or for a place in the present one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Queue {
    waiters: VecDeque<Waiter>,
    wish: Option<Wish>,
}

impl Queue {
    /// Whether there is a reason to load.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wish.is_some() || !self.waiters.is_empty()
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Requests that wait for a lease.
    pub(crate) fn requests(&self) -> u32 {
        let leases = self.iter().filter(|waiter| waiter.caller().is_some()).count();
        u32::try_from(leases).unwrap_or(u32::MAX)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Waiter> {
        self.waiters.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Waiter> {
        self.waiters.iter_mut()
    }

    /// Lines somebody up. Whoever wants the load itself, rather than a lease, is remembered as its reason.
    pub(crate) fn push(&mut self, waiter: Waiter) {
        let (reason, anyway) = match waiter.want {
            Want::Lease(_) => ("", false),
            Want::Load { anyway: false } => ("asked", false),
            Want::Load { anyway: true } => ("asked, anyway", true),
            Want::Reload(_) => ("reload", false),
        };
        if !reason.is_empty() {
            let Waiter { context, idle_timeout, .. } = waiter;
            let wish = Wish { by: waiter.by.clone(), reason, anyway, context, idle_timeout };
            self.wish = Some(match self.wish.take() {
                Some(earlier) => wish.after(earlier),
                None => wish,
            });
        }
        self.waiters.push_back(waiter);
    }

    /// Lines people up before everybody else, in their order.
    pub(crate) fn put_first(&mut self, waiters: Vec<Waiter>) {
        for waiter in waiters.into_iter().rev() {
            self.waiters.push_front(waiter);
        }
    }

    /// The load that was wished for has come.
    pub(crate) fn forget_wish(&mut self) {
        self.wish = None;
    }

    /// Lets somebody go.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<Waiter> {
        let at = self.waiters.iter().position(|waiter| waiter.ticket == ticket)?;
        self.waiters.remove(at)
    }

    /// The next in line.
    pub(crate) fn pop(&mut self) -> Option<Waiter> {
        self.waiters.pop_front()
    }

    /// Lets everybody go, and forgets the wish.
    pub(crate) fn clear(&mut self) -> Vec<Waiter> {
        self.wish = None;
        self.waiters.drain(..).collect()
    }

    /// Lets go whom `gone` picks.
    pub(crate) fn extract(&mut self, gone: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        let (out, stay) = self.waiters.drain(..).partition::<Vec<_>, _>(|waiter| gone(waiter));
        self.waiters = stay.into();
        out
    }

    /// Requests that have waited for `most`.
    pub(crate) fn expired(&mut self, now: Now, most: Duration) -> Vec<Waiter> {
        self.extract(|waiter| waiter.caller().is_some() && now.mono >= waiter.since.mono + most)
    }

    /// When the first request will have waited for `most`, on the monotonic clock.
    pub(crate) fn expires(&self, most: Duration) -> Option<Duration> {
        self.iter().filter(|waiter| waiter.caller().is_some()).map(|waiter| waiter.since.mono + most).min()
    }

    /// The wish for the load itself, if there is one.
    pub(crate) fn wish(&self) -> Option<&Wish> {
        self.wish.as_ref()
    }

    /// The context that the next instance should have: of the wish, else of the first who needs one.
    pub(crate) fn context(&self) -> Option<u32> {
        self.wish.as_ref().and_then(|wish| wish.context).or_else(|| self.iter().find_map(|w| w.context))
    }

    /// Whether somebody takes it on themselves to go past the limit.
    pub(crate) fn anyway(&self) -> bool {
        self.wish.as_ref().is_some_and(|wish| wish.anyway)
    }

    /// Why the load is begun, and for whom, in words.
    pub(crate) fn reason(&self) -> (&'static str, String) {
        match (&self.wish, self.waiters.front()) {
            (Some(wish), _) => (wish.reason, wish.by.clone()),
            (None, Some(first)) => ("request", first.by.clone()),
            (None, None) => ("request", String::new()),
        }
    }
}
