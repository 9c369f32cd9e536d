//! What must hold before any test runs: format, lints, docs, what the browser's half may contain, sizes, paths.

use std::{fs, path::Path};

use anyhow::{Result, bail};

use crate::{
    budget, front,
    front::WASM_TARGET,
    places::Places,
    scan,
    steps::{self, Steps},
    tool::{Tool, which},
};

/// Crates that must not be reachable from the browser's half: they are the server's, and too large.
const SERVER_ONLY: [&str; 16] = [
    "axum",
    "candle-core",
    "candle-nn",
    "candle-transformers",
    "engine",
    "history",
    "hyper",
    "libsqlite3-sys",
    "manager",
    "mio",
    "prometheus-client",
    "rusqlite",
    "rustix",
    "tokenizers",
    "tokio",
    "ureq",
];

/// Its vectors have code of their own in the kernels, which this machine compiles and cannot run.
pub(crate) const ARM_TARGET: &str = "aarch64-unknown-linux-gnu";

/// All checks; each failure is told, and the rest goes on.
pub(crate) fn all(places: &Places, steps: &mut Steps) {
    steps.attempt("format", "cargo fmt --check, 1 s", || {
        places.cargo().args(["fmt", "--all", "--check"]).mend("Run `cargo fmt --all`.").run()
    });
    steps.attempt("paths in files", "no path of a machine in tracked files, 1 s", || tracked_files(places));
    match which("systemd-analyze") {
        Some(_) => drop(steps.attempt("systemd unit", "systemd-analyze verify, 1 s", || unit(places))),
        None => steps::say("systemd unit: not looked at, since there is no systemd-analyze here"),
    }
    steps.attempt("wasm graph", "the server's crates stay out of the browser, 1 s", || wasm_graph(places));
    let built = front::build(places, steps);
    match built {
        Ok(weight) => {
            steps.attempt("wasm size", "the budget, at once", || {
                budget::wasm(weight.wasm_brotli_bytes).map(|words| steps::say(&words))
            });
            steps.attempt("paths in the site", "no path of a machine in what browsers get, 1 s", || {
                site_paths(places)
            });
        }
        Err(error) => {
            steps::say(&format!("front end FAILED: {error:#}"));
            steps.not_run("wasm size", "needs the front end");
            steps.not_run("paths in the site", "needs the front end");
        }
    }
    steps.attempt("clippy", "for this machine, about 4 minutes the first time", || {
        places
            .cargo()
            .args(["clippy", "--release", "--workspace", "--exclude", "frontend", "--all-targets"])
            .args(["--", "-D", "warnings"])
            .run()
    });
    steps.attempt("clippy for wasm", "for the browser, about 40 s the first time", || {
        front::cargo_for_wasm(places)
            .args(["clippy", "--package", "frontend", "--package", "app", "--target", WASM_TARGET])
            .args(["--features", "app/hydrate", "--profile", "wasm-release", "--", "-D", "warnings"])
            .run()
    });
    steps.attempt("clippy for AArch64", "the kernels' other half, 3 s", || {
        front::have_target(places, ARM_TARGET)?;
        places
            .cargo()
            .args(["clippy", "--release", "--package", "kernels", "--target", ARM_TARGET])
            .args(["--", "-D", "warnings"])
            .run()
    });
    steps.attempt("docs", "rustdoc without warnings, about 30 s", || {
        places
            .cargo()
            .env("RUSTDOCFLAGS", "-D warnings")
            .args(["doc", "--release", "--workspace", "--exclude", "frontend", "--no-deps", "--quiet"])
            .args(["--document-private-items"])
            .run()
    });
}

/// What the unit starts need not be installed here; every other word of it is looked at.
fn unit(places: &Places) -> Result<()> {
    let unit = fs::read_to_string(places.root.join("packaging/innkeeper.service"))?;
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join("innkeeper.service");
    fs::write(&copy, unit.replace("/usr/local/bin/innkeeper", "/bin/true"))?;
    // An unknown key is a complaint, and no failure.
    let said = Tool::new("sh")
        .args(["-c", "exec systemd-analyze verify --man=no \"$0\" 2>&1"])
        .args([&copy])
        .capture()?;
    if said.trim().is_empty() { Ok(()) } else { bail!("systemd complains: {}", said.trim()) }
}

fn wasm_graph(places: &Places) -> Result<()> {
    let tree = places
        .cargo()
        .args(["tree", "--package", "frontend", "--target", WASM_TARGET])
        .args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"])
        .capture()?;
    let found = server_only_in(&tree);
    if let Some(first) = found.first() {
        bail!(
            "reachable from the browser's half: {}. To see why: cargo tree -p frontend --target {WASM_TARGET} -e normal -i {first}",
            found.join(", ")
        );
    }
    Ok(())
}

fn server_only_in(tree: &str) -> Vec<&str> {
    let mut found: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| SERVER_ONLY.contains(name))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn tracked_files(places: &Places) -> Result<()> {
    let list = Tool::new("git").args(["ls-files", "-z"]).dir(&places.root).capture();
    let Ok(list) = list else {
        steps::say("this is no git checkout, so there are no tracked files to look at");
        return Ok(());
    };
    let files = list.split('\0').filter(|name| !name.is_empty());
    complain(files.map(|name| (name.to_owned(), places.root.join(name))))
}

fn site_paths(places: &Places) -> Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(places.site())? {
        let entry = entry?;
        files.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    complain(files.into_iter())
}

fn complain(files: impl Iterator<Item = (String, impl AsRef<Path>)>) -> Result<()> {
    let needles = scan::needles();
    let mut complaints = Vec::new();
    for (name, file) in files {
        // A file may be tracked and deleted at the moment; a link or a folder has no content of its own.
        let Ok(content) = fs::read(file) else { continue };
        complaints
            .extend(scan::find(&content, &needles, 3).into_iter().map(|hit| format!("  {name}: {hit}")));
    }
    if complaints.is_empty() { Ok(()) } else { bail!("paths of a machine:\n{}", complaints.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_crate_in_the_browsers_graph_is_named_once() {
        let tree = "frontend v0.1.0\nleptos v0.8.23\ntokio v1.54.1\ntokio v1.54.1 (*)\nmanager v0.1.0 (crates/manager)\n";
        assert_eq!(server_only_in(tree), ["manager", "tokio"]);
        assert!(server_only_in("tokio-util-like v1\nleptos v0.8.23\n").is_empty());
    }

    #[test]
    fn a_file_with_a_machine_path_is_complained_about_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let (good, bad) = (dir.path().join("good"), dir.path().join("bad"));
        fs::write(&good, "nothing").unwrap();
        fs::write(&bad, ["see /ho", "me/someone/notes"].concat()).unwrap();
        let files = vec![("good".to_owned(), good), ("bad".to_owned(), bad)];
        let words = complain(files.into_iter()).unwrap_err().to_string();
        assert!(words.contains("bad: see") && !words.contains("good"), "{words}");
    }
}
