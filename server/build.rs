//! Embeds the built site: walks the folder named by `INNKEEPER_SITE`, pairs each file with its precompressed twins
//! (`.br`, `.gz`) and writes a table of `include_bytes!` with the hash of everything. Without the variable the
//! table is empty, so that tests and checks need no front end.

use std::{
    collections::BTreeSet,
    env,
    error::Error,
    fmt::Write as _,
    fs,
    hash::{DefaultHasher, Hasher},
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-env-changed=INNKEEPER_SITE");
    println!("cargo:rerun-if-changed=build.rs");
    // The product is one file that people copy: line tables of every dependency would make it ten times as large.
    println!("cargo:rustc-link-arg-bins=-Wl,--strip-debug");
    let mut table = String::from("pub(crate) static ASSETS: &[Asset] = &[\n");
    let mut hasher = DefaultHasher::new();
    if let Some(site) = env::var_os("INNKEEPER_SITE").map(PathBuf::from) {
        println!("cargo:rerun-if-changed={}", site.display());
        let names: BTreeSet<String> = fs::read_dir(&site)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.'))
            .collect();
        for name in names.iter().filter(|name| !name.ends_with(".br") && !name.ends_with(".gz")) {
            let raw = site.join(name);
            println!("cargo:rerun-if-changed={}", raw.display());
            hasher.write(name.as_bytes());
            hasher.write(&fs::read(&raw)?);
            writeln!(
                table,
                "    Asset {{ name: {name:?}, raw: include_bytes!({:?}), br: {}, gz: {} }},",
                raw,
                twin(&names, &site, name, "br"),
                twin(&names, &site, name, "gz"),
            )?;
        }
    }
    write!(
        table,
        "];\n\n/// Changes with every byte of the site; stands in the paths of its files.\npub(crate) const SITE_HASH: &str = \"{:016x}\";\n",
        hasher.finish()
    )?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("site.rs"), table)?;
    Ok(())
}

fn twin(names: &BTreeSet<String>, site: &Path, name: &str, ending: &str) -> String {
    let twin = format!("{name}.{ending}");
    if names.contains(&twin) {
        format!("Some(include_bytes!({:?}))", site.join(twin))
    } else {
        "None".to_owned()
    }
}
