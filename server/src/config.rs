//! Configuration: raw layers -> one checked value. The only place that reads the configuration file and the
//! environment. A later layer wins: default, saved (what the page saved), file, environment, flag.

mod amount;
mod layers;
pub(crate) mod verb;

use std::{
    collections::BTreeMap,
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
};

use manager::Weight;
use protocol::{IdleTimeout, ModelId};

pub(crate) use amount::Amount;
pub(crate) use layers::{Layers, Source};

/// Everything that `serve` needs to know, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// RAM that models may take in all.
    pub(crate) ram_limit: Amount,
    /// RAM that stays free for others.
    pub(crate) reserve: Amount,
    /// What models may take of each GPU.
    pub(crate) gpu_limit: Amount,
    /// Default for every model.
    pub(crate) idle_timeout: IdleTimeout,
    /// A session that has done nothing for so long ends.
    pub(crate) session_timeout: IdleTimeout,
    /// However much it is used, a session ends at this age.
    pub(crate) session_max_age: IdleTimeout,
    /// A model goes so long after its last session ended.
    pub(crate) after_last_session: IdleTimeout,
    /// Requests that may wait for one model.
    pub(crate) queue: u32,
    /// Largest request body.
    pub(crate) body_bytes: u64,
    /// Open connections.
    pub(crate) connections: u32,
    /// Names besides loopback ones that the server answers to.
    pub(crate) allow_hosts: Vec<String>,
    /// Origins besides its own that may change things.
    pub(crate) allow_origins: Vec<String>,
    /// Loaded at the start.
    pub(crate) preload: Vec<ModelId>,
    /// What single models have of their own.
    pub(crate) models: BTreeMap<ModelId, ModelConfig>,
}

/// What one model has of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ModelConfig {
    /// Instead of the default.
    pub(crate) idle_timeout: Option<IdleTimeout>,
    /// Exempt from idle unload and clean-up.
    pub(crate) pinned: bool,
    /// Positions that a sequence may have.
    pub(crate) context: Option<u32>,
    /// How much it is worth keeping when room is made.
    pub(crate) weight: Weight,
}

/// A value that cannot be used, with where it stands.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {cause}. Check the path given with --config, and its rights.")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path} is not valid TOML: {cause}")]
    NotToml {
        /// Which.
        path: PathBuf,
        /// Where and why.
        cause: String,
    },
    /// A key that does not exist.
    #[error("unknown key `{key}` ({source_words}). `innkeeper config show` lists every key.")]
    UnknownKey {
        /// As written.
        key: String,
        /// Where.
        source_words: String,
    },
    /// A variable that looks like a key and is none.
    #[error("the variable {name} is no setting. Write {meant}, or take it out.")]
    UnknownVariable {
        /// As written.
        name: String,
        /// The one that looks like it.
        meant: String,
    },
    /// A value that its key cannot have.
    #[error("`{key}` = `{value}` ({source_words}): {cause}")]
    BadValue {
        /// Which key.
        key: String,
        /// As written.
        value: String,
        /// Where.
        source_words: String,
        /// Why, and what would do.
        cause: String,
    },
}

impl Config {
    /// What a model has of its own. A name that is known only in another case is meant all the same.
    pub(crate) fn of_model(&self, id: &ModelId) -> ModelConfig {
        let in_any_case = || {
            self.models
                .iter()
                .find(|(known, _)| known.as_str().eq_ignore_ascii_case(id.as_str()))
                .map(|(_, own)| own)
        };
        self.models.get(id).or_else(in_any_case).cloned().unwrap_or_default()
    }

    /// Checks the layers. The first bad value is the error.
    pub(crate) fn check(layers: &Layers) -> Result<Self, ConfigError> {
        let mut models: BTreeMap<ModelId, ModelConfig> = BTreeMap::new();
        let mut preload: Vec<ModelId> =
            layers.list("preload", |t| t.parse::<ModelId>().map_err(|e| e.to_string()))?;
        for id in layers.models()? {
            let key = |name: &str| format!("models.{id}.{name}");
            let one = ModelConfig {
                idle_timeout: layers.optional(&key("idle_timeout"), span)?,
                pinned: layers.optional(&key("pinned"), truth)?.unwrap_or(false),
                context: layers.optional(&key("context"), |t| whole(t, 16, 1 << 24))?,
                weight: layers.optional(&key("weight"), weight)?.unwrap_or_default(),
            };
            if layers.optional(&key("preload"), truth)?.unwrap_or(false) && !preload.contains(&id) {
                preload.push(id.clone());
            }
            models.insert(id, one);
        }
        Ok(Self {
            listen: layers.value("listen", address)?,
            ram_limit: layers
                .value("memory.ram_limit", |t| t.parse::<Amount>().map_err(|e| e.to_string()))?,
            reserve: layers.value("memory.reserve", |t| t.parse::<Amount>().map_err(|e| e.to_string()))?,
            gpu_limit: layers
                .value("memory.gpu_limit", |t| t.parse::<Amount>().map_err(|e| e.to_string()))?,
            idle_timeout: layers.value("idle.idle_timeout", span)?,
            session_timeout: layers.value("idle.session_timeout", span)?,
            session_max_age: layers.value("idle.session_max_age", span)?,
            after_last_session: layers.value("idle.after_last_session", span)?,
            queue: layers.value("limits.queue", |t| whole(t, 1, 10_000))?,
            body_bytes: layers.value("limits.body", |t| match t.parse::<Amount>() {
                Ok(Amount::Bytes(bytes)) if (1024..=1 << 30).contains(&bytes) => Ok(bytes),
                _ => Err("write a size from 1KiB to 1GiB, such as 2MiB".to_owned()),
            })?,
            connections: layers.value("limits.connections", |t| whole(t, 8, 100_000))?,
            allow_hosts: layers.list("guard.allow_hosts", |t| Ok(t.to_owned()))?,
            allow_origins: layers.list("guard.allow_origins", |t| Ok(t.to_owned()))?,
            preload,
            models,
        })
    }
}

/// The folder that holds everything: the flag, else INNKEEPER_DATA_DIR, else XDG data home/innkeeper.
pub(crate) fn data_dir(flag: Option<PathBuf>) -> PathBuf {
    let env = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    flag.or_else(|| env("INNKEEPER_DATA_DIR"))
        .or_else(|| env("XDG_DATA_HOME").filter(|p| p.is_absolute()).map(|p| p.join("innkeeper")))
        .or_else(|| env("HOME").map(|home| home.join(".local/share/innkeeper")))
        .unwrap_or_else(|| PathBuf::from("innkeeper-data"))
}

/// The configuration file that is read when none is named: XDG config home/innkeeper/config.toml.
pub(crate) fn default_file() -> Option<PathBuf> {
    let env = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    env("XDG_CONFIG_HOME")
        .filter(|p| p.is_absolute())
        .or_else(|| env("HOME").map(|home| home.join(".config")))
        .map(|dir| dir.join("innkeeper/config.toml"))
        .filter(|file| file.exists())
}

/// Reads a span such as `10m`.
pub(crate) fn span(text: &str) -> Result<IdleTimeout, String> {
    text.parse().map_err(|e: protocol::BadSpan| e.to_string())
}

fn weight(text: &str) -> Result<Weight, String> {
    text.parse().map_err(|bad: manager::BadWeight| bad.to_string())
}

fn truth(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "write true or false".to_owned())
}

fn whole(text: &str, least: u32, most: u32) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|n| (least..=most).contains(n))
        .ok_or_else(|| format!("write a whole number from {least} to {most}"))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.to_socket_addrs()
        .ok()
        .and_then(|mut all| all.next())
        .ok_or_else(|| "write an address and a port, such as 127.0.0.1:7878".to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn checked(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut layers = Layers::defaults();
        layers.add_toml(Source::File, file, Path::new("test.toml"))?;
        layers.add_env(env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))?;
        for (key, value) in flags {
            layers.set(Source::Flag, key, value)?;
        }
        Config::check(&layers)
    }

    #[test]
    fn the_documented_file_is_understood() {
        let config = checked(
            "listen = \"127.0.0.1:7000\"\n[memory]\nram_limit = \"80%\"\nreserve = \"1GiB\"\ngpu_limit = \"90%\"\n\
             [idle]\nidle_timeout = \"15m\"\nsession_timeout = \"5m\"\nsession_max_age = \"12h\"\nafter_last_session = \"60s\"\n\
             [limits]\nqueue = 32\nbody = \"2MiB\"\nconnections = 1024\n\
             [models.smollm2]\nidle_timeout = \"10m\"\npinned = false\ncontext = 8192\npreload = true\n",
            &[],
            &[],
        )
        .unwrap();
        assert_eq!(config.listen.port(), 7000);
        assert_eq!(config.body_bytes, 2 << 20);
        assert_eq!(config.session_max_age, IdleTimeout::After { ms: 12 * 3_600_000 });
        let id: ModelId = "smollm2".parse().unwrap();
        assert_eq!(config.models[&id].idle_timeout, Some(IdleTimeout::After { ms: 600_000 }));
        assert_eq!(config.preload, vec![id]);
    }

    #[test]
    fn a_flag_beats_the_environment_and_that_beats_the_file() {
        let file = "[idle]\nidle_timeout = \"1m\"";
        let env = [("INNKEEPER_IDLE__IDLE_TIMEOUT", "2m"), ("INNKEEPER_SERVER", "http://x")];
        let of = |c: Result<Config, ConfigError>| c.unwrap().idle_timeout.to_string();
        assert_eq!(of(checked("", &[], &[])), "15m");
        assert_eq!(of(checked(file, &[], &[])), "1m");
        assert_eq!(of(checked(file, &env, &[])), "2m");
        assert_eq!(of(checked(file, &env, &[("idle.idle_timeout", "3m")])), "3m");
    }

    #[test]
    fn a_variable_speaks_of_one_model_however_its_name_is_written() {
        let file =
            "[models.\"Qwen2.5-x\"]\npinned = false\nweight = 2\n[models.smollm2]\nidle_timeout = \"1m\"";
        let env = [
            ("INNKEEPER_MODELS__SMOLLM2__PINNED", "true"),
            ("INNKEEPER_MODELS__QWEN2.5-X__PINNED", "true"),
            ("INNKEEPER_MODELS__Other__CONTEXT", "512"),
        ];
        let config = checked(file, &env, &[]).unwrap();
        let of = |id: &str| config.of_model(&id.parse().unwrap());
        assert!(of("smollm2").pinned && of("smollm2").idle_timeout.is_some());
        assert!(of("Qwen2.5-x").pinned, "the environment beats the file");
        assert_eq!(of("Qwen2.5-x").weight.to_string(), "2");
        assert_eq!(of("OTHER").context, Some(512));
        assert_eq!(of("minilm"), ModelConfig::default());
    }

    #[test]
    fn a_misspelt_variable_is_an_error_in_words_and_a_strangers_is_left_alone() {
        for (name, words) in [
            ("INNKEEPER_IDLE__IDEL_TIMEOUT", "idle.idel_timeout"),
            ("INNKEEPER_MODELS__SMOLLM2__PIN", "models.smollm2.pin"),
            ("INNKEEPER_IDLE_TIMEOUT", "INNKEEPER_IDLE__IDLE_TIMEOUT"),
            ("INNKEEPER_MEMORY_RAM_LIMIT", "INNKEEPER_MEMORY__RAM_LIMIT"),
        ] {
            let error = checked("", &[(name, "1")], &[]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(words), "{error}");
        }
        let others = ["INNKEEPER_DATA_DIR", "INNKEEPER_TEST_MODELS", "INNKEEPER_BASE_URL", "XINNKEEPER_A__B"];
        assert!(checked("", &others.map(|name| (name, "1")), &[]).is_ok());
    }

    #[test]
    fn a_bad_value_names_its_key_its_place_and_what_would_do() {
        let error = checked("[limits]\nqueue = -4", &[], &[]).unwrap_err().to_string();
        assert!(
            error.contains("limits.queue") && error.contains("test.toml") && error.contains("whole number"),
            "{error}"
        );
        let error = checked("[limits]\nqeue = 4", &[], &[]).unwrap_err().to_string();
        assert!(error.contains("limits.qeue"), "{error}");
        assert!(checked("[models.\"a/b\"]\npinned = true", &[], &[]).is_err());
        assert!(checked("listen = ", &[], &[]).unwrap_err().to_string().contains("TOML"));
    }
}
