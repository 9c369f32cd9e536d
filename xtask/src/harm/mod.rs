//! `cargo xtask harm`: tries to break the promises of the life cycle, from outside and with the finished program.
//!
//! Bounded, seeded, and told in full: what held with its figures, what did not, and what this machine cannot try. Uses
//! small models whose answers are known beforehand (`fixtures`), and no hook in the product.

mod bystander;
mod cancels;
mod clients;
mod clocks;
mod connections;
mod descriptors;
mod disk;
mod first;
mod fuzz;
mod groups;
mod hostile;
mod http;
mod inn;
mod loops;
mod memory;
mod nemesis;
mod report;
mod stills;
mod stops;
mod storm;
mod stuck;
mod traps;

use std::{path::PathBuf, thread};

use anyhow::{Result, bail};
use fixtures::Random;

use crate::{places::Places, processes, steps};
use report::{Outcome, Report};

/// What is wanted.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Repeats a run: what is random comes from this number
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Few rounds of each, some side by side, about a minute and a half in all
    #[arg(long)]
    pub(crate) short: bool,
    /// Only these harms
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// The program to harm, instead of one built now
    #[arg(long, value_name = "FILE")]
    pub(crate) program: Option<PathBuf>,
}

/// What every harm is given.
pub(crate) struct Ground<'a> {
    pub(crate) places: &'a Places,
    /// The program under test.
    pub(crate) program: PathBuf,
    pub(crate) options: &'a Options,
}

impl Ground<'_> {
    /// A number of rounds or seconds: the first for the short form, the second for the full one.
    pub(crate) fn amount<T>(&self, short: T, full: T) -> T {
        if self.options.short { short } else { full }
    }
}

type Harm = fn(&Ground<'_>, &mut Random) -> Result<Outcome>;

/// Every harm with what it tries.
const HARMS: [(&str, &str, Harm); 25] = [
    ("storm", "kill -9 of the server at random times and named points", storm::storm),
    ("stops", "SIGTERM, and a second one, in each state", stops::stops),
    ("stills", "SIGSTOP of a worker and of the server, and the ladder", stills::stills),
    ("stuck", "a worker that not even SIGKILL ends", stuck::stuck),
    ("reclaim", "a worker that outlives its server", stuck::reclaim),
    ("pid1", "a server that is a container's first process", first::first),
    ("loops", "a model whose workers die again and again", loops::loops),
    ("cancels", "readers that go away in an answer, in the queue and during a load", cancels::cancels),
    ("prefill", "readers that go away while a real model reads their prompt", cancels::prefill),
    ("memory", "a worker without memory", memory::memory),
    ("oom", "a group of processes without memory: the kernel kills", memory::oom),
    ("descriptors", "a server without descriptors", descriptors::descriptors),
    ("disk", "a full disk", disk::disk),
    ("clocks", "clocks that are ten years ahead", clocks::clocks),
    ("jumps", "a wall clock that jumps", clocks::jumps),
    ("traps", "a descriptor that is inherited, a sandbox that is not whole", traps::traps),
    ("threads", "a thread that ends, with the signal that comes from it", traps::threads),
    ("slow", "200 event streams read at a byte a second", connections::slow),
    ("crowd", "as many connections as this machine allows", connections::crowd),
    ("dribble", "heads and bodies that come byte by byte", connections::dribble),
    ("nemesis", "clients with known answers while workers and the server are harmed", nemesis::nemesis),
    ("cycles", "load and unload again and again: does the server grow?", memory::cycles),
    ("bystander", "a loaded model beside broken files", bystander::bystander),
    ("hostile", "broken model files through real workers", hostile::hostile),
    ("fuzz", "the readers of strangers' files, under a fuzzer", fuzz::fuzz),
];

/// In the short form these are done side by side, each row in its order: most of their time they wait, for deadlines
/// that are promised. The first row keeps a processor busy, the others hardly one between them. What is in no row is done
/// alone, before them.
const ROWS: [&[&str]; 3] = [
    &["storm", "nemesis", "cancels", "prefill", "bystander", "cycles", "crowd"],
    &["stills", "stuck", "slow", "loops"],
    &[
        "stops",
        "threads",
        "dribble",
        "pid1",
        "reclaim",
        "traps",
        "clocks",
        "jumps",
        "disk",
        "descriptors",
        "memory",
    ],
];

/// Runs them, prints and keeps the report.
pub(crate) fn run(places: &Places, options: &Options, program: PathBuf) -> Result<()> {
    if let Some(unknown) = options.only.iter().find(|name| HARMS.iter().all(|(known, ..)| known != name)) {
        let names: Vec<&str> = HARMS.iter().map(|(name, ..)| *name).collect();
        bail!("there is no harm `{unknown}`; there are {}", names.join(", "));
    }
    let ground = Ground { places, program, options };
    let report = Report::new(options);
    let one = |number: usize| {
        let (name, about, harm) = HARMS[number];
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            steps::say(&format!("harm {name}: {about}"));
            // Each has a sequence of its own, so that one alone does what it did among the others.
            let mut random = Random::new(options.seed.wrapping_mul(1000).wrapping_add(number as u64));
            report.add((number, name, about), || harm(&ground, &mut random));
        }
    };
    let number = |name: &str| HARMS.iter().position(|(known, ..)| *known == name);
    let in_a_row: Vec<usize> = ROWS
        .iter()
        .filter(|_| options.short)
        .flat_map(|row| row.iter().filter_map(|name| number(name)))
        .collect();
    (0..HARMS.len()).filter(|number| !in_a_row.contains(number)).for_each(one);
    if options.short {
        thread::scope(|scope| {
            for row in ROWS {
                scope.spawn(|| row.iter().filter_map(|name| number(name)).for_each(one));
            }
        });
    }
    report.close(&places.target.join("harm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_harm_of_a_row_is_one_and_stands_in_one_row() {
        let all: Vec<&str> = ROWS.iter().flat_map(|row| row.iter().copied()).collect();
        assert!(all.iter().all(|name| HARMS.iter().any(|(known, ..)| known == name)));
        assert!(all.iter().enumerate().all(|(at, name)| !all[..at].contains(name)));
    }
}
