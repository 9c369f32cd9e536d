//! Where things lie: the checkout, the target folder and what xtask keeps in it. Knows nothing of what is done there.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::tool::Tool;

/// The folders that chores work in.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The checkout.
    pub(crate) root: PathBuf,
    /// Cargo's target folder, as `CARGO_TARGET_DIR` or cargo's configuration say.
    pub(crate) target: PathBuf,
}

impl Places {
    /// Asks cargo, so that every way to configure the target folder is honoured.
    pub(crate) fn find() -> Result<Self> {
        let answer = Tool::new(cargo_program())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .capture()
            .context("cannot find the workspace; run this from within the checkout")?;
        let metadata: serde_json::Value = serde_json::from_str(&answer)?;
        let folder = |key: &str| -> Result<PathBuf> {
            let path = metadata[key].as_str().with_context(|| format!("cargo metadata has no {key}"))?;
            Ok(PathBuf::from(path))
        };
        Ok(Self { root: folder("workspace_root")?, target: folder("target_directory")? })
    }

    /// The browser's half, finished: what the server embeds.
    pub(crate) fn site(&self) -> PathBuf {
        self.target.join("site")
    }

    /// The browser's half on its way: bindings and optimised WASM.
    pub(crate) fn front(&self) -> PathBuf {
        self.target.join("front")
    }

    /// Tools that are no part of the machine: wasm-opt, a Python environment.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// What was built from what.
    pub(crate) fn stamps(&self) -> PathBuf {
        self.target.join("stamps")
    }

    /// The data folder that tests take their models from.
    pub(crate) fn test_data(&self) -> PathBuf {
        self.target.join("test-data")
    }

    /// The finished program.
    pub(crate) fn program(&self) -> PathBuf {
        self.target.join("release/innkeeper")
    }

    /// The browser tests.
    pub(crate) fn end2end(&self) -> PathBuf {
        self.root.join("end2end")
    }

    /// Cargo, with this target folder and the place of the site for the server's build script.
    ///
    /// What `cargo run` told xtask about itself is taken back: build scripts that look at it would run again.
    pub(crate) fn cargo(&self) -> Tool {
        let mut tool = Tool::new(cargo_program())
            .dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("INNKEEPER_SITE", self.site());
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(is_about_the_caller) {
                tool = tool.without_env(name);
            }
        }
        tool
    }
}

/// Cargo's own folder: registry sources and checkouts lie in it.
pub(crate) fn cargo_home() -> PathBuf {
    let home =
        || env::var_os("HOME").map_or_else(|| Path::new(".cargo").into(), |h| Path::new(&h).join(".cargo"));
    env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}

fn cargo_program() -> String {
    env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

fn is_about_the_caller(name: &str) -> bool {
    const EXACT: [&str; 5] =
        ["CARGO", "CARGO_CRATE_NAME", "CARGO_BIN_NAME", "CARGO_PRIMARY_PACKAGE", "OUT_DIR"];
    EXACT.contains(&name) || name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_says_of_xtask_is_not_passed_on_but_settings_are() {
        for name in ["CARGO", "CARGO_PKG_VERSION", "CARGO_MANIFEST_DIR", "OUT_DIR"] {
            assert!(is_about_the_caller(name), "{name}");
        }
        for name in
            ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_NET_OFFLINE", "CARGO_BUILD_JOBS", "CARGO_TERM_COLOR"]
        {
            assert!(!is_about_the_caller(name), "{name}");
        }
    }
}
