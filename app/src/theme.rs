//! Light, dark, or as the system has it.

use serde::{Deserialize, Serialize};

/// How pages look in this browser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    /// Always light.
    Light,
    /// Always dark.
    Dark,
    /// As the system has it.
    #[default]
    System,
}

impl Theme {
    /// Every theme, in the order of the buttons.
    pub const ALL: [Self; 3] = [Self::Light, Self::Dark, Self::System];

    /// What the cookie `theme` says; anything else is the system's choice.
    pub fn from_cookie(value: Option<&str>) -> Self {
        match value {
            Some("light") => Self::Light,
            Some("dark") => Self::Dark,
            _ => Self::System,
        }
    }

    /// As the form and the cookie have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
            Self::System => "system",
        }
    }

    /// As the button says it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Light => "Light",
            Self::Dark => "Dark",
            Self::System => "System",
        }
    }

    /// The document's `data-theme`; `None`: no such attribute.
    pub fn attribute(self) -> Option<&'static str> {
        (self != Self::System).then(|| self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_themes_are_taken_from_a_cookie() {
        assert_eq!(Theme::from_cookie(Some("dark")), Theme::Dark);
        assert_eq!(Theme::from_cookie(Some("\"><script>")), Theme::System);
        assert_eq!(Theme::from_cookie(None).attribute(), None);
    }
}
