//! Which model this worker serves, where the system's list of processes reads it: among its arguments. One that is started
//! ahead does not know it yet, so there is room for any name. A service for people who look; nothing depends on it.
//! The name is the last argument, so that nobody minds the zeros behind a short one.

use std::{fs, ops::Range};

/// What comes before the name.
const BEFORE: &[u8] = b"--model\0";

/// The place of the name.
pub(crate) struct Title(Option<(*mut u8, usize)>);

impl Title {
    /// Looks for it. Must be done before the sandbox.
    pub(crate) fn find() -> Self {
        Self(find())
    }

    /// Writes the name, as much of it as there is room for.
    #[expect(unsafe_code, reason = "the arguments lie where the system laid them")]
    pub(crate) fn set(&self, model: &str) {
        let Some((start, room)) = self.0 else { return };
        let bytes = model.bytes().chain(std::iter::repeat(0)).take(room);
        for (at, byte) in bytes.enumerate() {
            // SAFETY: `find` has seen these bytes in the area that the system made for this process's arguments, which is
            // writable and never unmapped. Whoever asks the standard library for the arguments gets copies.
            unsafe { start.add(at).write_volatile(byte) };
        }
    }
}

#[expect(unsafe_code, reason = "the arguments lie where the system laid them")]
fn find() -> Option<(*mut u8, usize)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let [start, end] = area(&stat)?;
    // SAFETY: the system says of its own accord where it laid the arguments, and nobody writes to them before `set`.
    let arguments =
        unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(start), end - start) };
    let place = place(arguments)?;
    Some((std::ptr::with_exposed_provenance_mut(start + place.start), place.len()))
}

/// Where arguments begin and end: the fields 48 and 49, counted from 1. The second is the program's name, in parentheses.
fn area(stat: &str) -> Option<[usize; 2]> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(45).map(|field| field.parse().ok());
    let (start, end) = (fields.next()??, fields.next()??);
    (0 < start && start < end).then_some([start, end])
}

/// The name, without the zero that ends it.
fn place(arguments: &[u8]) -> Option<Range<usize>> {
    let start = arguments.windows(BEFORE.len()).position(|part| part == BEFORE)? + BEFORE.len();
    let length = arguments[start..].iter().position(|byte| *byte == 0)?;
    Some(start..start + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_found_among_arguments_and_nothing_else_is() {
        assert_eq!(place(b"innkeeper\0worker\0--model\0smollm2\0--x\0"), Some(25..32));
        assert_eq!(place(b"innkeeper\0--model\0\0"), Some(18..18), "no room is a place too");
        for strange in [&b""[..], b"innkeeper\0", b"--model", b"--model\0", b"--model\0no end"] {
            assert_eq!(place(strange), None);
        }
    }

    #[test]
    fn the_system_says_where_this_process_has_its_arguments() {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let [start, end] = area(&stat).unwrap();
        assert_eq!(end - start, fs::read("/proc/self/cmdline").unwrap().len());
        assert_eq!(area("1 (a) b) S 0 0"), None);
    }
}
