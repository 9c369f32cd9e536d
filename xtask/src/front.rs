//! The browser's half: WASM, its bindings, the style sheet and their compressed twins, in the site folder.
//!
//! The same as cargo-leptos does, in the same places, without it: the crate `frontend` for wasm32, wasm-bindgen as
//! a library, wasm-opt from npm. The server embeds the folder; it names the folder's hash itself.

use std::{ffi::OsString, fs, path::Path};

use anyhow::{Context, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

use crate::{
    places::{self, Places},
    squeeze,
    stamp::{self, Stamps},
    steps::{self, Steps},
    tool::{Tool, which},
};

/// The target of the browser's half.
pub(crate) const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// The style sheet's parts, in the order of their layers.
const STYLE: [&str; 10] = [
    "tokens.css",
    "base.css",
    "components.css",
    "memory.css",
    "overlays.css",
    "pages.css",
    "chat.css",
    "settings.css",
    "activity.css",
    "model.css",
];

/// wasm-opt comes with this version of npm's `binaryen`.
const BINARYEN: &str = "132.0.0";
/// How it makes the WASM smaller. What counts is what a browser fetches: `-Oz` leaves less before compression (852 kB
/// instead of 963), but what LLVM has written alike does not look alike any more, and brotli makes 251 kB of it
/// instead of 237.
const SMALLER: [&str; 2] = ["-O1", "--shrink-level=2"];

/// What a finished site weighs on the wire.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weight {
    /// The WASM, brotli.
    pub(crate) wasm_brotli_bytes: usize,
}

/// Builds the site.
pub(crate) fn build(places: &Places, steps: &mut Steps) -> Result<Weight> {
    steps.step("wasm target", "the standard library for the browser, about 5 s when missing", || {
        have_target(places, WASM_TARGET)
    })?;
    steps.step("front end", "cargo build for wasm32, about 70 s the first time", || compile(places))?;
    let stamps = Stamps::in_dir(places.stamps());
    steps.step("bindings", "wasm-bindgen, under 1 s", || bind(places, &stamps))?;
    steps.step("optimise", "wasm-opt, about 10 s when the WASM changed", || optimise(places, &stamps))?;
    steps.step("site", "style sheet and compressed twins, about 3 s when something changed", || {
        finish(places, &stamps)
    })
}

/// Sees to it that the standard library for a target is there.
pub(crate) fn have_target(places: &Places, target: &str) -> Result<()> {
    let sysroot = Tool::new("rustc").args(["--print", "sysroot"]).dir(&places.root).capture()?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(target).is_dir() {
        return Ok(());
    }
    Tool::new("rustup")
        .args(["target", "add", target])
        .dir(&places.root)
        .mend(format!("Install rustup, or your system's Rust standard library for {target}."))
        .run()
}

/// Flags that keep this machine's paths out of the WASM. The last that matches wins, so the narrow ones come last.
/// The checkout is not among them: cargo names its own files relative to it, and a flag that differs between two
/// clones would build every dependency again.
fn remap_flags() -> OsString {
    let home = places::cargo_home();
    // Each registry has a folder of its own, named after its host.
    let registries = fs::read_dir(home.join("registry/src")).into_iter().flatten().flatten();
    let mut registries: Vec<_> = registries.map(|entry| entry.path()).collect();
    registries.sort();
    let mut flags = OsString::from("--remap-path-prefix=");
    flags.push(&home);
    flags.push("=cargo");
    for registry in registries {
        flags.push("\x1f--remap-path-prefix=");
        flags.push(registry);
        flags.push("=dep");
    }
    flags
}

/// Cargo for the browser's half. The flags are in the encoded form (paths may have spaces) and only here: another
/// build must not be done again because of them.
pub(crate) fn cargo_for_wasm(places: &Places) -> Tool {
    places.cargo().env("CARGO_ENCODED_RUSTFLAGS", remap_flags())
}

fn compile(places: &Places) -> Result<()> {
    cargo_for_wasm(places)
        .args(["build", "--package", "frontend", "--target", WASM_TARGET, "--profile", "wasm-release"])
        .run()
}

fn bind(places: &Places, stamps: &Stamps) -> Result<()> {
    let wasm = places.target.join(WASM_TARGET).join("wasm-release/frontend.wasm");
    let content = fs::read(&wasm).with_context(|| format!("cannot read {}", wasm.display()))?;
    let out = places.front();
    let digest = stamp::digest([("wasm-bindgen 0.2.130", content.as_slice())]);
    let outputs = [out.join("innkeeper.js"), out.join("innkeeper_bg.wasm")];
    stamps.unless_fresh("bindings", &digest, &[&outputs[0], &outputs[1]], || {
        fs::create_dir_all(&out)?;
        Bindgen::new()
            .input_path(&wasm)
            .out_name("innkeeper")
            .web(true)?
            .typescript(false)
            .remove_name_section(true)
            .remove_producers_section(true)
            .generate(&out)?;
        // Snippets would be more files to embed, each with its own path: the house has none, and must notice.
        if out.join("snippets").exists() {
            bail!("a dependency brings JavaScript snippets of its own, which the server does not serve");
        }
        Ok(())
    })?;
    Ok(())
}

fn optimise(places: &Places, stamps: &Stamps) -> Result<()> {
    let (bound, small) = (places.front().join("innkeeper_bg.wasm"), places.front().join("optimised.wasm"));
    let content = fs::read(&bound)?;
    let Some(tool) = wasm_opt(places) else {
        steps::say("npm is not there, so wasm-opt is left out: the WASM stays a little larger");
        return stamp::write_if_changed(&small, &content);
    };
    let digest = stamp::digest([(BINARYEN, SMALLER.concat().as_bytes()), ("wasm", content.as_slice())]);
    stamps.unless_fresh("optimised", &digest, &[&small], || {
        install_wasm_opt(places, stamps)?;
        Tool::new("node").args([&tool]).args(SMALLER).args([&bound, Path::new("-o"), &small]).run()
    })?;
    Ok(())
}

fn wasm_opt(places: &Places) -> Option<std::path::PathBuf> {
    let there = which("npm").is_some() && which("node").is_some();
    there.then(|| places.tools().join("node_modules/binaryen/bin/wasm-opt"))
}

fn install_wasm_opt(places: &Places, stamps: &Stamps) -> Result<()> {
    let package = places.tools().join("node_modules/binaryen");
    let digest = stamp::digest([(BINARYEN, [].as_slice())]);
    stamps.unless_fresh("binaryen", &digest, &[&package], || {
        fs::create_dir_all(places.tools())?;
        Tool::new("npm")
            .args(["install", "--no-audit", "--no-fund", "--no-save", "--loglevel=error", "--prefix"])
            .args([places.tools()])
            .args([format!("binaryen@{BINARYEN}")])
            .mend("npm could not fetch `binaryen` (wasm-opt); look at its words above.")
            .run()
    })?;
    Ok(())
}

fn style_sheet(places: &Places) -> Result<Vec<u8>> {
    let mut sheet = Vec::new();
    for part in STYLE {
        let file = places.root.join("style").join(part);
        let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        sheet.extend_from_slice(&text);
        sheet.push(b'\n');
    }
    Ok(sheet)
}

fn finish(places: &Places, stamps: &Stamps) -> Result<Weight> {
    let files = [
        ("innkeeper.js", fs::read(places.front().join("innkeeper.js"))?),
        ("innkeeper_bg.wasm", fs::read(places.front().join("optimised.wasm"))?),
        ("innkeeper.css", style_sheet(places)?),
    ];
    let site = places.site();
    for (name, content) in &files {
        let file = site.join(name);
        let (br, gz) = (site.join(format!("{name}.br")), site.join(format!("{name}.gz")));
        let digest = stamp::digest([(*name, content.as_slice())]);
        stamps.unless_fresh(name, &digest, &[&file, &br, &gz], || {
            stamp::write_if_changed(&file, content)?;
            squeeze::twins(&file, content).map(drop)
        })?;
    }
    remove_strangers(&site, &files.each_ref().map(|(name, _)| *name))?;
    let wasm_brotli_bytes = fs::metadata(site.join("innkeeper_bg.wasm.br"))?.len().try_into()?;
    Ok(Weight { wasm_brotli_bytes })
}

/// Whatever else lies in the site folder would be embedded too.
fn remove_strangers(site: &Path, names: &[&str]) -> Result<()> {
    for entry in fs::read_dir(site)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let stem = name.strip_suffix(".br").or_else(|| name.strip_suffix(".gz")).unwrap_or(&name);
        if !names.contains(&stem) && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_folder_is_renamed_and_each_registry_in_it_after_it() {
        let flags = remap_flags().into_string().unwrap();
        let flags: Vec<&str> = flags.split('\x1f').collect();
        assert!(flags[0].ends_with("=cargo"), "{flags:?}");
        assert!(!flags[1..].is_empty(), "xtask itself was built from a registry");
        assert!(flags[1..].iter().all(|flag| flag.ends_with("=dep")), "{flags:?}");
    }

    #[test]
    fn strangers_leave_the_site_and_twins_stay() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.js", "a.js.br", "a.js.gz", "old.js", "old.js.br"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        remove_strangers(dir.path(), &["a.js"]).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["a.js", "a.js.br", "a.js.gz"]);
    }
}
