//! A server that may open nothing more: what it has goes on, and it recovers at once.

use std::{net::TcpStream, time::Duration};

use anyhow::{Result, ensure};
use fixtures::{Counting, Random};
use rustix::process::Resource;

use super::{
    Ground,
    clients::{self, End},
    http,
    inn::{Inn, Shelf},
    processes::{self, limit, now, pause, until},
    report::{Figures, Outcome, ms},
};

const NAME: &str = "Max open files";
/// A process with its three standard streams has no number below it left, whatever it closes besides them.
const NONE_FREE: u64 = 3;
const FORM: &str = "application/x-www-form-urlencoded";

pub(super) fn descriptors(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    let model = Counting::new(0);
    let shelf = Shelf::new(&[("one", model), ("two", Counting::new(1))])?;
    let mut inn = Inn::open(ground, &shelf)?;
    let worker = inn.load("one")?;
    let rounds = ground.amount(3, 30);
    let mut worst = Duration::ZERO;
    for round in 0..rounds {
        // Somebody who is there already asks for a model. Its worker is there as well, but its file takes a descriptor.
        inn.waiting()?;
        let there = http::connect(inn.port)?;
        let client = there.local_addr()?.port();
        until("a connection to be taken", Duration::from_secs(2), || processes::is_taken(inn.port, client))?;
        // Not what is open just now: of that, something may be closed in the next moment.
        let before = limit(inn.pid(), Resource::Nofile, NAME, Some(NONE_FREE))?;
        // These are in the backlog, and the server cannot take one.
        let waiting: Vec<TcpStream> = (0..20).filter_map(|_| http::connect(inn.port).ok()).collect();
        let form = Some((FORM, "model=two"));
        let status = http::answer(http::begin_on(there, inn.port, "POST", "/manage/load", form)?)?.status;
        ensure!(status == 503, "a load without descriptors was answered {status}");
        pause(300);
        ensure!(inn.lives(), "the server ended in round {round}");
        drop(waiting);
        limit(inn.pid(), Resource::Nofile, NAME, before)?;
        let began = now();
        until("an answer", Duration::from_secs(5), || {
            inn.get("/healthz").is_ok_and(|(status, _)| status == 200)
        })?;
        worst = worst.max(began.elapsed());
        ensure!(worst <= Duration::from_secs(1), "it took {worst:?} to recover");
        let heard = clients::chat(inn.port, "one", model, round, 20, |_| {});
        ensure!(heard.end == End::Done("length".into()), "{heard:?}");
        ensure!(inn.worker("one")? == worker, "the worker was replaced");
        // What could not be loaded can be now.
        let (status, answer) = inn.verb("reload", "model=two")?;
        ensure!(status == 200, "the load that failed was answered {status} afterwards: {answer}");
        inn.verb("unload", "model=two")?;
    }
    Figures::default()
        .with("rounds", rounds)
        .with("recovery_max_ms", ms(worst))
        .with("loads_without_descriptors", "503")
        .held()
}
