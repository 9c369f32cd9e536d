use std::{
    os::unix::fs::symlink,
    time::{Duration, SystemTime},
};

use super::*;
use crate::Store;

/// A store with files that were written long ago.
pub(crate) struct Shelf {
    root: tempfile::TempDir,
    store: Store,
}

impl Shelf {
    fn with(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let shelf = Self { store: Store::open(root.path()).unwrap(), root };
        for (name, text) in files {
            shelf.put(name, text, SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        }
        shelf
    }

    fn put(&self, name: &str, text: &str, at: SystemTime) -> PathBuf {
        let path = self.store.models_dir().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        path
    }

    /// (name, trouble) of each model.
    fn seen(&self) -> Vec<(String, Option<String>)> {
        let scan = self.store.scan().unwrap();
        scan.models
            .iter()
            .map(|m| (m.id.to_string(), m.trouble.as_ref().map(|p| p.message.clone())))
            .collect()
    }

    fn names(&self) -> Vec<String> {
        self.seen().into_iter().map(|(name, _)| name).collect()
    }
}

#[test]
fn every_gguf_in_every_folder_is_a_model_named_after_its_stem() {
    let shelf = Shelf::with(&[("a.gguf", "GGUF1"), ("deep/er/b b.GGUF", "GGUF22"), ("notes.txt", "x")]);
    let scan = shelf.store.scan().unwrap();
    let seen: Vec<_> = scan.models.iter().map(|m| (m.id.as_str(), m.kind, m.size_bytes)).collect();
    assert_eq!(seen, [("a", ModelKind::Chat, 5), ("b-b", ModelKind::Chat, 6)]);
    assert!(scan.models.iter().all(|m| m.trouble.is_none()) && scan.pending.is_empty());
    assert_ne!(scan.models[0].key, scan.models[1].key);
}

#[test]
fn what_is_hidden_or_unfinished_by_name_is_not_seen() {
    let shelf = Shelf::with(&[
        (".incoming/x/model.gguf", "GGUF"),
        (".x.gguf.Ab3", "GGUF"),
        ("x.gguf.part", "GGUF"),
        (".hidden.gguf", "GGUF"),
    ]);
    assert_eq!(shelf.names(), [""; 0]);
}

#[test]
fn a_file_that_is_being_written_is_left_alone_until_it_is_quiet() {
    let shelf = Shelf::with(&[]);
    #[expect(clippy::disallowed_methods, reason = "a file's age is measured against the wall clock")]
    let now = SystemTime::now();
    let path = shelf.put("new.gguf", "GGUF", now);
    let scan = shelf.store.scan().unwrap();
    assert!(scan.models.is_empty());
    assert_eq!(scan.pending[0].id.as_str(), "new");
    assert!(scan.pending[0].whole_in > Duration::ZERO && scan.pending[0].whole_in <= QUIET);
    File::options().write(true).open(&path).unwrap().set_modified(now - QUIET).unwrap();
    assert_eq!(shelf.names(), ["new"]);
}

#[test]
fn a_file_from_the_future_is_whole() {
    let shelf = Shelf::with(&[]);
    #[expect(clippy::disallowed_methods, reason = "a file's age is measured against the wall clock")]
    let now = SystemTime::now();
    shelf.put("later.gguf", "GGUF", now + Duration::from_secs(3600));
    assert_eq!(shelf.names(), ["later"]);
}

#[test]
fn a_file_without_the_magic_bytes_is_shown_with_the_reason() {
    let shelf = Shelf::with(&[("bad.gguf", "PK\x03\x04..."), ("empty.gguf", ""), ("good.gguf", "GGUF")]);
    let seen = shelf.seen();
    assert!(seen[0].1.as_ref().unwrap().contains("does not begin with the letters GGUF"), "{seen:?}");
    assert!(seen[1].1.as_ref().unwrap().contains("it has 0 bytes"), "{seen:?}");
    assert_eq!(seen[2], ("good".to_owned(), None));
    let scan = shelf.store.scan().unwrap();
    assert_eq!(scan.models[0].trouble.as_ref().unwrap().code, Code::UnsupportedModel);
}

#[test]
fn a_split_model_is_one_and_an_incomplete_one_says_which_part_is_missing() {
    let shelf = Shelf::with(&[
        ("m-00002-of-00002.gguf", "GGUF22"),
        ("m-00001-of-00002.gguf", "GGUF"),
        ("n-00003-of-00003.gguf", "GGUF"),
        ("n-00001-of-00003.gguf", "GGUF"),
    ]);
    let scan = shelf.store.scan().unwrap();
    assert_eq!(shelf.seen()[0], ("m".to_owned(), None));
    let roles: Vec<_> = scan.models[0].files.iter().map(|file| file.role).collect();
    assert_eq!(roles, [ModelFileRole::Gguf(0), ModelFileRole::Gguf(1)]);
    assert_eq!(scan.models[0].size_bytes, 10);
    assert_eq!(shelf.seen()[1].1.as_deref(), Some("`n` cannot be loaded: part 2 of 3 is missing."));
}

#[test]
fn a_folder_with_the_three_files_is_an_embedding_model() {
    let shelf = Shelf::with(&[
        ("e/model.safetensors", "12345678"),
        ("e/config.json", "{}"),
        ("e/tokenizer.json", "{}"),
        ("e/README.md", "x"),
        ("half/model.safetensors", "12345678"),
        ("half/config.json", "{}"),
        ("other/config.json", "{}"),
    ]);
    let scan = shelf.store.scan().unwrap();
    assert_eq!((scan.models[0].id.as_str(), scan.models[0].kind), ("e", ModelKind::Embedding));
    let roles: Vec<_> = scan.models[0].files.iter().map(|file| file.role).collect();
    assert_eq!(roles, [ModelFileRole::Safetensors, ModelFileRole::Config, ModelFileRole::Tokenizer]);
    let trouble = "`half` cannot be loaded: tokenizer.json is missing in its folder.";
    assert_eq!(shelf.seen()[1..], [("half".to_owned(), Some(trouble.to_owned()))]);
}

#[test]
fn a_link_to_a_file_is_followed_and_a_link_to_a_folder_is_not() {
    let shelf = Shelf::with(&[("real.gguf", "GGUF")]);
    let outside = shelf.root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("w.gguf"), "GGUF3").unwrap();
    File::options()
        .write(true)
        .open(outside.join("w.gguf"))
        .unwrap()
        .set_modified(SystemTime::UNIX_EPOCH)
        .unwrap();
    symlink(outside.join("w.gguf"), shelf.store.models_dir().join("linked.gguf")).unwrap();
    symlink(&outside, shelf.store.models_dir().join("folder")).unwrap();
    symlink("nowhere", shelf.store.models_dir().join("dead.gguf")).unwrap();
    symlink("/dev/zero", shelf.store.models_dir().join("device.gguf")).unwrap();
    assert_eq!(shelf.names(), ["linked", "real"]);
    assert!(shelf.store.scan().unwrap().models[0].files[0].is_link);
}

#[test]
fn a_file_that_changed_has_another_key() {
    let shelf = Shelf::with(&[("a.gguf", "GGUF")]);
    let before = shelf.store.scan().unwrap().models[0].key.clone();
    shelf.put("a.gguf", "GGUF2", SystemTime::UNIX_EPOCH + Duration::from_secs(9));
    assert_ne!(shelf.store.scan().unwrap().models[0].key, before);
    assert_ne!(shelf.store.scan().unwrap().models[0].key.text(), before.text());
}

#[test]
fn a_folder_that_vanished_is_an_error_with_its_name() {
    let shelf = Shelf::with(&[]);
    fs::remove_dir_all(shelf.store.models_dir()).unwrap();
    assert!(shelf.store.scan().unwrap_err().to_string().contains("models cannot be read"));
}

/// Does it as one to whom the system does not open everything, as it does to root: in a thread without that privilege.
fn without_privileges<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let dropped = move || {
        let mut own = capabilities(None).unwrap();
        own.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        set_capabilities(None, own).unwrap();
        work()
    };
    std::thread::scope(|scope| scope.spawn(dropped).join().unwrap())
}

fn allow(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_is_known_of_a_folder_stays_while_it_cannot_be_read() {
    let shelf = Shelf::with(&[
        ("a.gguf", "GGUF"),
        ("deep/b.gguf", "GGUF"),
        ("deep/e/model.safetensors", "12345678"),
        ("deep/e/config.json", "{}"),
        ("deep/e/tokenizer.json", "{}"),
    ]);
    let deep = shelf.store.models_dir().join("deep");
    let before = shelf.store.scan().unwrap();
    assert_eq!(before.models.len(), 3);
    for folder in [deep.join("e"), deep.clone()] {
        allow(&folder, 0);
        assert!(without_privileges(|| fs::read_dir(&folder).is_err()));
        assert_eq!(without_privileges(|| shelf.store.scan().unwrap()), before, "{}", folder.display());
        assert_eq!(without_privileges(|| shelf.store.scan().unwrap()), before, "and the next time");
        allow(&folder, 0o700);
    }
    fs::remove_dir_all(deep.join("e")).unwrap();
    assert_eq!(shelf.names(), ["a", "b"], "what has gone is not kept");
    fs::remove_dir_all(&deep).unwrap();
    assert_eq!(shelf.names(), ["a"]);
}

#[test]
fn a_file_that_cannot_be_read_is_no_verdict_about_it() {
    let shelf = Shelf::with(&[("a.gguf", "GGUF"), ("m-00001-of-00001.gguf", "GGUF"), ("bad.gguf", "PK..")]);
    let before = shelf.store.scan().unwrap();
    let new = shelf.put("new.gguf", "GGUF", SystemTime::UNIX_EPOCH);
    let known = before.models.iter().flat_map(|model| model.files.iter().map(|file| file.path.clone()));
    known.chain([new]).for_each(|path| allow(&path, 0));
    let mut now = without_privileges(|| shelf.store.scan().unwrap()).models;
    let new = now.pop().unwrap();
    assert_eq!(now, before.models, "they are what they were");
    let trouble = new.trouble.unwrap();
    assert_eq!((trouble.code, trouble.retry_after_seconds), (Code::LoadFailed, Some(2)), "{trouble}");
    allow(&shelf.store.models_dir().join("new.gguf"), 0o600);
    assert_eq!(shelf.seen().last().unwrap(), &("new".to_owned(), None));
}
