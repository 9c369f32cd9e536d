//! What stands in the models folder: which files make a model, under which name, and what is wrong with it.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use manager::ports::ModelFileRole;
use protocol::{Code, ModelId, ModelKind, Problem};
use rustix::time::{ClockId, clock_gettime};

use crate::{
    StoreError,
    names::{Names, gguf_stem, part},
};

/// A file that was written to within this time may still be growing.
pub(crate) const QUIET: Duration = Duration::from_secs(2);
/// Folders below the models folder are looked into so deep.
const DEPTH: usize = 8;
/// What makes a folder an embedding model, in the order in which the worker gets them.
pub(crate) const EMBEDDING: [(&str, ModelFileRole); 3] = [
    ("model.safetensors", ModelFileRole::Safetensors),
    ("config.json", ModelFileRole::Config),
    ("tokenizer.json", ModelFileRole::Tokenizer),
];

/// Which file it is, as the system knows it: another size or time means other contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    /// The file system.
    pub device: u64,
    /// The file in it.
    pub inode: u64,
    /// In bytes.
    pub size: u64,
    /// Last write, in nanoseconds since 1970.
    pub mtime_ns: i128,
}

/// Which files a model is made of, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelKey(pub Vec<FileKey>);

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShelfFile {
    /// What it is.
    pub role: ModelFileRole,
    /// Where it is.
    pub path: PathBuf,
    /// Which it is.
    pub key: FileKey,
    /// Whether the path is a link that somebody put there. Pulls make none.
    pub is_link: bool,
}

/// A model on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct OnShelf {
    /// Its name.
    pub id: ModelId,
    /// What its form says that it can do; a worker that inspects it knows better.
    pub kind: ModelKind,
    /// Its files.
    pub files: Vec<ShelfFile>,
    /// All of them together.
    pub size_bytes: u64,
    /// Which they are.
    pub key: ModelKey,
    /// Why it cannot be loaded.
    pub trouble: Option<Problem>,
}

/// A model that is still being copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// What it will be called.
    pub id: ModelId,
    /// When it counts as whole, if nobody writes to it until then.
    pub whole_in: Duration,
}

/// One look at the folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scan {
    /// By name.
    pub models: Vec<OnShelf>,
    /// Those to wait for.
    pub pending: Vec<Pending>,
}

impl FileKey {
    pub(crate) fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            mtime_ns: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
        }
    }
}

impl ModelKey {
    /// The key as text, for files.
    pub fn text(&self) -> String {
        let one = |key: &FileKey| format!("{:x}-{:x}-{}-{}", key.device, key.inode, key.size, key.mtime_ns);
        self.0.iter().map(one).collect::<Vec<_>>().join("+")
    }
}

/// What was found at one place, before it has a name.
struct Found {
    stem: String,
    kind: ModelKind,
    files: Vec<ShelfFile>,
    trouble: Option<String>,
}

/// Looks at a folder and all below it. A link to a file is followed, wherever it leads: only somebody who may write to
/// this folder can have put it there, and it is how people share weights between programs. A link to a folder is not.
pub(crate) fn scan(models_dir: &Path, names: &mut Names) -> Result<Scan, StoreError> {
    let mut found = BTreeMap::new();
    walk(models_dir, DEPTH, &mut found)?;
    let places = found.iter().map(|(place, found)| (place.clone(), found.stem.clone())).collect();
    let named = names.assign(places);
    let now = now_ns();
    let mut scan = Scan::default();
    for (place, found) in found {
        let Some(id) = named.get(&place).cloned() else { continue };
        match found.files.iter().filter_map(|file| young(&file.key, now)).max() {
            Some(whole_in) => scan.pending.push(Pending { id, whole_in }),
            None => scan.models.push(on_shelf(id, found)),
        }
    }
    scan.models.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(scan)
}

/// How long until a file counts as whole; `None`: it does. A time in the future is some other clock's and says nothing.
fn young(key: &FileKey, now_ns: i128) -> Option<Duration> {
    let age = u64::try_from(now_ns.checked_sub(key.mtime_ns)?).ok()?;
    QUIET.checked_sub(Duration::from_nanos(age)).filter(|left| !left.is_zero())
}

pub(crate) fn now_ns() -> i128 {
    let now = clock_gettime(ClockId::Realtime);
    i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec)
}

fn on_shelf(id: ModelId, found: Found) -> OnShelf {
    let trouble = found.trouble.or_else(|| found.files.iter().find_map(no_gguf)).map(|why| {
        Problem::new(
            Code::UnsupportedModel,
            format!("`{id}` cannot be loaded: {why}."),
            "Fetch or copy it again, or remove it.",
        )
    });
    OnShelf {
        id,
        kind: found.kind,
        size_bytes: found.files.iter().map(|file| file.key.size).sum(),
        key: ModelKey(found.files.iter().map(|file| file.key).collect()),
        files: found.files,
        trouble,
    }
}

/// Why a file that calls itself GGUF is none: its first four bytes say so. Nothing further is read here.
fn no_gguf(file: &ShelfFile) -> Option<String> {
    if !matches!(file.role, ModelFileRole::Gguf(_)) {
        return None;
    }
    let name = file.path.file_name().unwrap_or_default().to_string_lossy();
    let mut magic = [0; 4];
    match File::open(&file.path).and_then(|mut open| open.read_exact(&mut magic)) {
        Ok(()) if magic == *b"GGUF" => None,
        Ok(()) => Some(format!("{name} is no GGUF file (it does not begin with the letters GGUF)")),
        Err(_) if file.key.size < 4 => {
            Some(format!("{name} is no GGUF file (it has {} bytes)", file.key.size))
        }
        Err(error) => Some(format!("{name} cannot be read: {error}")),
    }
}

fn walk(folder: &Path, depth: usize, found: &mut BTreeMap<PathBuf, Found>) -> Result<(), StoreError> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(StoreError::io("read", folder))? {
        let Ok(entry) = entry else { continue };
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(kind) = entry.file_type() else { continue };
        if name.starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            if depth > 0 {
                // A folder that vanishes or is closed to us hides its models, not everybody's.
                let _ = walk(&entry.path(), depth - 1, found);
            }
            continue;
        }
        // Follows a link; what leads nowhere, and what is no file, is nothing.
        let Ok(meta) = fs::metadata(entry.path()) else { continue };
        if meta.is_file() {
            files.insert(name, (entry.path(), FileKey::of(&meta), kind.is_symlink()));
        }
    }
    embedding(folder, &files, found);
    gguf(folder, &files, found);
    Ok(())
}

type Files = BTreeMap<String, (PathBuf, FileKey, bool)>;

fn shelf_file(role: ModelFileRole, (path, key, is_link): &(PathBuf, FileKey, bool)) -> ShelfFile {
    ShelfFile { role, path: path.clone(), key: *key, is_link: *is_link }
}

/// A folder with `model.safetensors` is an embedding model, named after the folder.
fn embedding(folder: &Path, files: &Files, found: &mut BTreeMap<PathBuf, Found>) {
    if !files.contains_key(EMBEDDING[0].0) {
        return;
    }
    let missing: Vec<&str> =
        EMBEDDING.iter().map(|(name, _)| *name).filter(|name| !files.contains_key(*name)).collect();
    let stem = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    found.insert(
        folder.to_owned(),
        Found {
            stem,
            kind: ModelKind::Embedding,
            files: EMBEDDING
                .iter()
                .filter_map(|(name, role)| Some(shelf_file(*role, files.get(*name)?)))
                .collect(),
            trouble: (!missing.is_empty())
                .then(|| format!("{} is missing in its folder", missing.join(" and "))),
        },
    );
}

/// Each `.gguf` file is a model, and so is each set of parts; a set stands under the name of its first part.
fn gguf(folder: &Path, files: &Files, found: &mut BTreeMap<PathBuf, Found>) {
    let mut sets: BTreeMap<(String, u16), Vec<ShelfFile>> = BTreeMap::new();
    for (name, file) in files {
        let Some(stem) = gguf_stem(name) else { continue };
        match part(stem) {
            Some(part) => {
                let set = sets.entry((part.stem, part.of)).or_default();
                set.push(shelf_file(ModelFileRole::Gguf(part.number - 1), file));
            }
            None => {
                let whole = Found {
                    stem: stem.to_owned(),
                    kind: ModelKind::Chat,
                    files: vec![shelf_file(ModelFileRole::Gguf(0), file)],
                    trouble: None,
                };
                found.insert(file.0.clone(), whole);
            }
        }
    }
    for ((stem, of), files) in sets {
        let there: Vec<ModelFileRole> = files.iter().map(|file| file.role).collect();
        let missing = (0..of).find(|index| !there.contains(&ModelFileRole::Gguf(*index)));
        let trouble = missing.map(|index| format!("part {} of {of} is missing", index + 1));
        let place = folder.join(format!("{stem}-00001-of-{of:05}.gguf"));
        found.insert(place, Found { stem, kind: ModelKind::Chat, files, trouble });
    }
}

#[cfg(test)]
mod tests;
