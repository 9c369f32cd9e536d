//! GPT-2's byte alphabet: every byte stands as a printable character, so that a vocabulary is text. Source: OpenAI's
//! gpt-2 `bytes_to_unicode`.

/// Characters of the alphabet end below this.
const END: usize = 324;

/// Bytes to characters and back.
#[derive(Debug)]
pub(crate) struct Alphabet {
    chars: [char; 256],
    bytes: [Option<u8>; END],
}

impl Alphabet {
    pub(crate) fn new() -> Self {
        let mut chars = ['\0'; 256];
        let mut bytes = [None; END];
        let mut next = 256u32;
        for byte in 0..=255u8 {
            let code = match byte {
                b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => u32::from(byte),
                _ => {
                    next += 1;
                    next - 1
                }
            };
            chars[usize::from(byte)] = char::from_u32(code).unwrap_or('\0');
            if let Some(slot) = bytes.get_mut(code as usize) {
                *slot = Some(byte);
            }
        }
        Self { chars, bytes }
    }

    /// The letter of a byte.
    pub(crate) fn letter(&self, byte: u8) -> char {
        self.chars[usize::from(byte)]
    }

    /// Appends the text of `bytes` in the alphabet.
    pub(crate) fn write(&self, bytes: &[u8], out: &mut String) {
        out.extend(bytes.iter().map(|byte| self.chars[usize::from(*byte)]));
    }

    /// Appends the bytes that `text` stands for; characters outside the alphabet stand for themselves.
    pub(crate) fn read(&self, text: &str, out: &mut Vec<u8>) {
        for c in text.chars() {
            match self.bytes.get(c as usize).copied().flatten() {
                Some(byte) => out.push(byte),
                None => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        let alphabet = Alphabet::new();
        let all: Vec<u8> = (0..=255).collect();
        let mut text = String::new();
        alphabet.write(&all, &mut text);
        assert!(text.chars().all(|c| !c.is_whitespace() && !c.is_control()));
        let mut back = Vec::new();
        alphabet.read(&text, &mut back);
        assert_eq!(back, all);
    }

    #[test]
    fn a_space_is_the_letter_that_vocabularies_have_for_it() {
        let mut text = String::new();
        Alphabet::new().write(b" a\n", &mut text);
        assert_eq!(text, "\u{120}a\u{10a}");
    }
}
