//! `cargo xtask harm`: tries to break the promises of the life cycle, from outside and with the finished program.
//!
//! Bounded, seeded, and told in full: what held with its figures, what did not, and what this machine cannot try. Uses
//! small models whose answers are known beforehand (`fixtures`), and no hook in the product.

mod cancels;
mod clients;
mod clocks;
mod connections;
mod descriptors;
mod disk;
mod hostile;
mod http;
mod inn;
mod memory;
mod nemesis;
mod processes;
mod report;
mod stills;
mod stops;
mod storm;
mod traps;

use std::path::PathBuf;

use anyhow::{Result, bail};
use fixtures::Random;

use crate::{places::Places, steps};
use report::{Outcome, Report};

/// What is wanted.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Repeats a run: what is random comes from this number
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Few rounds of each, under four minutes in all
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
const HARMS: [(&str, &str, Harm); 15] = [
    ("storm", "kill -9 of the server at random times and named points", storm::storm),
    ("stops", "SIGTERM, and a second one, in each state", stops::stops),
    ("stills", "SIGSTOP of a worker and of the server, and the ladder to its end", stills::stills),
    ("cancels", "readers that go away in the middle", cancels::cancels),
    ("memory", "a worker without memory", memory::memory),
    ("descriptors", "a server without descriptors", descriptors::descriptors),
    ("disk", "a full disk", disk::disk),
    ("clocks", "clocks that jump", clocks::clocks),
    ("traps", "a thread that ends, a descriptor that is inherited", traps::traps),
    ("slow", "200 event streams read at a byte a second", connections::slow),
    ("crowd", "as many connections as this machine allows", connections::crowd),
    ("dribble", "heads and bodies that come byte by byte", connections::dribble),
    ("nemesis", "clients with known answers while workers and the server are harmed", nemesis::nemesis),
    ("cycles", "load and unload again and again: does the server grow?", memory::cycles),
    ("hostile", "broken model files through real workers", hostile::hostile),
];

/// Runs them, prints and keeps the report.
pub(crate) fn run(places: &Places, options: &Options, program: PathBuf) -> Result<()> {
    if let Some(unknown) = options.only.iter().find(|name| HARMS.iter().all(|(known, ..)| known != name)) {
        let names: Vec<&str> = HARMS.iter().map(|(name, ..)| *name).collect();
        bail!("there is no harm `{unknown}`; there are {}", names.join(", "));
    }
    let ground = Ground { places, program, options };
    let mut report = Report::new(options);
    for (number, (name, about, harm)) in (0..).zip(HARMS) {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            steps::say(&format!("harm {name}: {about}"));
            // Each has a sequence of its own, so that one alone does what it did among the others.
            let mut random = Random::new(options.seed.wrapping_mul(1000).wrapping_add(number));
            report.add(name, about, || harm(&ground, &mut random));
        }
    }
    report.close(&places.target.join("harm"))
}
