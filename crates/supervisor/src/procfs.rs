//! What `/proc` says about processes, as far as the supervisor needs it: who is whose, since when, and what shared
//! memory they map. Measuring is telemetry's (the `Probe` port).

use std::{collections::HashMap, fs, path::Path};

/// Children of one process that are looked at.
const MOST_CHILDREN: usize = 1000;

/// From `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Its short name.
    pub(crate) name: String,
    /// Ended, and not waited for by its parent.
    pub(crate) is_zombie: bool,
    /// Its parent.
    pub(crate) parent: u32,
    /// Of its process group.
    pub(crate) group: u32,
    /// Clock ticks since boot; with the pid it names a process for good.
    pub(crate) start_time: u64,
}

/// `None`: there is no such process.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name stands in brackets and may hold anything, brackets and spaces included; what follows the last one is plain.
fn parse_stat(text: &str) -> Option<Stat> {
    let (open, close) = (text.find('(')?, text.rfind(')')?);
    let mut after = text.get(close + 1..)?.split_ascii_whitespace();
    // Fields 3 (state), 4 (parent) and 5 (group), then 22: proc(5).
    let is_zombie = after.next()? == "Z";
    let parent = after.next()?.parse().ok()?;
    let group = after.next()?.parse().ok()?;
    let start_time = after.nth(16)?.parse().ok()?;
    Some(Stat { name: text.get(open + 1..close)?.to_owned(), is_zombie, parent, group, start_time })
}

/// Whether a process was given this word in its arguments.
pub(crate) fn has_argument(pid: u32, word: &str) -> bool {
    let Ok(arguments) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    arguments.split(|&byte| byte == 0).any(|argument| argument == word.as_bytes())
}

/// Whether a process was started with this variable; descendants inherit it.
pub(crate) fn has_variable(pid: u32, assignment: &str) -> bool {
    let Ok(variables) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    variables.split(|&byte| byte == 0).any(|variable| variable == assignment.as_bytes())
}

/// A process for good: its number and its start.
pub(crate) type Key = (u32, u64);

/// What this process has started, and what that has started, as far as it lives and has not been handed on.
pub(crate) fn descendants(pid: u32) -> Vec<Key> {
    let mut found = Vec::new();
    for child in numbers_of_children(pid) {
        found.extend(stat(child).map(|stat| (child, stat.start_time)));
        found.extend(descendants(child));
    }
    found
}

/// What this process has started itself.
pub(crate) fn children(pid: u32) -> Vec<Key> {
    let key = |child| stat(child).map(|stat| (child, stat.start_time));
    numbers_of_children(pid).into_iter().filter_map(key).collect()
}

fn numbers_of_children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = threads.flat_map(|thread| {
        let text = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        text.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<u32>>()
    });
    children.take(MOST_CHILDREN).collect()
}

/// Its program's arguments, by which a copy of a process is told from what it becomes; `None`: it has ended.
pub(crate) fn program(pid: u32) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|arguments| !arguments.is_empty())
}

/// Every process that can be seen.
pub(crate) fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// How many processes the system has killed for want of memory: of our control group, where it counts them (so that
/// another container's end is not taken for one of ours), else of the machine.
pub(crate) fn oom_kills() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let counters = group_counters(&groups).into_iter().chain(["/proc/vmstat".to_owned()]);
    counters.filter_map(|path| fs::read_to_string(path).ok()).find_map(|text| counted(&text))
}

fn counted(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
}

/// Where our group's counter may be, by `/proc/self/cgroup`: version 2, then version 1.
fn group_counters(groups: &str) -> Vec<String> {
    let counter = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_end_matches('/'));
        if controllers.is_empty() {
            Some(format!("/sys/fs/cgroup{path}/memory.events"))
        } else {
            let is_memory = controllers.split(',').any(|one| one == "memory");
            is_memory.then(|| format!("/sys/fs/cgroup/memory{path}/memory.oom_control"))
        }
    };
    groups.lines().filter_map(counter).collect()
}

/// Private bytes as `/proc/PID/status` has them; cheap, and close enough for a left-over.
pub(crate) fn private_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
    };
    Some(["RssAnon:", "RssShmem:", "VmSwap:"].into_iter().map(kib).sum::<u64>() * 1024)
}

/// A piece of shared memory: device and inode name it for as long as anybody holds it.
pub(crate) type PieceKey = (String, u64);

/// What one process has of a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// As the kernel shows it: `/memfd:name (deleted)`, `/dev/shm/name`.
    pub(crate) name: String,
    /// Resident in that process; 0 where only maps were read.
    pub(crate) bytes: u64,
}

/// The shared memory that a process maps, with what is resident of it. Reads the costly `smaps` only where the cheap
/// `maps` shows any.
pub(crate) fn shared_pieces(pid: u32) -> HashMap<PieceKey, Piece> {
    if mapped_pieces(pid).is_empty() {
        return HashMap::new();
    }
    fs::read_to_string(format!("/proc/{pid}/smaps")).map(|text| parse_maps(&text)).unwrap_or_default()
}

/// The same from `maps` alone, without sizes.
pub(crate) fn mapped_pieces(pid: u32) -> HashMap<PieceKey, Piece> {
    fs::read_to_string(format!("/proc/{pid}/maps")).map(|text| parse_maps(&text)).unwrap_or_default()
}

/// Whether a named piece still lies in the file system, held by nobody but its name.
pub(crate) fn lies_about(name: &str, inode: u64) -> bool {
    use std::os::unix::fs::MetadataExt;
    name.starts_with("/dev/shm/") && fs::metadata(Path::new(name)).is_ok_and(|file| file.ino() == inode)
}

fn parse_maps(text: &str) -> HashMap<PieceKey, Piece> {
    let mut pieces: HashMap<PieceKey, Piece> = HashMap::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("Rss:") {
            let kib: u64 = rest.trim_end_matches("kB").trim().parse().unwrap_or(0);
            if let Some(piece) = current.as_ref().and_then(|key| pieces.get_mut(key)) {
                piece.bytes += kib * 1024;
            }
        } else if line.split(' ').next().is_some_and(|word| word.contains('-')) {
            current = parse_map_line(line).map(|(key, name)| {
                pieces.entry(key.clone()).or_insert(Piece { name, bytes: 0 });
                key
            });
        }
    }
    pieces
}

/// `address perms offset dev inode path`, where the path is shared memory.
fn parse_map_line(line: &str) -> Option<(PieceKey, String)> {
    let mut fields = line.splitn(6, ' ');
    let device = fields.nth(3)?.to_owned();
    let inode = fields.next()?.parse().ok()?;
    let name = fields.next()?.trim_start();
    let shared = ["/memfd:", "/dev/shm/", "/SYSV", "/dev/zero (deleted)"];
    shared.iter().any(|start| name.starts_with(start)).then(|| ((device, inode), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 7 40 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 123456 10 11";
        assert_eq!(
            parse_stat(text),
            Some(Stat {
                name: "a) b (c".into(),
                is_zombie: false,
                parent: 7,
                group: 40,
                start_time: 123_456
            })
        );
    }

    #[test]
    fn this_process_is_found_with_its_start_and_its_arguments() {
        let me = std::process::id();
        assert!(pids().contains(&me));
        assert!(stat(me).unwrap().start_time > 0);
        assert!(has_argument(me, &std::env::args().next().unwrap()));
        assert!(!has_argument(me, "no such argument"));
        assert!(private_bytes(me).unwrap() > 0);
    }

    #[test]
    fn the_count_of_our_own_group_is_looked_for_first() {
        let groups = "9:name=systemd:/x\n4:cpu,memory:/a/b\n0::/\n";
        let expected = ["/sys/fs/cgroup/memory/a/b/memory.oom_control", "/sys/fs/cgroup/memory.events"];
        assert_eq!(group_counters(groups), expected);
        assert_eq!(counted("low 0\nmax 3\noom 2\noom_kill 1\noom_group_kill 0"), Some(1));
        assert_eq!(counted("oom_kill_disable 0\nunder_oom 0\noom_kill 12"), Some(12));
        assert!(oom_kills().is_some());
    }

    #[test]
    fn shared_memory_is_told_from_files_and_private_memory() {
        let smaps = "\
7f00-7f01 rw-s 00000000 00:01 4711                       /memfd:ballast (deleted)
Size:               4096 kB
Rss:                1024 kB
7f02-7f03 rw-s 00000000 00:01 4711                       /memfd:ballast (deleted)
Rss:                   8 kB
VmFlags: rd wr sh
7f04-7f05 r-xp 00000000 fe:00 99                         /usr/lib/libc.so.6
Rss:                 500 kB
7f06-7f07 rw-p 00000000 00:00 0
Rss:                 300 kB
7f08-7f09 rw-s 00000000 00:19 3                          /dev/shm/ring
Rss:                   4 kB
";
        let pieces = parse_maps(smaps);
        assert_eq!(pieces.len(), 2);
        assert_eq!(pieces[&("00:01".to_owned(), 4711)].bytes, 1032 * 1024);
        assert_eq!(pieces[&("00:19".to_owned(), 3)].name, "/dev/shm/ring");
    }
}
