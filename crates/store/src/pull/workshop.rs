//! The hidden folder in which a model is put together, under a lock, and the one rename that makes it visible.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use protocol::ModelId;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::StoreError;

/// Inside the models folder, so that a rename never crosses file systems; hidden, so that no scan looks into it.
const INCOMING: &str = ".incoming";
/// Left free on the disk by a pull: a full disk harms more than a model that did not come.
const MARGIN_BYTES: u64 = 16 << 20;

/// A pull's own folder. It goes with the value; a process that is killed leaves it to the next [`sweep`].
#[derive(Debug)]
pub(crate) struct Workshop {
    folder: PathBuf,
    /// Held until the end; the system lets go of it when the process dies.
    _lock: File,
}

impl Workshop {
    pub(crate) fn begin(models_dir: &Path, id: &ModelId) -> Result<Self, StoreError> {
        let incoming = models_dir.join(INCOMING);
        fs::create_dir_all(&incoming).map_err(StoreError::io("created", &incoming))?;
        let path = incoming.join(format!("{id}.lock"));
        let lock = File::create(&path).map_err(StoreError::io("created", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Busy(id.clone())),
            Err(TryLockError::Error(cause)) => return Err(StoreError::io("locked", &path)(cause)),
        }
        let workshop = Self { folder: incoming.join(format!("{id}.new")), _lock: lock };
        workshop.clear()?;
        Ok(workshop)
    }

    /// Empties it.
    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        match fs::remove_dir_all(&self.folder) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("removed", &self.folder)(cause));
            }
            _ => {}
        }
        let out = self.out();
        fs::create_dir_all(&out).map_err(StoreError::io("created", out))
    }

    /// For finished files.
    pub(crate) fn out(&self) -> PathBuf {
        self.folder.join("out")
    }

    /// For what is fetched on the way.
    pub(crate) fn scratch(&self) -> Result<PathBuf, StoreError> {
        let scratch = self.folder.join("scratch");
        fs::create_dir_all(&scratch).map_err(StoreError::io("created", &scratch))?;
        Ok(scratch)
    }

    /// Refuses when the disk has no room for so many bytes more.
    pub(crate) fn need(&self, bytes: u64) -> Result<(), StoreError> {
        let disk = rustix::fs::statvfs(&self.folder)
            .map_err(|errno| StoreError::io("measured", &self.folder)(errno.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        match bytes.saturating_add(MARGIN_BYTES).checked_sub(free) {
            Some(short_bytes) if short_bytes > 0 => {
                Err(StoreError::DiskFull { path: self.folder.clone(), short_bytes })
            }
            _ => Ok(()),
        }
    }

    /// Makes the finished files visible at `target`, all at once: the folder, or the one file in it. What is there
    /// already is never overwritten.
    pub(crate) fn publish(&self, in_folder: bool, target: &Path) -> Result<(), StoreError> {
        let out = self.out();
        sync(&out)?;
        let from = if in_folder {
            out
        } else {
            let mut entries = fs::read_dir(&out).map_err(StoreError::io("read", &out))?;
            let first = entries.next().ok_or_else(|| io::ErrorKind::NotFound.into());
            first.flatten().map_err(StoreError::io("read", &out))?.path()
        };
        let moved = match renameat_with(CWD, &from, CWD, target, RenameFlags::NOREPLACE) {
            // Some file systems do not know the flag. The pull's lock keeps other pulls away, a look keeps people's files.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS)
                if target.symlink_metadata().is_err() =>
            {
                fs::rename(&from, target)
            }
            other => other.map_err(io::Error::from),
        };
        moved.map_err(StoreError::io("created", target))?;
        target.parent().map_or(Ok(()), sync)
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "left behind until the next start");
        }
    }
}

/// Makes what a folder lists survive a power cut.
fn sync(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|open| open.sync_all()).map_err(StoreError::io("synced", folder))
}

/// Removes what pulls left that died with their process: those whose lock nobody holds.
pub(crate) fn sweep(models_dir: &Path) {
    let incoming = models_dir.join(INCOMING);
    for entry in fs::read_dir(&incoming).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "new") {
            continue;
        }
        let free = File::create(path.with_extension("lock")).is_ok_and(|lock| {
            // Removed under the lock, or a pull that begins now would lose its folder.
            lock.try_lock().is_ok() && fs::remove_dir_all(&path).is_ok()
        });
        tracing::debug!(path = %path.display(), free, "swept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ModelId {
        "m.1".parse().unwrap()
    }

    #[test]
    fn one_model_is_fetched_once_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let first = Workshop::begin(root.path(), &id()).unwrap();
        assert!(matches!(Workshop::begin(root.path(), &id()), Err(StoreError::Busy(_))));
        Workshop::begin(root.path(), &"other".parse().unwrap()).unwrap();
        drop(first);
        Workshop::begin(root.path(), &id()).unwrap();
    }

    #[test]
    fn what_a_dead_pull_left_is_swept_and_a_living_ones_folder_is_not() {
        let root = tempfile::tempdir().unwrap();
        let dead = root.path().join(".incoming/dead.new/out");
        fs::create_dir_all(&dead).unwrap();
        fs::write(dead.join("half.gguf"), "GG").unwrap();
        let living = Workshop::begin(root.path(), &id()).unwrap();
        sweep(root.path());
        assert!(!dead.exists());
        assert!(living.out().exists());
    }

    #[test]
    fn what_is_there_is_never_overwritten() {
        let root = tempfile::tempdir().unwrap();
        let workshop = Workshop::begin(root.path(), &id()).unwrap();
        fs::write(workshop.out().join("m.gguf"), "new").unwrap();
        let target = root.path().join("m.gguf");
        fs::write(&target, "old").unwrap();
        assert!(workshop.publish(false, &target).is_err());
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        fs::remove_file(&target).unwrap();
        workshop.publish(false, &target).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
    }

    #[test]
    fn a_disk_without_room_is_refused_before_anything_is_fetched() {
        let root = tempfile::tempdir().unwrap();
        let workshop = Workshop::begin(root.path(), &id()).unwrap();
        workshop.need(1).unwrap();
        let error = workshop.need(u64::MAX / 2).unwrap_err();
        assert!(
            matches!(error, StoreError::DiskFull { short_bytes, .. } if short_bytes > 1 << 40),
            "{error}"
        );
    }
}
