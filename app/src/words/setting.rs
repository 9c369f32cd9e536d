//! What a setting is called, what it does, and where its value comes from.

use protocol::{Setting, capital};

/// Which settings stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// When things go by themselves.
    Timers,
    /// What models may take.
    Memory,
    /// Whatever a newer server brings.
    Other,
}

/// A setting in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingWords {
    /// With which others it stands.
    pub group: Group,
    /// `Idle timeout`.
    pub name: String,
    /// What it does, in a sentence or two.
    pub does: &'static str,
}

/// The words for a key. One that this page does not know is called by its key.
pub fn setting_words(key: &str) -> SettingWords {
    use Group::{Memory, Other, Timers};
    let (group, name, does) = match key {
        "idle_timeout" => (
            Timers,
            "Idle timeout",
            "A model that nobody has used for so long is unloaded, unless it has a timeout of its own. 0: as soon as \
             its last request ends.",
        ),
        "session_timeout" => (
            Timers,
            "Session timeout",
            "A session that has asked for nothing for so long ends, and what is kept of its conversations is given back.",
        ),
        "after_last_session" => (
            Timers,
            "After the last session",
            "A model stays at most so long after the last session that used it has ended.",
        ),
        "ram_limit" => (
            Memory,
            "Memory limit",
            "All models together may take so much of this machine's memory: a share (80%) or an amount (12GiB).",
        ),
        "reserve" => {
            (Memory, "Reserve", "So much free memory is left to other programs, whatever the limit says.")
        }
        "gpu_limit" => (Memory, "GPU limit", "Models may take so much of each GPU's memory."),
        other => {
            let spoken = other.replace(['_', '.'], " ");
            return SettingWords { group: Other, name: capital(&spoken), does: "" };
        }
    };
    SettingWords { group, name: name.to_owned(), does }
}

/// Where a value comes from, after the value: `the default`, `saved here`, `from the file /etc/innkeeper.toml`.
pub fn source(setting: &Setting) -> String {
    let place = &setting.place;
    match setting.source.as_str() {
        "default" => "the default".to_owned(),
        "saved" => "saved here".to_owned(),
        "file" => format!("from the file {place}"),
        "env" => format!("from the environment variable {place}"),
        "flag" => "from the command line".to_owned(),
        other => other.to_owned(),
    }
}

/// Why a value cannot be changed on a page; empty: it can.
pub fn locked(setting: &Setting) -> String {
    if !setting.locked {
        return String::new();
    }
    let place = &setting.place;
    match setting.source.as_str() {
        "file" => format!(
            "The configuration file {place} decides this. Change it there and start the server again."
        ),
        "env" => {
            format!("The environment variable {place} decides this. Change it and start the server again.")
        }
        _ => "An argument of the command line decides this. Start the server without it to change it here."
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn every_setting_that_there_is_has_words_of_its_own() {
        for (key, _) in example::settings().all() {
            let words = setting_words(key);
            assert!(words.group != Group::Other && !words.does.is_empty(), "{key}");
        }
        let new = setting_words("keep_warm.minutes");
        assert_eq!((new.group, new.name.as_str()), (Group::Other, "Keep warm minutes"));
    }

    #[test]
    fn a_locked_value_says_who_decides_and_what_to_do() {
        let mut setting =
            Setting { value: "5m".into(), source: "file".into(), locked: true, place: "/etc/x.toml".into() };
        assert!(
            locked(&setting).contains("/etc/x.toml") && locked(&setting).contains("start the server again")
        );
        setting.locked = false;
        assert_eq!(locked(&setting), "");
        assert_eq!(source(&setting), "from the file /etc/x.toml");
    }
}
