//! Opening and removing the files of a model.

use std::{fs, fs::File, io, path::Path};

use manager::ports::{ModelFile, Shelf};
use protocol::{Code, ModelId, Problem};
use rustix::fs::{Mode, OFlags};

use crate::{FileKey, OnShelf, ShelfFile, Store, StoreError};

impl Shelf for Store {
    fn open(&self, model: &ModelId) -> Result<Vec<ModelFile>, Problem> {
        // What the last look found may have been replaced since; the second look decides.
        let known = self.known().models.iter().find(|known| known.id == *model).cloned();
        if let Some(Ok(files)) = known.filter(|known| known.trouble.is_none()).map(|known| open_all(&known)) {
            return Ok(files);
        }
        let model = self.find(model).map_err(|error| error.problem())?;
        match &model.trouble {
            Some(trouble) => Err(trouble.clone()),
            None => open_all(&model).map_err(|cause| {
                Problem::new(
                    Code::Conflict,
                    format!("The files of `{}` cannot be opened: {cause}.", model.id),
                    "If they were just being replaced, try again.",
                )
            }),
        }
    }
}

impl Store {
    /// The model of this name, by a new look at the folder.
    pub fn find(&self, model: &ModelId) -> Result<OnShelf, StoreError> {
        let scan = self.scan()?;
        if scan.pending.iter().any(|pending| pending.id == *model) {
            return Err(StoreError::StillCopied(model.clone()));
        }
        let found = scan.models.into_iter().find(|found| found.id == *model);
        found.ok_or_else(|| StoreError::UnknownModel(model.clone()))
    }

    /// Removes a model's files and, where they leave it empty, their folder; returns the bytes that the disk gets
    /// back. Of a link only the link goes, and it gives nothing back. Somebody who has a file open keeps it until the
    /// end: unload the model first.
    pub fn remove(&self, model: &ModelId) -> Result<u64, StoreError> {
        let found = self.find(model)?;
        let mut removed_bytes = 0;
        for file in &found.files {
            fs::remove_file(&file.path).map_err(StoreError::io("removed", &file.path))?;
            removed_bytes += if file.is_link { 0 } else { file.key.size };
        }
        let mut folder = found.files.first().and_then(|file| file.path.parent());
        while let Some(empty) = folder.filter(|folder| *folder != self.models_dir()) {
            if fs::remove_dir(empty).is_err() {
                break;
            }
            folder = empty.parent();
        }
        let mut known = self.known();
        known.models.retain(|known| known.id != *model);
        known.found.retain(|_, known| known.files != found.files);
        drop(known);
        Ok(removed_bytes)
    }
}

fn open_all(model: &OnShelf) -> io::Result<Vec<ModelFile>> {
    model.files.iter().map(|file| Ok(ModelFile { role: file.role, file: open_one(file)? })).collect()
}

/// Opens the very file that was looked at, or fails. A link that came in its place is not followed, and what is no
/// file any more does not block.
pub(crate) fn open_one(file: &ShelfFile) -> io::Result<File> {
    let mut flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    flags.set(OFlags::NOFOLLOW, !file.is_link);
    let open = File::from(rustix::fs::open(Path::new(&file.path), flags, Mode::empty())?);
    let meta = open.metadata()?;
    if meta.is_file() && FileKey::of(&meta) == file.key {
        Ok(open)
    } else {
        Err(io::Error::other(format!("{} has changed", file.path.display())))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        os::{fd::AsRawFd, unix::fs::symlink},
        path::PathBuf,
        time::SystemTime,
    };

    use manager::ports::ModelFileRole;

    use super::*;

    fn store(files: &[(&str, &str)]) -> (tempfile::TempDir, Store) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        for (name, text) in files {
            put(&store, name, text);
        }
        (root, store)
    }

    fn put(store: &Store, name: &str, text: &str) -> PathBuf {
        let path = store.models_dir().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let open = File::options().write(true).open(&path).unwrap();
        open.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        path
    }

    fn id(text: &str) -> ModelId {
        text.parse().unwrap()
    }

    #[test]
    fn files_are_opened_with_their_roles_and_closed_on_exec() {
        let (_root, store) = store(&[("m-00001-of-00002.gguf", "GGUFa"), ("m-00002-of-00002.gguf", "GGUFb")]);
        let mut files = Shelf::open(&store, &id("m")).unwrap();
        let roles: Vec<_> = files.iter().map(|file| file.role).collect();
        assert_eq!(roles, [ModelFileRole::Gguf(0), ModelFileRole::Gguf(1)]);
        let mut text = String::new();
        files[1].file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "GGUFb");
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", files[0].file.as_raw_fd())).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        assert_ne!(u32::from_str_radix(flags, 8).unwrap() & OFlags::CLOEXEC.bits(), 0, "{info}");
    }

    #[test]
    fn a_file_that_was_added_or_replaced_since_the_last_look_is_found() {
        let (_root, store) = store(&[("a.gguf", "GGUF1")]);
        store.scan().unwrap();
        put(&store, "b.gguf", "GGUF2");
        put(&store, "a.gguf", "GGUF33");
        for (name, size) in [("a", 6), ("b", 5)] {
            let files = Shelf::open(&store, &id(name)).unwrap();
            assert_eq!(files[0].file.metadata().unwrap().len(), size);
        }
    }

    #[test]
    fn unknown_and_broken_models_are_refused_with_their_reasons() {
        let (_root, store) = store(&[("bad.gguf", "nope")]);
        assert_eq!(Shelf::open(&store, &id("x")).unwrap_err().code, Code::UnknownModel);
        assert_eq!(Shelf::open(&store, &id("bad")).unwrap_err().code, Code::UnsupportedModel);
    }

    #[test]
    fn a_link_that_takes_a_files_place_is_not_followed_behind_our_back() {
        let (root, store) = store(&[("a.gguf", "GGUF1")]);
        let model = store.find(&id("a")).unwrap();
        let secret = root.path().join("secret");
        fs::rename(&model.files[0].path, &secret).unwrap();
        symlink(&secret, &model.files[0].path).unwrap();
        assert!(open_all(&model).is_err());
    }

    #[test]
    fn removing_tells_the_bytes_and_leaves_what_is_not_the_models() {
        let (root, store) = store(&[
            ("e/model.safetensors", "12345678"),
            ("e/config.json", "{}"),
            ("e/tokenizer.json", "{}"),
            ("keep/model.safetensors", "1"),
            ("keep/config.json", "{}"),
            ("keep/tokenizer.json", "{}"),
            ("keep/mine.txt", "mine"),
        ]);
        assert_eq!(store.remove(&id("e")).unwrap(), 12);
        assert!(!store.models_dir().join("e").exists());
        store.remove(&id("keep")).unwrap();
        assert_eq!(fs::read_to_string(store.models_dir().join("keep/mine.txt")).unwrap(), "mine");
        assert!(matches!(store.remove(&id("e")), Err(StoreError::UnknownModel(_))));

        let outside = root.path().join("w.gguf");
        fs::write(&outside, "GGUF").unwrap();
        File::options().write(true).open(&outside).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        symlink(&outside, store.models_dir().join("l.gguf")).unwrap();
        assert_eq!(store.remove(&id("l")).unwrap(), 0);
        assert!(outside.exists(), "what a link leads to is not ours to remove");
    }
}
