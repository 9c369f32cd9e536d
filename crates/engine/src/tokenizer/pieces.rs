//! SentencePiece-style vocabularies (`tokenizer.ggml.model = llama`): characters are joined, best score first, as long as
//! the join is a token; what is no token becomes its bytes. Source: llama.cpp's `llm_tokenizer_spm`; a test compares with
//! SentencePiece itself.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::bpe::Texts;
use super::index::Index;

/// What stands for a space.
pub(super) const SPACE: &str = "\u{2581}";

/// The vocabulary and its scores.
#[derive(Debug)]
pub(super) struct Pieces {
    pub(super) tokens: Texts,
    index: Index,
    scores: Vec<f32>,
    /// The tokens of single bytes.
    bytes: Vec<Option<u32>>,
    unknown: Option<u32>,
    /// A space goes before a text.
    pub(super) space_first: bool,
}

/// A possible join: the best score first, of equal ones the leftmost.
#[derive(PartialEq)]
struct Join {
    score: f32,
    left: Reverse<usize>,
    right: usize,
    length: usize,
}

impl Eq for Join {}

impl Ord for Join {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(self.left.cmp(&other.left))
    }
}

impl PartialOrd for Join {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A stretch of the text between its neighbours; empty once it was joined to its left one.
#[derive(Clone, Copy)]
struct Stretch {
    start: usize,
    end: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

impl Pieces {
    pub(super) fn new(
        file: &[u8],
        tokens: Texts,
        mut scores: Vec<f32>,
        unknown: Option<u32>,
        space_first: bool,
    ) -> Self {
        scores.resize(tokens.len() as usize, 0.0);
        let index = Index::new(tokens.len(), |n| tokens.get(file, n));
        let mut pieces = Self { tokens, index, scores, bytes: Vec::new(), unknown, space_first };
        pieces.bytes = (0..=255u8).map(|byte| pieces.id(file, &format!("<0x{byte:02X}>"))).collect();
        pieces
    }

    pub(super) fn id(&self, file: &[u8], text: &str) -> Option<u32> {
        self.index.find(&[text.as_bytes()], |n| self.tokens.get(file, n))
    }

    /// Whether a byte is never left out.
    pub(super) fn knows(&self, byte: u8) -> bool {
        self.bytes[usize::from(byte)].or(self.unknown).is_some()
    }

    /// Appends the tokens of a text. Takes n log n, whatever the text.
    pub(super) fn encode(&self, file: &[u8], text: &str, out: &mut Vec<u32>) {
        let mut marked = String::with_capacity(text.len() + 3);
        if self.space_first {
            marked.push_str(SPACE);
        }
        for c in text.chars() {
            if c == ' ' { marked.push_str(SPACE) } else { marked.push(c) }
        }
        let mut stretches: Vec<Stretch> = Vec::with_capacity(marked.len());
        for (start, c) in marked.char_indices() {
            let number = stretches.len();
            let end = start + c.len_utf8();
            let next = (end < marked.len()).then_some(number + 1);
            stretches.push(Stretch { start, end, previous: number.checked_sub(1), next });
        }
        self.join(file, &marked, &mut stretches);
        for stretch in stretches.iter().filter(|stretch| stretch.end > stretch.start) {
            let text = &marked[stretch.start..stretch.end];
            match self.id(file, text) {
                Some(id) => out.push(id),
                None => {
                    let tokens = text.bytes().map(|byte| self.bytes[usize::from(byte)].or(self.unknown));
                    out.extend(tokens.flatten());
                }
            }
        }
    }

    fn join(&self, file: &[u8], text: &str, stretches: &mut [Stretch]) {
        let mut heap = BinaryHeap::new();
        let offer = |heap: &mut BinaryHeap<Join>, stretches: &[Stretch], left: usize| {
            let Some(right) = stretches[left].next else { return };
            let (start, end) = (stretches[left].start, stretches[right].end);
            if let Some(id) = self.id(file, &text[start..end]) {
                let score = self.scores[id as usize];
                heap.push(Join { score, left: Reverse(left), right, length: end - start });
            }
        };
        for left in 0..stretches.len() {
            offer(&mut heap, stretches, left);
        }
        while let Some(Join { left: Reverse(left), right, length, .. }) = heap.pop() {
            let (a, b) = (stretches[left], stretches[right]);
            // One of the two has grown or gone since.
            if a.next != Some(right) || a.end == a.start || b.end - a.start != length {
                continue;
            }
            stretches[left] = Stretch { end: b.end, next: b.next, ..a };
            stretches[right] = Stretch { start: b.end, ..b };
            if let Some(after) = b.next {
                stretches[after].previous = Some(left);
            }
            if let Some(before) = a.previous {
                offer(&mut heap, stretches, before);
            }
            offer(&mut heap, stretches, left);
        }
    }

    /// Appends what a token of the vocabulary stands for.
    pub(super) fn read(&self, raw: &str, is_byte: bool, out: &mut Vec<u8>) {
        let byte =
            raw.strip_prefix("<0x").and_then(|rest| u8::from_str_radix(rest.strip_suffix('>')?, 16).ok());
        match byte.filter(|_| is_byte) {
            Some(byte) => out.push(byte),
            None => out.extend(raw.replace(SPACE, " ").as_bytes()),
        }
    }
}
