//! Whether bytes are JSON all of whose text is sound, without keeping any of it: a tree of a tokenizer's 30,000 entries
//! would leave megabytes in the allocator for as long as the worker lives. (`serde::de::IgnoredAny` keeps nothing either,
//! and looks at no text.)

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Any value, read to its end and dropped.
struct Sound;

/// An error of a text that is not JSON, or has a name or a string that is no UTF-8.
pub(super) fn check(json: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<Sound>(json).map(|_| ())
}

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_is_read_and_every_unsound_text_refused_wherever_it_stands() {
        for sound in ["null", "[true, -1, 1, 1.5, \"a\\u00e9\", {\"b\": []}]", "{}"] {
            check(sound.as_bytes()).unwrap();
        }
        let unsound: [&[u8]; 6] =
            [b"", b"{\"a\":1", b"[\"\x86\"]", b"{\"\x86\":1}", b"{\"a\":{\"b\":[\"\\ud800\"]}}", b"1 2"];
        for unsound in unsound {
            check(unsound).unwrap_err();
        }
    }
}
