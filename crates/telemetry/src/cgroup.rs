//! The limit of the container or unit that we run in, where it is tighter than the machine. Both hierarchies.

use std::{
    fs,
    path::{Path, PathBuf},
};

use manager::ports::RamTotals;

/// A group whose limit binds, with its own totals in place of the machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// What it may still take before something is killed, file cache that can be dropped included.
    pub(crate) available_bytes: u64,
    /// Its counters in the words of the books; `total` is the limit.
    pub(crate) ram: RamTotals,
}

/// How a hierarchy calls its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The group above us with the smallest limit, if one is below `machine_bytes`. What is left to us is the least that any
/// limit further up leaves: there others may have taken theirs already.
///
/// Our own place comes from `/proc/self/cgroup`. Inside a container without a cgroup namespace that path names
/// folders of the host which are not there; its own group is then the root of what is mounted, so the walk ends there.
pub(crate) fn binding(proc: &Path, root: &Path, machine_bytes: u64) -> Option<Group> {
    let (version, mount, path) = place(&fs::read_to_string(proc.join("self/cgroup")).ok()?, root)?;
    let own = mount.join(path.trim_start_matches('/'));
    let groups: Vec<Group> = own
        .ancestors()
        .take_while(|folder| folder.starts_with(&mount))
        .filter_map(|folder| group(version, folder, limit(version, folder)?))
        .collect();
    let mut group = groups.iter().copied().min_by_key(|group| group.ram.total)?;
    let left = groups.iter().map(|group| group.available_bytes).min()?;
    group.ram.taken_beside = group.available_bytes.saturating_sub(left);
    group.available_bytes = left;
    (group.ram.total < machine_bytes).then_some(group)
}

/// Which hierarchy counts memory, where it is mounted, and our path in it. A machine with both counts in the first.
fn place(text: &str, root: &Path) -> Option<(Version, PathBuf, String)> {
    let mut second = None;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if path.split('/').any(|part| part == "..") {
            continue;
        }
        if controllers.split(',').any(|controller| controller == "memory") {
            return Some((Version::One, root.join("memory"), path.to_owned()));
        }
        if id == "0" && controllers.is_empty() {
            second = Some((Version::Two, root.to_owned(), path.to_owned()));
        }
    }
    second
}

fn number(folder: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
}

/// `None`: no limit here (`max`, or the root).
fn limit(version: Version, folder: &Path) -> Option<u64> {
    match version {
        Version::One => number(folder, "memory.limit_in_bytes"),
        Version::Two => number(folder, "memory.max"),
    }
}

fn group(version: Version, folder: &Path, limit: u64) -> Option<Group> {
    let text = fs::read_to_string(folder.join("memory.stat")).ok()?;
    let stat = |name: &str| {
        let of_line = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
        text.lines().find_map(of_line).unwrap_or(0_u64)
    };
    let (used, mut ram) = match version {
        Version::One => {
            let ram = RamTotals {
                cached: stat("total_cache"),
                shmem: stat("total_shmem"),
                anonymous: stat("total_rss"),
                // Not taken apart in this hierarchy.
                slab_unreclaimable: number(folder, "memory.kmem.usage_in_bytes").unwrap_or(0),
                ..RamTotals::default()
            };
            (number(folder, "memory.usage_in_bytes")?, ram)
        }
        Version::Two => {
            let ram = RamTotals {
                cached: stat("file"),
                shmem: stat("shmem"),
                kernel_reclaimable: stat("slab_reclaimable"),
                anonymous: stat("anon"),
                slab_unreclaimable: stat("slab_unreclaimable"),
                page_tables: stat("pagetables"),
                per_cpu: stat("percpu"),
                vmalloc_used: stat("vmalloc"),
                kernel_stack: stat("kernel_stack"),
                ..RamTotals::default()
            };
            (number(folder, "memory.current")?, ram)
        }
    };
    (ram.total, ram.free) = (limit, limit.saturating_sub(used));
    let droppable = ram.cached.saturating_sub(ram.shmem).saturating_add(ram.kernel_reclaimable);
    Some(Group { available_bytes: ram.free.saturating_add(droppable).min(limit), ram })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A root with a `proc` and a `cgroup` folder, and files in it.
    fn machine(files: &[(&str, String)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn find(root: &tempfile::TempDir, machine_bytes: u64) -> Option<Group> {
        binding(&root.path().join("proc"), &root.path().join("cgroup"), machine_bytes)
    }

    #[test]
    fn what_others_took_by_a_limit_further_up_is_not_left_to_us() {
        let root = second(&(512 * MIB).to_string(), &(600 * MIB).to_string());
        fs::write(root.path().join("cgroup/box/memory.current"), format!("{}\n", 590 * MIB)).unwrap();
        let group = find(&root, 1024 * MIB).unwrap();
        let droppable = 40 - 8 + 4;
        assert_eq!((group.ram.total, group.available_bytes), (512 * MIB, (10 + droppable) * MIB));
        assert_eq!(group.ram.taken_beside, (404 - 10) * MIB);
        let above_the_machine = second(&(512 * MIB).to_string(), &(2048 * MIB).to_string());
        assert_eq!(find(&above_the_machine, 1024 * MIB).unwrap().ram.taken_beside, 0);
    }

    fn second(max_inner: &str, max_outer: &str) -> tempfile::TempDir {
        let stat = |anon: u64| {
            format!(
                "anon {}\nfile {}\nkernel_stack {}\npagetables {}\npercpu 0\nshmem {}\nslab_reclaimable {}\n\
                 slab_unreclaimable {}\nvmalloc 0\nanon_thp 5\n",
                anon * MIB,
                40 * MIB,
                MIB,
                MIB,
                8 * MIB,
                4 * MIB,
                2 * MIB
            )
        };
        machine(&[
            ("proc/self/cgroup", "0::/box/unit\n".to_owned()),
            ("cgroup/box/memory.max", format!("{max_outer}\n")),
            ("cgroup/box/memory.current", format!("{}\n", 148 * MIB)),
            ("cgroup/box/memory.stat", stat(100)),
            ("cgroup/box/unit/memory.max", format!("{max_inner}\n")),
            ("cgroup/box/unit/memory.current", format!("{}\n", 108 * MIB)),
            ("cgroup/box/unit/memory.stat", stat(60)),
        ])
    }

    #[test]
    fn a_limit_that_binds_counts_as_the_machine_and_its_books_add_up() {
        let group = find(&second(&(512 * MIB).to_string(), "max"), 1024 * MIB).unwrap();
        let t = group.ram;
        assert_eq!((t.total, t.free, t.anonymous), (512 * MIB, 404 * MIB, 60 * MIB));
        let sum = t.free
            + t.cached
            + t.kernel_reclaimable
            + t.anonymous
            + t.slab_unreclaimable
            + t.page_tables
            + t.kernel_stack;
        assert_eq!(sum, t.total);
        assert_eq!(group.available_bytes, (404 + 40 - 8 + 4) * MIB);
    }

    #[test]
    fn the_tightest_group_above_us_binds() {
        let inner = (512 * MIB).to_string();
        let group = find(&second(&inner, &(256 * MIB).to_string()), 1024 * MIB).unwrap();
        assert_eq!((group.ram.total, group.ram.anonymous), (256 * MIB, 100 * MIB));
    }

    #[test]
    fn a_limit_above_the_machine_or_none_binds_nobody() {
        assert_eq!(find(&second("max", "max"), 1024 * MIB), None);
        assert_eq!(find(&second(&(2048 * MIB).to_string(), "max"), 1024 * MIB), None);
        assert_eq!(find(&machine(&[]), 1024 * MIB), None);
        assert_eq!(find(&machine(&[("proc/self/cgroup", "0::/../../x\nnonsense\n".to_owned())]), MIB), None);
    }

    #[test]
    fn the_first_hierarchy_is_read_too_and_a_path_of_the_host_falls_back_to_the_mounted_root() {
        let root = machine(&[
            ("proc/self/cgroup", "4:memory:/docker/0123\n0::/\n".to_owned()),
            ("cgroup/memory/memory.limit_in_bytes", (300 * MIB).to_string()),
            ("cgroup/memory/memory.usage_in_bytes", (90 * MIB).to_string()),
            ("cgroup/memory/memory.kmem.usage_in_bytes", (5 * MIB).to_string()),
            (
                "cgroup/memory/memory.stat",
                format!(
                    "cache 1\ntotal_cache {}\ntotal_rss {}\ntotal_shmem {}\n",
                    35 * MIB,
                    50 * MIB,
                    5 * MIB
                ),
            ),
        ]);
        let group = find(&root, 1024 * MIB).unwrap();
        assert_eq!((group.ram.free, group.ram.anonymous), (210 * MIB, 50 * MIB));
        assert_eq!(group.available_bytes, 240 * MIB);
    }

    #[test]
    fn a_group_that_vanishes_while_it_is_read_binds_nobody() {
        let root = second(&(512 * MIB).to_string(), "max");
        fs::remove_file(root.path().join("cgroup/box/unit/memory.stat")).unwrap();
        assert_eq!(find(&root, 1024 * MIB), None);
    }
}
