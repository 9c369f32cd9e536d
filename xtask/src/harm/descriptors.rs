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
    processes::{self, limit, until},
    report::{Figures, Outcome, ms, now},
};

const NAME: &str = "Max open files";

pub(super) fn descriptors(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    let model = Counting::new(0);
    let shelf = Shelf::new(&[("one", model)])?;
    let mut inn = Inn::open(ground, &shelf)?;
    let worker = inn.load("one")?;
    let rounds = ground.amount(3, 30);
    let mut worst = Duration::ZERO;
    for round in 0..rounds {
        let open = processes::descriptors(inn.pid()) as u64;
        let before = limit(inn.pid(), Resource::Nofile, NAME, Some(open))?;
        // These are in the backlog, and the server cannot take one.
        let waiting: Vec<TcpStream> = (0..20).filter_map(|_| http::connect(inn.port).ok()).collect();
        std::thread::park_timeout(Duration::from_millis(300));
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
    }
    Figures::default().with("rounds", rounds).with("recovery_max_ms", ms(worst)).held()
}
