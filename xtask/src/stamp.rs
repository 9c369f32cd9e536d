//! What was made from what: a step whose inputs have the same content as last time is not done again.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// A digest of named contents: names and lengths are part of it, so that no two lists look alike.
pub(crate) fn digest<'a>(parts: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hash = Sha256::new();
    for (name, content) in parts {
        for field in [name.as_bytes(), content] {
            hash.update((field.len() as u64).to_le_bytes());
            hash.update(field);
        }
    }
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The record of what was made.
#[derive(Debug)]
pub(crate) struct Stamps(PathBuf);

impl Stamps {
    /// Kept in this folder.
    pub(crate) fn in_dir(dir: PathBuf) -> Self {
        Self(dir)
    }

    /// Does the work unless it was done with the same digest and all outputs still lie there. True if it was done.
    pub(crate) fn unless_fresh(
        &self,
        name: &str,
        digest: &str,
        outputs: &[&Path],
        work: impl FnOnce() -> Result<()>,
    ) -> Result<bool> {
        let file = self.0.join(name);
        let known = fs::read_to_string(&file).unwrap_or_default();
        if known == digest && outputs.iter().all(|output| output.exists()) {
            return Ok(false);
        }
        // Without its stamp, work that is cut short is begun anew.
        if file.exists() {
            fs::remove_file(&file)?;
        }
        work()?;
        fs::create_dir_all(&self.0)?;
        fs::write(&file, digest).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(true)
    }
}

/// Writes a file whole or not at all, and leaves it untouched when it already has this content: cargo and the
/// server's build script look at modification times.
pub(crate) fn write_if_changed(file: &Path, content: &[u8]) -> Result<()> {
    if fs::read(file).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let dir = file.parent().context("a file has a folder")?;
    fs::create_dir_all(dir)?;
    let mut name = file.file_name().context("a file has a name")?.to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = file.with_file_name(name);
    fs::write(&part, content).with_context(|| format!("cannot write {}", part.display()))?;
    fs::rename(&part, file).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_tells_apart_what_concatenation_would_not() {
        let one = digest([("a", b"bc".as_slice())]);
        let two = digest([("ab", b"c".as_slice())]);
        let three = digest([("a", b"b".as_slice()), ("", b"c".as_slice())]);
        assert!(one != two && one != three && two != three);
        assert_eq!(one, digest([("a", b"bc".as_slice())]));
        assert_eq!(one.len(), 64);
    }

    #[test]
    fn work_is_done_once_again_after_a_change_and_when_its_output_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let stamps = Stamps::in_dir(dir.path().join("stamps"));
        let output = dir.path().join("out");
        let make =
            |digest: &str| stamps.unless_fresh("x", digest, &[&output], || Ok(fs::write(&output, digest)?));
        assert!(make("1").unwrap());
        assert!(!make("1").unwrap());
        assert!(make("2").unwrap());
        fs::remove_file(&output).unwrap();
        assert!(make("2").unwrap());
    }

    #[test]
    fn failed_work_leaves_no_stamp() {
        let dir = tempfile::tempdir().unwrap();
        let stamps = Stamps::in_dir(dir.path().to_owned());
        assert!(stamps.unless_fresh("x", "1", &[], || Ok(())).unwrap());
        assert!(stamps.unless_fresh("x", "2", &[], || anyhow::bail!("no")).is_err());
        assert!(stamps.unless_fresh("x", "1", &[], || Ok(())).unwrap(), "the stamp of before is gone too");
    }

    #[test]
    fn an_unchanged_file_keeps_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("deep/file");
        write_if_changed(&file, b"one").unwrap();
        let inode = |file: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(file).unwrap());
        let first = inode(&file);
        write_if_changed(&file, b"one").unwrap();
        assert_eq!(first, inode(&file), "nothing was renamed into its place");
        write_if_changed(&file, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
    }
}
