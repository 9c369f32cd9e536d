//! What a model's files hold, in one name: the same wherever they stand, whatever they are called and whenever they were
//! touched.

use sha2::{Digest, Sha256};

use crate::{
    FileKey, OnShelf,
    pull::{hex, take_in},
    shelf::open_one,
};

/// Reads all files of a model. `go_on` is asked again and again, and may let the reading wait or end it. `None`: it was
/// ended, they cannot be read, or they changed meanwhile.
pub fn digest(model: &OnShelf, go_on: &mut dyn FnMut() -> bool) -> Option<String> {
    let mut hash = Sha256::new();
    for file in &model.files {
        let mut open = open_one(file).ok()?;
        take_in(&mut open, &mut hash, go_on)?;
        if FileKey::of(&open.metadata().ok()?) != file.key {
            return None;
        }
    }
    Some(hex(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, time::SystemTime};

    use super::*;
    use crate::Store;

    /// A file that was written long ago, so that it counts as whole.
    fn put(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::File::open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }

    fn found(store: &Store, name: &str) -> OnShelf {
        store.scan().unwrap().models.into_iter().find(|found| found.id.as_str() == name).unwrap()
    }

    #[test]
    fn the_same_contents_have_the_same_digest_wherever_they_stand_and_whenever_they_were_touched() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let models = store.models_dir().to_owned();
        put(&models.join("a.gguf"), "GGUF one");
        let first = digest(&found(&store, "a"), &mut || true).unwrap();
        fs::copy(models.join("a.gguf"), models.join("b.gguf")).unwrap();
        put(&models.join("b.gguf"), "GGUF one");
        put(&models.join("c.gguf"), "GGUF two");
        assert_eq!(digest(&found(&store, "b"), &mut || true), Some(first.clone()));
        assert_ne!(digest(&found(&store, "c"), &mut || true), Some(first));
    }

    #[test]
    fn a_file_that_is_another_one_by_now_has_no_digest() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let path = store.models_dir().join("a.gguf");
        put(&path, "GGUF one");
        let before = found(&store, "a");
        put(&path, "GGUF three");
        assert_eq!(digest(&before, &mut || true), None);
        assert!(digest(&found(&store, "a"), &mut || true).is_some());
    }

    #[test]
    fn reading_ends_when_it_is_told_to() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        put(&store.models_dir().join("a.gguf"), "GGUF one");
        let mut asked = 0;
        let mut once = || {
            asked += 1;
            asked == 1
        };
        assert_eq!(digest(&found(&store, "a"), &mut once), None);
        assert_eq!(asked, 2);
    }
}
