//! What was found out about files, kept by a name for what they are, so that an unloaded model has a plan.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Store, StoreError};

/// So many are kept of files that are not there: one that is copied, moved or touched is another for a while.
const SPARE: usize = 64;

/// A small JSON file in `prepared/`. The facts of another build are forgotten: it may predict otherwise.
#[derive(Debug)]
pub struct FactsCache<T> {
    path: PathBuf,
    build: String,
    facts: Mutex<BTreeMap<String, T>>,
}

#[derive(Serialize)]
struct Written<'a, T> {
    build: &'a str,
    facts: &'a BTreeMap<String, T>,
}

#[derive(Deserialize)]
struct Of {
    build: String,
}

#[derive(Deserialize)]
struct Read<T> {
    facts: BTreeMap<String, T>,
}

/// What stands in a file; nothing in one of another build, which may have had other words for it.
fn read<T: DeserializeOwned>(bytes: &[u8], build: &str) -> serde_json::Result<BTreeMap<String, T>> {
    if serde_json::from_slice::<Of>(bytes)?.build != build {
        return Ok(BTreeMap::new());
    }
    serde_json::from_slice::<Read<T>>(bytes).map(|read| read.facts)
}

/// The next one that is written must not take the place of what somebody may want to look at.
fn set_aside(path: &Path, why: &str) {
    let aside = path.with_extension("json.unusable");
    match fs::rename(path, &aside) {
        Ok(()) => tracing::warn!(
            "{} cannot be used ({why}); it was set aside as {}, and what it said is learned anew",
            path.display(),
            aside.display()
        ),
        Err(error) => tracing::warn!("{} cannot be used ({why}), nor set aside: {error}", path.display()),
    }
}

impl<T: Clone + Serialize + DeserializeOwned> FactsCache<T> {
    /// The cache of this name in a store. A file of another build counts as empty. So does one that is broken, which is set
    /// aside under another name first, and told.
    pub fn open(store: &Store, name: &str, build: &str) -> Self {
        let path = store.prepared_dir().join(name).with_extension("json");
        let facts = match fs::read(&path) {
            Ok(bytes) => read(&bytes, build).unwrap_or_else(|error| {
                set_aside(&path, &error.to_string());
                BTreeMap::new()
            }),
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    tracing::warn!("{} cannot be read and counts as empty: {error}", path.display());
                }
                BTreeMap::new()
            }
        };
        Self { path, build: build.to_owned(), facts: Mutex::new(facts) }
    }

    /// What is known about files of this name.
    pub fn get(&self, name: &str) -> Option<T> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Whether anything is known about files whose name begins like this.
    pub fn knows(&self, beginning: &str) -> bool {
        let all = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        all.keys().any(|name| name.starts_with(beginning))
    }

    /// Keeps what was found out. Where too much is known that is about none of `there`, all of that is forgotten.
    pub fn put(&self, name: &str, facts: T, there: &[String]) -> Result<(), StoreError> {
        let mut all = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if all.keys().filter(|known| !there.contains(known)).count() > SPARE {
            all.retain(|known, _| there.contains(known));
        }
        all.insert(name.to_owned(), facts);
        // To a name of its own and then renamed, so that a crash leaves the old file or the new one.
        let fresh = self.path.with_extension(format!("{}.tmp", std::process::id()));
        let written = serde_json::to_vec_pretty(&Written { build: &self.build, facts: &*all })
            .map_err(std::io::Error::from)
            .and_then(|bytes| File::create(&fresh)?.write_all(&bytes))
            .and_then(|()| fs::rename(&fresh, &self.path));
        written.map_err(StoreError::io("written", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_outlive_the_process_but_not_the_build() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let cache = FactsCache::<u32>::open(&store, "facts", "one");
        cache.put("a", 11, &[]).unwrap();
        cache.put("b", 22, &[]).unwrap();
        let again = FactsCache::<u32>::open(&store, "facts", "one");
        assert_eq!((again.get("a"), again.get("b"), again.get("c")), (Some(11), Some(22), None));
        assert!(again.knows("") && again.knows("a") && !again.knows("ab"));
        assert_eq!(FactsCache::<u32>::open(&store, "facts", "two").get("b"), None, "it is of another build");
    }

    #[test]
    fn of_files_that_have_gone_so_much_is_kept_and_of_those_that_are_there_everything() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let cache = FactsCache::<usize>::open(&store, "facts", "one");
        let there: Vec<String> = (0..100).map(|number| format!("there {number}")).collect();
        for name in &there {
            cache.put(name, 1, &there).unwrap();
        }
        for number in 0..=SPARE {
            cache.put(&format!("gone {number}"), 2, &there).unwrap();
        }
        assert_eq!(cache.get("gone 0"), Some(2));
        cache.put("new", 3, &there).unwrap();
        assert_eq!((cache.get("gone 0"), cache.get("new")), (None, Some(3)));
        assert!(there.iter().all(|name| cache.get(name) == Some(1)));
    }

    #[test]
    fn a_broken_file_is_set_aside_and_a_new_one_begun() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let path = store.prepared_dir().join("facts.json");
        for broken in ["{ not json", "", r#"{"build":"one","facts":{"x":"no number"}}"#] {
            fs::write(&path, broken).unwrap();
            let cache = FactsCache::<u32>::open(&store, "facts", "one");
            assert_eq!(cache.get("x"), None);
            let aside = store.prepared_dir().join("facts.json.unusable");
            assert_eq!(fs::read_to_string(aside).unwrap(), broken);
            cache.put("x", 5, &[]).unwrap();
            assert_eq!(FactsCache::<u32>::open(&store, "facts", "one").get("x"), Some(5));
        }
        let of_another = r#"{"build":"two","facts":{"x":"another format"}}"#;
        fs::write(&path, of_another).unwrap();
        assert_eq!(FactsCache::<u32>::open(&store, "facts", "one").get("x"), None);
        assert_eq!(fs::read_to_string(&path).unwrap(), of_another, "another build's is no damage");
    }
}
