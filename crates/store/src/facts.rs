//! What workers have found out about files, kept by what the file is, so that an unloaded model has a plan.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{ModelKey, Store, StoreError};

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
struct Read<T> {
    build: String,
    facts: BTreeMap<String, T>,
}

impl<T: Clone + Serialize + DeserializeOwned> FactsCache<T> {
    /// The cache of this name in a store. A file that is broken, or of another build, counts as empty.
    pub fn open(store: &Store, name: &str, build: &str) -> Self {
        let path = store.prepared_dir().join(name).with_extension("json");
        let read = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Read<T>>(&bytes).ok());
        let facts = read.filter(|read| read.build == build).map(|read| read.facts).unwrap_or_default();
        Self { path, build: build.to_owned(), facts: Mutex::new(facts) }
    }

    /// What is known about these files.
    pub fn get(&self, key: &ModelKey) -> Option<T> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner).get(&key.text()).cloned()
    }

    /// Keeps what was found out, and forgets all files but those of `there` and this one.
    pub fn put(&self, key: &ModelKey, facts: T, there: &[ModelKey]) -> Result<(), StoreError> {
        let mut all = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let there: Vec<String> = there.iter().map(ModelKey::text).collect();
        all.retain(|known, _| there.contains(known));
        all.insert(key.text(), facts);
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
    use crate::FileKey;

    fn key(inode: u64) -> ModelKey {
        ModelKey(vec![FileKey { device: 1, inode, size: 3, mtime_ns: 4 }])
    }

    #[test]
    fn facts_outlive_the_process_but_not_the_build_or_the_file() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let cache = FactsCache::<u32>::open(&store, "facts", "one");
        cache.put(&key(1), 11, &[]).unwrap();
        cache.put(&key(2), 22, &[key(1)]).unwrap();
        let again = FactsCache::<u32>::open(&store, "facts", "one");
        assert_eq!((again.get(&key(1)), again.get(&key(2)), again.get(&key(3))), (Some(11), Some(22), None));
        again.put(&key(3), 33, &[key(2)]).unwrap();
        assert_eq!(FactsCache::<u32>::open(&store, "facts", "one").get(&key(1)), None, "its file has gone");
        assert_eq!(
            FactsCache::<u32>::open(&store, "facts", "two").get(&key(2)),
            None,
            "it is of another build"
        );
    }

    #[test]
    fn a_broken_file_counts_as_empty_and_is_mended_by_the_next_fact() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        fs::write(store.prepared_dir().join("facts.json"), "{ not json").unwrap();
        let cache = FactsCache::<u32>::open(&store, "facts", "one");
        assert_eq!(cache.get(&key(1)), None);
        cache.put(&key(1), 5, &[]).unwrap();
        assert_eq!(FactsCache::<u32>::open(&store, "facts", "one").get(&key(1)), Some(5));
    }
}
