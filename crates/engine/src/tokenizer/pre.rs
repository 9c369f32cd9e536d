//! How text is cut into words before the merges: a table of `tokenizer.ggml.pre`. An unknown name is refused, because a
//! guess makes wrong tokens without a word. Source of the patterns: llama.cpp's `llama-vocab.cpp`.

use fancy_regex::Regex;

use crate::error::Error;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral's, as its tokenizer.json has it.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// One way of cutting.
#[derive(Debug)]
pub(crate) struct Splitter {
    /// Applied one after the other, each to the pieces of the one before; what matches stands alone.
    patterns: Vec<Regex>,
    /// A word that is a token as a whole is taken without merging.
    pub(crate) ignore_merges: bool,
    /// The begin token comes first, unless the file says otherwise.
    pub(crate) adds_bos: bool,
}

/// The patterns of a name, and whether words that are tokens are taken whole and the begin token comes first: llama.cpp lets
/// both go together.
fn row(pre: &str) -> Option<(&'static [&'static str], bool)> {
    Some(match pre {
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" => {
            (&[DIGIT, GPT2], false)
        }
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "jina-es" | "jina-de" | "jina-v1-en" | "jina-v2-es"
        | "jina-v2-de" => (&[GPT2], false),
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "lfm2" => {
            (&[LLAMA3], true)
        }
        "tekken" => (&[TEKKEN], true),
        "smaug-bpe" | "dbrx" | "glm4" | "chatglm-bpe" => (&[LLAMA3], false),
        "qwen2" | "deepseek-r1-qwen" | "stablelm2" | "megrez" => (&[QWEN2], false),
        _ => return None,
    })
}

/// Whether the table knows this name.
pub(crate) fn check(pre: &str) -> Result<(), Error> {
    row(pre).map(drop).ok_or_else(|| unknown(pre))
}

fn unknown(pre: &str) -> Error {
    Error::Tokenizer(format!("gpt2 with the pre-tokenizer {pre}"))
}

impl Splitter {
    /// The way that `tokenizer.ggml.pre` names.
    pub(crate) fn named(pre: &str) -> Result<Self, Error> {
        let (patterns, whole_and_bos) = row(pre).ok_or_else(|| unknown(pre))?;
        let patterns = patterns
            .iter()
            .map(|pattern| Regex::new(pattern).map_err(|why| Error::Compute(why.to_string())))
            .collect::<Result<_, _>>()?;
        Ok(Self { patterns, ignore_merges: whole_and_bos, adds_bos: whole_and_bos })
    }

    /// Gives each word of `text` to `word`, in order; together they are the text. The first error of `word` ends it.
    pub(crate) fn split<'a>(&self, text: &'a str, word: Word<'a, '_>) -> Result<(), Error> {
        cut(&self.patterns, text, word)
    }
}

/// What takes a word.
type Word<'a, 'b> = &'b mut dyn FnMut(&'a str) -> Result<(), Error>;

fn cut<'a>(patterns: &[Regex], text: &'a str, word: Word<'a, '_>) -> Result<(), Error> {
    let Some((pattern, rest)) = patterns.split_first() else {
        return if text.is_empty() { Ok(()) } else { word(text) };
    };
    let mut from = 0;
    for found in pattern.find_iter(text) {
        let found = found.map_err(|why| Error::Compute(why.to_string()))?;
        if found.start() > from {
            cut(rest, &text[from..found.start()], word)?;
        }
        cut(rest, found.as_str(), word)?;
        from = found.end();
    }
    cut(rest, &text[from..], word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(pre: &str, text: &str) -> Vec<String> {
        let mut out = Vec::new();
        let mut keep = |word: &str| {
            out.push(word.to_owned());
            Ok(())
        };
        Splitter::named(pre).unwrap().split(text, &mut keep).unwrap();
        out
    }

    #[test]
    fn smollm_isolates_digits_and_keeps_the_space_before_a_word() {
        assert_eq!(words("smollm", "In 2024, it's"), ["In", " ", "2", "0", "2", "4", ",", " it", "'s"]);
    }

    #[test]
    fn llama_takes_three_digits_and_qwen_takes_one() {
        assert_eq!(words("llama-bpe", "a 1234"), ["a", " ", "123", "4"]);
        assert_eq!(words("qwen2", "a 12"), ["a", " ", "1", "2"]);
    }

    #[test]
    fn mistral_cuts_where_small_letters_end_and_takes_one_digit() {
        assert_eq!(
            words("tekken", "camelCase HTTPServer 12"),
            ["camel", "Case", " HTTPServer", " ", "1", "2"]
        );
        assert_eq!(words("tekken", "don't a/b//\n c"), ["don", "'t", " a", "/b", "//\n", " c"]);
    }

    #[test]
    fn the_last_space_goes_with_the_word() {
        assert_eq!(words("gpt-2", "a   b\n\n c "), ["a", "  ", " b", "\n\n", " c", " "]);
    }

    #[test]
    fn an_unknown_name_is_refused_by_name() {
        let sentence = Splitter::named("tomorrow").unwrap_err().to_string();
        assert!(sentence.contains("tomorrow"), "{sentence}");
    }

    proptest! {
        #[test]
        fn the_words_are_the_text(text in "\\PC{0,40}|[ \\n\\r\\ta1'é中]{0,40}", pre in prop::sample::select(&["smollm", "gpt-2", "llama-bpe", "qwen2", "tekken"][..])) {
            prop_assert_eq!(words(pre, &text).concat(), text);
        }
    }
}
