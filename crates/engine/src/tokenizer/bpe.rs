//! Byte-pair encoding on texts that stay in the mapped file. Merges are looked up by their text, so that nothing has to
//! be built but two hash tables. Equal to Hugging Face's `tokenizers` (a test compares the two).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use super::index::Index;

/// Where texts lie in the file.
#[derive(Debug)]
pub(crate) struct Texts {
    spans: Vec<(u32, u32)>,
}

impl Texts {
    /// `None` if a text lies beyond 4 GiB, which no header does.
    pub(crate) fn new(ranges: &[Range<usize>]) -> Option<Self> {
        let span =
            |range: &Range<usize>| Some((u32::try_from(range.start).ok()?, u32::try_from(range.end).ok()?));
        ranges.iter().map(span).collect::<Option<_>>().map(|spans| Self { spans })
    }

    pub(crate) fn len(&self) -> u32 {
        self.spans.len() as u32
    }

    pub(crate) fn get<'a>(&self, file: &'a [u8], number: u32) -> &'a [u8] {
        let Some((start, end)) = self.spans.get(number as usize) else { return &[] };
        &file[*start as usize..*end as usize]
    }
}

/// The vocabulary and the merges.
#[derive(Debug)]
pub(crate) struct Bpe {
    pub(crate) tokens: Texts,
    merges: Texts,
    token_index: Index,
    merge_index: Index,
}

/// A part of a word, linked to its neighbours.
#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    /// `start` again once it was merged into its left neighbour.
    end: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

impl Bpe {
    pub(crate) fn new(file: &[u8], tokens: Texts, merges: Texts) -> Self {
        let token_index = Index::new(tokens.len(), |n| tokens.get(file, n));
        let merge_index = Index::new(merges.len(), |n| merges.get(file, n));
        Self { tokens, merges, token_index, merge_index }
    }

    /// The token whose text this is.
    pub(crate) fn id(&self, file: &[u8], text: &str) -> Option<u32> {
        self.token_index.find(&[text.as_bytes()], |n| self.tokens.get(file, n))
    }

    fn rank(&self, file: &[u8], left: &str, right: &str) -> Option<u32> {
        self.merge_index.find(&[left.as_bytes(), b" ", right.as_bytes()], |n| self.merges.get(file, n))
    }

    /// Appends the tokens of one word, which is in the byte alphabet. Takes n log n, whatever the word.
    pub(crate) fn encode(&self, file: &[u8], word: &str, out: &mut Vec<u32>) {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(word.len());
        for (start, c) in word.char_indices() {
            let number = symbols.len();
            symbols.push(Symbol {
                start,
                end: start + c.len_utf8(),
                previous: number.checked_sub(1),
                next: Some(number + 1),
            });
        }
        if let Some(last) = symbols.last_mut() {
            last.next = None;
        }
        self.merge(file, word, &mut symbols);
        for symbol in symbols.iter().filter(|symbol| symbol.end > symbol.start) {
            let text = &word[symbol.start..symbol.end];
            match self.id(file, text) {
                Some(id) => out.push(id),
                // A vocabulary without some byte: that byte is left out, as llama.cpp does.
                None => out.extend(
                    text.char_indices().filter_map(|(at, c)| self.id(file, &text[at..at + c.len_utf8()])),
                ),
            }
        }
    }

    fn merge(&self, file: &[u8], word: &str, symbols: &mut [Symbol]) {
        // The lowest rank first, of equal ones the leftmost. The length tells whether an entry is still true.
        let mut heap: BinaryHeap<Reverse<(u32, usize, usize)>> = BinaryHeap::new();
        let offer = |heap: &mut BinaryHeap<_>, symbols: &[Symbol], left: usize| {
            let Some(right) = symbols[left].next else { return };
            let (a, b) = (symbols[left], symbols[right]);
            if let Some(rank) = self.rank(file, &word[a.start..a.end], &word[b.start..b.end]) {
                heap.push(Reverse((rank, left, b.end - a.start)));
            }
        };
        for left in 0..symbols.len().saturating_sub(1) {
            offer(&mut heap, symbols, left);
        }
        while let Some(Reverse((_, left, length))) = heap.pop() {
            let a = symbols[left];
            let Some(right) = a.next else { continue };
            let b = symbols[right];
            if a.end == a.start || b.end - a.start != length || a.end - a.start == length {
                continue;
            }
            symbols[left].end = b.end;
            symbols[left].next = b.next;
            symbols[right].end = b.start;
            if let Some(after) = b.next {
                symbols[after].previous = Some(left);
            }
            if let Some(before) = a.previous {
                offer(&mut heap, symbols, before);
            }
            offer(&mut heap, symbols, left);
        }
    }
}
