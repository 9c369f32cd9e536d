//! The tokenizer of a GGUF file, with the file's own vocabulary and special tokens: byte-level BPE with merges, or pieces
//! with scores as SentencePiece has them. Knows no template and no model. What it does not know it refuses by name.

mod alphabet;
mod bpe;
mod index;
mod pieces;
mod pre;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::error::Error;
use crate::gguf::GgufError;
use crate::weights::Weights;
use alphabet::Alphabet;
use bpe::{Bpe, Texts};
use pieces::Pieces;
use pre::Splitter;

const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";

/// `tokenizer.ggml.token_type`, as ggml numbers them.
mod kind {
    pub(super) const UNKNOWN: u8 = 2;
    pub(super) const CONTROL: u8 = 3;
    pub(super) const USER: u8 = 4;
    pub(super) const UNUSED: u8 = 5;
    pub(super) const BYTE: u8 = 6;
}

/// End tokens that files name only as text.
const ENDS: [&str; 8] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<|eom_id|>",
    "<|return|>",
];

/// Special tokens of phi3 that leave the white space after them alone.
const PLAIN_SPECIALS: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];

/// How plain text becomes tokens.
#[derive(Debug)]
enum Scheme {
    Bpe { bpe: Bpe, splitter: Splitter, alphabet: Box<Alphabet> },
    Pieces(Pieces),
}

impl Scheme {
    fn tokens(&self) -> &Texts {
        match self {
            Self::Bpe { bpe, .. } => &bpe.tokens,
            Self::Pieces(pieces) => &pieces.tokens,
        }
    }

    fn id(&self, file: &[u8], text: &str) -> Option<u32> {
        match self {
            Self::Bpe { bpe, .. } => bpe.id(file, text),
            Self::Pieces(pieces) => pieces.id(file, text),
        }
    }

    /// Bytes that one token stands for at the most: no token is written shorter than what it stands for.
    fn longest(&self, file: &[u8]) -> usize {
        let tokens = self.tokens();
        (0..tokens.len()).map(|id| tokens.get(file, id).len()).max().unwrap_or_default().max(1)
    }

    /// Bytes that are in no text left out.
    fn known(&self, file: &[u8]) -> [bool; 256] {
        std::array::from_fn(|byte| match self {
            Self::Bpe { bpe, alphabet, .. } => {
                bpe.id(file, &alphabet.letter(byte as u8).to_string()).is_some()
            }
            Self::Pieces(pieces) => pieces.knows(byte as u8),
        })
    }
}

/// Text to tokens and back.
#[derive(Debug)]
pub(crate) struct Tokenizer {
    weights: Arc<Weights>,
    scheme: Scheme,
    kinds: Vec<u8>,
    /// Tokens that are found in text as they stand, longest first.
    specials: Vec<u32>,
    /// The specials swallow the white space after them.
    swallows: bool,
    /// First bytes of the specials.
    first_bytes: [bool; 256],
    bos: Option<u32>,
    eos: Option<u32>,
    add_bos: bool,
    ends: Vec<u32>,
    /// Bytes of a text that one token stands for at the most.
    longest: usize,
    /// Bytes for which there is a token, if no longer one has them.
    known: [bool; 256],
}

impl Tokenizer {
    /// Reads it from the file.
    pub(crate) fn new(weights: Arc<Weights>) -> Result<Self, Error> {
        let file = weights.header_bytes();
        let metadata = weights.metadata();
        let scheme = scheme(&weights)?;
        let count = scheme.tokens().len();
        let mut kinds: Vec<u8> = metadata
            .numbers(file, KINDS)?
            .unwrap_or_default()
            .into_iter()
            .map(|kind| u8::try_from(kind).unwrap_or(0))
            .collect();
        kinds.resize(count as usize, 1);
        let token = |key: &str| -> Result<Option<u32>, Error> {
            let id = metadata.unsigned(key)?;
            Ok(id.and_then(|id| u32::try_from(id).ok()).filter(|id| *id < count))
        };
        let bos = token("tokenizer.ggml.bos_token_id")?;
        let eos = token("tokenizer.ggml.eos_token_id")?;
        let mut ends: Vec<u32> =
            [eos, token("tokenizer.ggml.eot_token_id")?, token("tokenizer.ggml.eom_token_id")?]
                .into_iter()
                .flatten()
                .chain(
                    ENDS.iter().filter_map(|text| scheme.id(file, text)).filter(|id| {
                        kinds[*id as usize] == kind::CONTROL || kinds[*id as usize] == kind::USER
                    }),
                )
                .collect();
        ends.sort_unstable();
        ends.dedup();
        let add_bos = metadata.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(match &scheme {
            Scheme::Bpe { splitter, .. } => splitter.adds_bos,
            Scheme::Pieces(_) => true,
        });
        let (specials, first_bytes) = specials(file, scheme.tokens(), &kinds);
        let (longest, known) = (scheme.longest(file), scheme.known(file));
        // No key says so; llama.cpp knows these models by their name.
        let swallows =
            matches!(scheme, Scheme::Pieces(_)) && weights.text("general.architecture")? == Some("phi3");
        Ok(Self {
            scheme,
            kinds,
            specials,
            swallows,
            first_bytes,
            bos,
            eos,
            add_bos,
            ends,
            longest,
            known,
            weights,
        })
    }

    /// Whether the model says with this token that it has finished.
    pub(crate) fn is_end(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// A token's text as the file writes it.
    pub(crate) fn raw(&self, id: u32) -> &str {
        std::str::from_utf8(self.scheme.tokens().get(self.weights.header_bytes(), id)).unwrap_or_default()
    }

    /// The text of the token that begins a document; empty if there is none.
    pub(crate) fn bos_text(&self) -> &str {
        self.bos.map(|id| self.raw(id)).unwrap_or_default()
    }

    /// The text of the token that ends a document; empty if there is none.
    pub(crate) fn eos_text(&self) -> &str {
        self.eos.map(|id| self.raw(id)).unwrap_or_default()
    }

    /// The token that begins a document.
    pub(crate) fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The tokens of a text, in which special tokens may stand. The begin token comes first if the file wants it and
    /// the text does not bring it. A text that fills the context is given up as soon as that is certain, since all other
    /// requests wait meanwhile.
    pub(crate) fn encode(&self, text: &str, context: u32) -> Result<Vec<u32>, Error> {
        let check = |tokens: usize| match tokens >= context as usize {
            true => Err(Error::ContextExceeded { tokens, whole: false, context }),
            false => Ok(()),
        };
        check(text.bytes().filter(|byte| self.known[usize::from(*byte)]).count() / self.longest)?;
        let mut out = Vec::new();
        let mut word_text = String::new();
        let mut plain = 0;
        let mut at = 0;
        while at < text.len() {
            match self.special_at(&text.as_bytes()[at..]) {
                Some((id, length)) => {
                    self.encode_plain(&text[plain..at], &mut word_text, &mut out, &check)?;
                    out.push(id);
                    check(out.len())?;
                    at += length + self.swallowed(id, &text[at + length..]);
                    plain = at;
                }
                None => at += 1,
            }
        }
        self.encode_plain(&text[plain..], &mut word_text, &mut out, &check)?;
        if let Some(bos) = self.bos.filter(|bos| self.add_bos && out.first() != Some(bos)) {
            out.insert(0, bos);
        }
        Ok(out)
    }

    fn special_at(&self, rest: &[u8]) -> Option<(u32, usize)> {
        if !self.first_bytes[usize::from(*rest.first()?)] {
            return None;
        }
        let file = self.weights.header_bytes();
        self.specials.iter().find_map(|id| {
            let text = self.scheme.tokens().get(file, *id);
            rest.starts_with(text).then_some((*id, text.len()))
        })
    }

    /// Bytes that a special token takes from the text after it.
    fn swallowed(&self, id: u32, rest: &str) -> usize {
        if !self.swallows || PLAIN_SPECIALS.contains(&self.raw(id)) {
            return 0;
        }
        rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']).len()
    }

    /// Appends the tokens of a text without special ones; `check` sees their number after each word.
    fn encode_plain(
        &self,
        text: &str,
        word_text: &mut String,
        out: &mut Vec<u32>,
        check: &dyn Fn(usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let file = self.weights.header_bytes();
        let (bpe, splitter, alphabet) = match &self.scheme {
            Scheme::Bpe { bpe, splitter, alphabet } => (bpe, splitter, alphabet),
            Scheme::Pieces(pieces) => {
                if !text.is_empty() {
                    pieces.encode(file, text, out);
                }
                return check(out.len());
            }
        };
        splitter.split(text, &mut |word| {
            word_text.clear();
            alphabet.write(word.as_bytes(), word_text);
            let whole = if splitter.ignore_merges { bpe.id(file, word_text) } else { None };
            match whole {
                Some(id) => out.push(id),
                None => bpe.encode(file, word_text, out),
            }
            check(out.len())
        })
    }

    /// Appends the bytes that a token stands for in an answer; control tokens stand for none.
    pub(crate) fn decode(&self, id: u32, out: &mut Vec<u8>) {
        match self.kinds.get(id as usize).copied() {
            None | Some(kind::CONTROL | kind::UNKNOWN | kind::UNUSED) => {}
            Some(kind::USER) => out.extend(self.raw(id).as_bytes()),
            Some(of) => match &self.scheme {
                Scheme::Bpe { alphabet, .. } => alphabet.read(self.raw(id), out),
                Scheme::Pieces(pieces) => pieces.read(self.raw(id), of == kind::BYTE, out),
            },
        }
    }
}

fn missing(key: &str) -> Error {
    GgufError::MissingKey(key.to_owned()).into()
}

/// The file's way of making tokens of plain text.
fn scheme(weights: &Weights) -> Result<Scheme, Error> {
    let (file, metadata) = (weights.header_bytes(), weights.metadata());
    let texts = |key: &str| -> Result<Texts, Error> {
        let ranges = metadata.texts(file, key)?.ok_or_else(|| missing(key))?;
        if ranges.iter().any(|range| std::str::from_utf8(&file[range.clone()]).is_err()) {
            return Err(GgufError::NotText { what: "an entry of the vocabulary" }.into());
        }
        Texts::new(&ranges)
            .ok_or_else(|| GgufError::Absurd { what: "the header's length", value: file.len() as u64 }.into())
    };
    check(weights)?;
    if weights.text("tokenizer.ggml.model")? == Some("llama") {
        let scores = metadata.floats(file, SCORES)?.ok_or_else(|| missing(SCORES))?;
        let tokens = texts(TOKENS)?;
        let unknown = metadata.unsigned("tokenizer.ggml.unknown_token_id")?.unwrap_or(0);
        let unknown = u32::try_from(unknown).ok().filter(|id| *id < tokens.len());
        let space_first = metadata.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        return Ok(Scheme::Pieces(Pieces::new(file, tokens, scores, unknown, space_first)));
    }
    let splitter = Splitter::named(weights.text("tokenizer.ggml.pre")?.unwrap_or("gpt-2"))?;
    let bpe = Bpe::new(file, texts(TOKENS)?, texts(MERGES)?);
    Ok(Scheme::Bpe { bpe, splitter, alphabet: Box::new(Alphabet::new()) })
}

fn specials(file: &[u8], tokens: &Texts, kinds: &[u8]) -> (Vec<u32>, [bool; 256]) {
    let mut first_bytes = [false; 256];
    let mut specials: Vec<u32> = (0..tokens.len())
        .filter(|id| matches!(kinds[*id as usize], kind::CONTROL | kind::USER | kind::UNKNOWN))
        .filter(|id| !tokens.get(file, *id).is_empty())
        .collect();
    specials.sort_by_key(|id| std::cmp::Reverse(tokens.get(file, *id).len()));
    for id in &specials {
        first_bytes[usize::from(tokens.get(file, *id)[0])] = true;
    }
    (specials, first_bytes)
}

/// Whether [`Tokenizer::new`] would know this file's tokenizer; builds nothing.
pub(crate) fn check(weights: &Weights) -> Result<(), Error> {
    match weights.text("tokenizer.ggml.model")? {
        Some("gpt2") => {}
        Some("llama") => return Ok(()),
        Some(other) => return Err(Error::Tokenizer(other.to_owned())),
        None => return Err(missing("tokenizer.ggml.model")),
    }
    pre::check(weights.text("tokenizer.ggml.pre")?.unwrap_or("gpt-2"))
}

/// Private memory that the tokenizer of this file takes.
pub(crate) fn bytes(weights: &Weights) -> u64 {
    let entries = |key| weights.metadata().length(key).unwrap_or(0);
    // A span of 8 bytes and 8 to 16 bytes of slots for each entry.
    (entries(TOKENS) + entries(MERGES)) * 20
}
