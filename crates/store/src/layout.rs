//! The data folder: `models/`, `prepared/`, `run/`, and who made them.

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    StoreError,
    names::Names,
    pull::sweep,
    scan::{OnShelf, Places, Scan, Unread},
};

/// The models of one data folder. Several processes may have it open: the command line pulls while a server runs.
#[derive(Debug)]
pub struct Store {
    data_dir: PathBuf,
    models_dir: PathBuf,
    known: Mutex<Known>,
}

/// What the last look at the folder found.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) names: Names,
    pub(crate) models: Vec<OnShelf>,
    pub(crate) found: Places,
    pub(crate) unread: Unread,
}

impl Store {
    /// Opens a data folder; makes it and its sub-folders, for this user alone, where they are not there yet. Removes
    /// what pulls that died have left.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let models_dir = data_dir.join("models");
        for folder in [data_dir, &models_dir, &data_dir.join("prepared"), &data_dir.join("run")] {
            make_folder(folder)?;
        }
        writable(&models_dir)?;
        sweep(&models_dir);
        Ok(Self { data_dir: data_dir.to_owned(), models_dir, known: Mutex::default() })
    }

    /// The folder that was opened.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where model files stand, and where people put their own.
    pub fn models_dir(&self) -> &Path {
        &self.models_dir
    }

    /// What was computed from models and can be computed again.
    pub fn prepared_dir(&self) -> PathBuf {
        self.data_dir.join("prepared")
    }

    /// Looks at the folder anew.
    pub fn scan(&self) -> Result<Scan, StoreError> {
        crate::scan::scan(&self.models_dir, &mut self.known())
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        // What a panic interrupted is replaced by the next scan.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_folder(folder: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(StoreError::io("created", folder))
}

/// Root may do anything, and a read-only file system refuses even root: only trying tells.
fn writable(folder: &Path) -> Result<(), StoreError> {
    let probe = folder.join(format!(".writable-{}", std::process::id()));
    let tried: io::Result<()> = File::create(&probe).map(drop).and_then(|()| std::fs::remove_file(&probe));
    tried.map_err(StoreError::io("written", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opening_makes_the_folders_and_opening_again_keeps_them() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("a/b");
        Store::open(&data).unwrap();
        std::fs::write(data.join("models/x.txt"), "kept").unwrap();
        Store::open(&data).unwrap();
        for folder in ["models", "prepared", "run"] {
            assert!(data.join(folder).is_dir(), "{folder}");
        }
        assert!(data.join("models/x.txt").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named_in_the_error() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("file"), "").unwrap();
        let error = Store::open(&root.path().join("file/data")).unwrap_err();
        assert!(error.to_string().contains("file/data cannot be created"), "{error}");
        // Not even root writes into /proc.
        let error = Store::open(Path::new("/proc/innkeeper")).unwrap_err();
        assert!(error.to_string().contains("/proc/innkeeper"), "{error}");
    }
}
