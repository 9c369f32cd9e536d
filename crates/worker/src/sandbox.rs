//! What confines a worker. Done before the first thread and before the first byte of a model is read: a model file is
//! a stranger's, and what reads it must reach nothing. Says what it reached, never what it hoped for: each wall is
//! leaned against once it stands.

mod calls;
mod kernel;
mod proof;

use std::fs;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::peak::Peak;

/// Descriptors that a worker may have open: the parts of a split model, and a few.
const DESCRIPTORS: u64 = 256;

/// One wall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wall {
    /// It stands, and was tried.
    Stands,
    /// It does not, for this reason.
    Missing(String),
}

/// What was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Confined {
    /// No new privileges, no core dump, nothing inherited but the channel, few descriptors.
    basic: Wall,
    /// No path can be opened, made or removed: files come as descriptors. By Landlock; what it leaves open about a path
    /// that changes anything (its mode, owner, times, length) is among the calls.
    files: Wall,
    /// No program, no process, no socket, no hand on another process or on a file that it was not handed. By seccomp.
    calls: Wall,
}

impl Confined {
    /// For a person.
    pub(crate) fn words(&self) -> String {
        let walls = [
            ("nothing inherited", &self.basic),
            ("no files", &self.files),
            ("no programs and no network", &self.calls),
        ];
        let standing: Vec<&str> =
            walls.iter().filter(|(_, wall)| **wall == Wall::Stands).map(|(words, _)| *words).collect();
        let mut words = if standing.is_empty() { "not confined".to_owned() } else { standing.join(", ") };
        for (what, wall) in walls {
            if let Wall::Missing(why) = wall {
                words += &format!("; NOT {what}: {why}");
            }
        }
        words
    }
}

/// Confines this process as far as the kernel goes. What it keeps is the one file about itself that it opened before.
pub(crate) fn confine() -> (Confined, Peak) {
    let basic = basic();
    let peak = Peak::new();
    let files = wall(kernel::no_paths(), proof::files);
    let calls = match calls::filter() {
        Some(filter) => wall(kernel::filter_calls(&filter), proof::calls),
        None => Wall::Missing("there is no filter for this processor".to_owned()),
    };
    (Confined { basic, files, calls }, peak)
}

fn wall(built: Result<(), String>, prove: impl FnOnce() -> Result<(), String>) -> Wall {
    match built.and_then(|()| prove()) {
        Ok(()) => Wall::Stands,
        Err(why) => Wall::Missing(why),
    }
}

fn basic() -> Wall {
    let limit =
        |resource, most| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }).is_ok();
    // The supervisor has set the first and the last before this program began; here they are looked at.
    let tried = [
        (rustix::thread::no_new_privs().unwrap_or(false), "it may gain privileges"),
        (limit(Resource::Core, 0), "it may dump its core"),
        (limit(Resource::Nofile, DESCRIPTORS), "it may open any number of descriptors"),
        (nothing_inherited(), "it has descriptors of its parent"),
    ];
    match tried.into_iter().find(|(reached, _)| !reached) {
        None => Wall::Stands,
        Some((_, why)) => Wall::Missing(why.to_owned()),
    }
}

/// Whether only stdin, stdout, stderr and the channel are open, and the one by which this looks.
fn nothing_inherited() -> bool {
    let Ok(open) = fs::read_dir("/proc/self/fd") else { return false };
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|&number| number > 3).count() <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_stand_is_said_with_its_reason() {
        let all = Confined { basic: Wall::Stands, files: Wall::Stands, calls: Wall::Stands };
        assert_eq!(all.words(), "nothing inherited, no files, no programs and no network");
        let missing = |why: &str| Wall::Missing(why.to_owned());
        let some = Confined { files: missing("the kernel has no Landlock"), ..all };
        assert_eq!(
            some.words(),
            "nothing inherited, no programs and no network; NOT no files: the kernel has no Landlock"
        );
        let none = Confined { basic: missing("a"), files: missing("b"), calls: missing("c") };
        assert!(none.words().starts_with("not confined; NOT "), "{}", none.words());
    }
}
