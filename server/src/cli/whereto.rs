//! Whether a verb that works with and without a server asks one or looks into the data folder itself.

use std::{
    fs::{File, TryLockError},
    io::Read,
    path::{Path, PathBuf},
};

use super::{Global, Remote, client::Client, trouble::Trouble};

/// Who does it.
pub(crate) enum WhereTo {
    /// A running server.
    Server(Client),
    /// This process, in this data folder.
    Folder(PathBuf),
}

/// A server that was named is asked; else a folder that was named is used; else the server of this machine, if it
/// answers; else the usual folder.
pub(crate) fn whereto(remote: &Remote, global: &Global) -> WhereTo {
    let folder = || crate::config::data_dir(global.data_dir.clone());
    if remote.server.is_some() {
        return WhereTo::Server(Client::new(remote));
    }
    let env_names_it = std::env::var_os("INNKEEPER_DATA_DIR").is_some_and(|value| !value.is_empty());
    if global.data_dir.is_some() || env_names_it {
        return WhereTo::Folder(folder());
    }
    let client = Client::new(remote);
    if client.is_there() { WhereTo::Server(client) } else { WhereTo::Folder(folder()) }
}

/// Refuses to take files away from under a server that runs on this folder.
pub(crate) fn nobody_serves(data_dir: &Path) -> Result<(), Trouble> {
    let Ok(mut lock) = File::open(data_dir.join("run/lock")) else { return Ok(()) };
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only to name it.
            let _ = lock.read_to_string(&mut holder);
            Err(Trouble::Failed(format!(
                "A server runs on {} (process {}): name it with --server, or stop it first.",
                data_dir.display(),
                holder.trim()
            )))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_named_is_used_and_a_server_that_is_named_comes_first() {
        let global = Global { data_dir: Some("/d".into()), json: false };
        let WhereTo::Folder(folder) = whereto(&Remote::default(), &global) else { panic!("asked a server") };
        assert_eq!(folder, Path::new("/d"));
        let remote = Remote { server: Some("127.0.0.1:1".to_owned()), token: None };
        assert!(matches!(whereto(&remote, &global), WhereTo::Server(_)));
    }

    #[test]
    fn a_served_folder_is_known_by_its_lock() {
        let root = tempfile::tempdir().unwrap();
        assert!(nobody_serves(root.path()).is_ok());
        std::fs::create_dir(root.path().join("run")).unwrap();
        let path = root.path().join("run/lock");
        std::fs::write(&path, "4121\n").unwrap();
        assert!(nobody_serves(root.path()).is_ok(), "a lock that nobody holds is a left-over");
        let lock = File::open(&path).unwrap();
        lock.try_lock().unwrap();
        let trouble = nobody_serves(root.path()).unwrap_err();
        assert!(trouble.to_string().contains("process 4121"), "{trouble}");
    }
}
