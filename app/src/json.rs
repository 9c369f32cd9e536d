//! JSON in the browser: read with the browser's own parser, written by hand.
//!
//! serde_json's reader and writer would be a sixth of the whole WASM, because they come once for each type. The
//! shapes are serde's all the same; tests on the host read them with serde_json.

#[cfg(target_arch = "wasm32")]
mod browser;

use serde::de::DeserializeOwned;

/// A value from its JSON; `None` where it is not what was expected.
#[cfg(target_arch = "wasm32")]
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
    T::deserialize(browser::Value::parse(text)?).ok()
}

/// A value from its JSON; `None` where it is not what was expected.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

/// A text as a JSON string.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c if c < ' ' => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_text_survives_its_quotes(text in "\\PC*", control in "[\\x00-\\x1f]{0,4}") {
            let text = format!("{control}{text}");
            prop_assert_eq!(read::<String>(&quote(&text)), Some(text));
        }
    }

    #[test]
    fn what_is_not_expected_is_nothing() {
        assert_eq!(read::<String>("7"), None);
        assert_eq!(read::<String>("{"), None);
    }
}
