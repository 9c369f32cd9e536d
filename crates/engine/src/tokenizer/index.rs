//! A hash table whose keys stay where they are (in the mapped file): four bytes a slot, no strings of its own. A
//! vocabulary of 49,152 tokens costs 512 KiB and a millisecond this way.

/// Which entry has this text? Entries are numbered from 0.
#[derive(Debug)]
pub(crate) struct Index {
    /// 0: empty; else the entry's number plus one. A power of two in length, at most half full.
    slots: Vec<u32>,
}

/// FNV-1a, so that a key may come in pieces.
fn hash(pieces: &[&[u8]]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325u64;
    for piece in pieces {
        for byte in *piece {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    state ^ (state >> 29)
}

fn equal(mut key: &[u8], pieces: &[&[u8]]) -> bool {
    for piece in pieces {
        let Some(rest) = key.strip_prefix(*piece) else { return false };
        key = rest;
    }
    key.is_empty()
}

impl Index {
    /// Indexes `count` entries; of equal ones the first counts.
    pub(crate) fn new<'a>(count: u32, entry: impl Fn(u32) -> &'a [u8]) -> Self {
        let length = (count as usize * 2).next_power_of_two().max(2);
        let mut index = Self { slots: vec![0; length] };
        for number in 0..count {
            let key = entry(number);
            let mut at = index.home(&[key]);
            loop {
                match index.slots[at] {
                    0 => {
                        index.slots[at] = number + 1;
                        break;
                    }
                    taken if entry(taken - 1) == key => break,
                    _ => at = (at + 1) & (length - 1),
                }
            }
        }
        index
    }

    fn home(&self, pieces: &[&[u8]]) -> usize {
        (hash(pieces) as usize) & (self.slots.len() - 1)
    }

    /// The entry whose text is the pieces one after the other.
    pub(crate) fn find<'a>(&self, pieces: &[&[u8]], entry: impl Fn(u32) -> &'a [u8]) -> Option<u32> {
        let mut at = self.home(pieces);
        loop {
            match self.slots[at] {
                0 => return None,
                taken if equal(entry(taken - 1), pieces) => return Some(taken - 1),
                _ => at = (at + 1) & (self.slots.len() - 1),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_entry_is_found_in_pieces_and_nothing_else_is(
            words in proptest::collection::hash_set("[a-d]{0,5}", 0..60),
            other in "[a-e]{0,5}",
            cut in any::<prop::sample::Index>(),
        ) {
            let words: Vec<String> = words.into_iter().collect();
            let entry = |n: u32| words[n as usize].as_bytes();
            let index = Index::new(words.len() as u32, entry);
            for (number, word) in words.iter().enumerate() {
                let at = cut.index(word.len() + 1);
                let (a, b) = word.as_bytes().split_at(at);
                prop_assert_eq!(index.find(&[a, b], entry), Some(number as u32));
            }
            let there = words.contains(&other);
            prop_assert_eq!(index.find(&[other.as_bytes()], entry).is_some(), there);
        }
    }
}
