//! The layers of the configuration as text, each value with where it came from.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use protocol::ModelId;

use super::ConfigError;

/// Where a value came from; a later one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Built in.
    Default,
    /// The page saved it (settings.toml).
    Saved,
    /// The configuration file.
    File,
    /// The environment.
    Env,
    /// The command line.
    Flag,
}

impl Source {
    /// As the API has it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Saved => "saved",
            Self::File => "file",
            Self::Env => "env",
            Self::Flag => "flag",
        }
    }

    /// Whether a person cannot change the value from the page.
    pub(crate) fn locks(self) -> bool {
        self >= Self::File
    }
}

/// One value as text.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// As written.
    pub(crate) text: String,
    /// Where it came from.
    pub(crate) source: Source,
    /// The file or the variable.
    pub(crate) place: String,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Source::Default | Source::Flag => f.write_str(self.source.word()),
            _ => write!(f, "{} {}", self.source.word(), self.place),
        }
    }
}

/// Every key that is not a model's, with its default.
const KEYS: [(&str, &str); 14] = [
    ("listen", "127.0.0.1:7878"),
    ("preload", ""),
    ("memory.ram_limit", "80%"),
    ("memory.reserve", "1GiB"),
    ("memory.gpu_limit", "90%"),
    ("idle.idle_timeout", "15m"),
    ("idle.session_timeout", "5m"),
    ("idle.session_max_age", "never"),
    ("idle.after_last_session", "60s"),
    ("limits.queue", "32"),
    ("limits.body", "2MiB"),
    ("limits.connections", "1024"),
    ("guard.allow_hosts", ""),
    ("guard.allow_origins", ""),
];

const MODEL_KEYS: [&str; 5] = ["idle_timeout", "pinned", "context", "preload", "weight"];

/// Each key's winning value. Lists are kept as lines.
#[derive(Clone, Debug)]
pub(crate) struct Layers {
    entries: BTreeMap<String, Entry>,
}

impl Layers {
    /// Only what is built in.
    pub(crate) fn defaults() -> Self {
        let one = |(key, text): &(&str, &str)| ((*key).to_owned(), entry(Source::Default, text));
        Self { entries: KEYS.iter().map(one).collect() }
    }

    /// Nothing at all.
    pub(crate) fn empty() -> Self {
        Self { entries: BTreeMap::new() }
    }

    /// These layers on top of others; of two values the one from the stronger source wins.
    pub(crate) fn over(&self, lower: &Self) -> Self {
        let mut entries = lower.entries.clone();
        for (key, entry) in &self.entries {
            if entries.get(key).is_none_or(|under| entry.source >= under.source) {
                entries.insert(key.clone(), entry.clone());
            }
        }
        Self { entries }
    }

    /// One key's value. The names of variables are mostly written in capitals, so one that speaks of a model means it
    /// however the model's own name is written.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        let exact = self.entries.get(key);
        let small = model_key(key)
            .and_then(|(id, name)| self.entries.get(&format!("models.{}.{name}", id.to_ascii_lowercase())));
        let by_variable = small.filter(|entry| entry.source == Source::Env);
        exact.filter(|entry| entry.source > Source::Env).or(by_variable).or(exact)
    }

    /// What the page saved, as TOML.
    pub(crate) fn saved_toml(&self) -> String {
        let mut root = toml::Table::new();
        for (key, entry) in self.entries.iter().filter(|(_, entry)| entry.source == Source::Saved) {
            let path: Vec<&str> = match model_key(key) {
                Some((id, name)) => vec!["models", id, name],
                None => key.split('.').collect(),
            };
            insert(&mut root, &path, &entry.text);
        }
        root.to_string()
    }

    /// Every key with its value, sorted.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(key, entry)| (key.as_str(), entry))
    }

    /// Lays a TOML text on top.
    pub(crate) fn add_toml(&mut self, source: Source, text: &str, path: &Path) -> Result<(), ConfigError> {
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| ConfigError::NotToml {
            path: path.to_owned(),
            cause: e.to_string(),
        })?;
        let mut flat = Vec::new();
        flatten("", &toml::Value::Table(table), &mut flat);
        for (key, text) in flat {
            self.put(&key, Entry { text, source, place: path.display().to_string() })?;
        }
        Ok(())
    }

    /// Lays a TOML file on top.
    pub(crate) fn add_file(&mut self, source: Source, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
        self.add_toml(source, &text, path)
    }

    /// Lays the environment on top: `INNKEEPER_MEMORY__RAM_LIMIT` is `memory.ram_limit`, `INNKEEPER_MODELS__SMOLLM2__PINNED` is
    /// `models.smollm2.pinned`. Of the others, one that can only have been meant for us is an error, as it would be in a
    /// file; the rest belong to somebody else and are left alone.
    pub(crate) fn add_env(
        &mut self,
        vars: impl Iterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (name, text) in vars {
            let Some(rest) = name.strip_prefix("INNKEEPER_") else { continue };
            let key = rest.to_ascii_lowercase().replace("__", ".");
            let text = if is_list(&key) { text.replace(',', "\n") } else { text };
            if key.contains('.') {
                self.put(&key, Entry { text, source: Source::Env, place: name })?;
            } else if KEYS.iter().any(|(known, _)| *known == key) {
                self.entries.insert(key, Entry { text, source: Source::Env, place: name });
            } else if let Some(meant) = meant_by(&key) {
                return Err(ConfigError::UnknownVariable { name, meant });
            }
        }
        Ok(())
    }

    /// Sets one value.
    pub(crate) fn set(&mut self, source: Source, key: &str, text: &str) -> Result<(), ConfigError> {
        self.put(key, entry(source, text))
    }

    /// Forgets what was saved for a key: what is built in holds again, where there is such a thing.
    pub(crate) fn forget_saved(&mut self, key: &str) -> Result<(), ConfigError> {
        let Some(entry) = self.entries.get(key) else {
            return self.known(key, &entry(Source::Saved, "default"));
        };
        if entry.source == Source::Saved {
            self.entries.remove(key);
            let built_in = KEYS.iter().find(|(known, _)| *known == key);
            self.entries
                .extend(built_in.map(|(_, text)| (key.to_owned(), self::entry(Source::Default, text))));
        }
        Ok(())
    }

    /// A value that always has one, checked.
    pub(crate) fn value<T>(
        &self,
        key: &str,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        self.optional(key, check)?.ok_or_else(|| ConfigError::UnknownKey {
            key: key.to_owned(),
            source_words: "no default".to_owned(),
        })
    }

    /// A value that may be absent, checked.
    pub(crate) fn optional<T>(
        &self,
        key: &str,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        check(&entry.text).map(Some).map_err(|cause| bad_value(key, entry, &entry.text, cause))
    }

    /// A list, each part checked.
    pub(crate) fn list<T>(
        &self,
        key: &str,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, ConfigError> {
        let Some(entry) = self.entries.get(key) else { return Ok(Vec::new()) };
        let parts = entry.text.lines().map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| check(part).map_err(|cause| bad_value(key, entry, part, cause))).collect()
    }

    /// The models that have values of their own.
    pub(crate) fn models(&self) -> Result<BTreeSet<ModelId>, ConfigError> {
        let of_models = self.entries.iter().filter_map(|(key, entry)| Some((key, entry, model_key(key)?.0)));
        of_models
            .map(|(key, entry, id)| {
                id.parse()
                    .map_err(|e: protocol::BadModelId| bad_value(key, entry, &entry.text, e.to_string()))
            })
            .collect()
    }

    fn put(&mut self, key: &str, entry: Entry) -> Result<(), ConfigError> {
        self.known(key, &entry)?;
        self.entries.insert(key.to_owned(), entry);
        Ok(())
    }

    /// Whether there is such a key at all.
    fn known(&self, key: &str, entry: &Entry) -> Result<(), ConfigError> {
        let known = KEYS.iter().any(|(known, _)| *known == key)
            || model_key(key).is_some_and(|(_, name)| MODEL_KEYS.contains(&name));
        if known {
            return Ok(());
        }
        Err(ConfigError::UnknownKey { key: key.to_owned(), source_words: entry.to_string() })
    }
}

/// A value that stands in no file and no variable.
fn entry(source: Source, text: &str) -> Entry {
    Entry { text: text.to_owned(), source, place: String::new() }
}

/// The variable that was meant by one that lacks its section, or half of the underscores before its key.
fn meant_by(key: &str) -> Option<String> {
    let meant = |known: &&str| {
        known.split_once('.').is_some_and(|(_, last)| last == key) || known.replace('.', "_") == key
    };
    let known = KEYS.iter().map(|(known, _)| *known).find(meant)?;
    Some(format!("INNKEEPER_{}", known.replace('.', "__").to_ascii_uppercase()))
}

fn is_list(key: &str) -> bool {
    matches!(key, "preload" | "guard.allow_hosts" | "guard.allow_origins")
}

/// `models.ID.name` in its parts; the id may have dots of its own.
fn model_key(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix("models.")?.rsplit_once('.')
}

fn bad_value(key: &str, entry: &Entry, value: &str, cause: String) -> ConfigError {
    ConfigError::BadValue {
        key: key.to_owned(),
        value: value.to_owned(),
        source_words: entry.to_string(),
        cause,
    }
}

fn flatten(prefix: &str, value: &toml::Value, out: &mut Vec<(String, String)>) {
    match value {
        toml::Value::Table(table) => {
            for (name, value) in table {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&key, value, out);
            }
        }
        toml::Value::Array(parts) => {
            let lines: Vec<String> = parts.iter().map(plain).collect();
            out.push((prefix.to_owned(), lines.join("\n")));
        }
        other => out.push((prefix.to_owned(), plain(other))),
    }
}

fn insert(table: &mut toml::Table, path: &[&str], text: &str) {
    match path {
        [] => {}
        [name] => {
            table.insert((*name).to_owned(), toml::Value::String(text.to_owned()));
        }
        [name, rest @ ..] => {
            let next = table.entry(*name).or_insert_with(|| toml::Value::Table(toml::Table::new()));
            if let toml::Value::Table(next) = next {
                insert(next, rest, text);
            }
        }
    }
}

fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
