//! What stands in the models folder: which files make a model, under which name, and what is wrong with it.
//!
//! What cannot be read at the moment (no descriptor is left, its disk is away) has not gone: what was known of it stays.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use manager::ports::ModelFileRole;
use protocol::{Code, ModelId, ModelKind, Problem};
use rustix::{
    io::Errno,
    time::{ClockId, clock_gettime},
};

use crate::{
    StoreError,
    layout::Known,
    names::{gguf_stem, part},
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

/// Which file it is, as the system knows it: another size or time means other contents. The time of the last change of
/// anything about it is left out: a link to the file from elsewhere or another mode changes that, and is no news.
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
#[derive(Clone, Debug)]
pub(crate) struct Found {
    stem: String,
    kind: ModelKind,
    pub(crate) files: Vec<ShelfFile>,
    trouble: Option<String>,
}

/// By its place.
pub(crate) type Places = BTreeMap<PathBuf, Found>;

/// Folders and files that could not be read, with the reason.
pub(crate) type Unread = BTreeMap<PathBuf, String>;

/// Looks at a folder and all below it. A link to a file is followed, wherever it leads: only somebody who may write to
/// this folder can have put it there, and it is how people share weights between programs. A link to a folder is not.
pub(crate) fn scan(models_dir: &Path, known: &mut Known) -> Result<Scan, StoreError> {
    let (mut found, mut unread) = (Places::new(), Unread::new());
    read(models_dir, DEPTH, &mut found, &mut unread).map_err(StoreError::io("read", models_dir))?;
    for (path, why) in &unread {
        if known.unread.get(path) != Some(why) {
            tracing::warn!("{} cannot be read ({why}); what was known of it stays", path.display());
        }
    }
    let hidden = |file: &ShelfFile| unread.keys().any(|path| file.path.starts_with(path));
    for (place, before) in &known.found {
        if before.files.iter().any(hidden) {
            found.insert(place.clone(), before.clone());
        }
    }
    let places = found.iter().map(|(place, found)| (place.clone(), found.stem.clone())).collect();
    let named = known.names.assign(places);
    let now = now_ns();
    let mut scan = Scan::default();
    for (place, found) in &found {
        let Some(id) = named.get(place).cloned() else { continue };
        match found.files.iter().filter_map(|file| young(&file.key, now)).max() {
            Some(whole_in) => scan.pending.push(Pending { id, whole_in }),
            None => scan.models.push(on_shelf(id, found.clone(), &known.models)),
        }
    }
    scan.models.sort_by(|a, b| a.id.cmp(&b.id));
    (known.found, known.unread) = (found, unread);
    known.models.clone_from(&scan.models);
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

fn on_shelf(id: ModelId, found: Found, before: &[OnShelf]) -> OnShelf {
    let key = ModelKey(found.files.iter().map(|file| file.key).collect());
    let trouble = match found.trouble.map_or_else(|| no_gguf(&found.files), |why| Ok(Some(why))) {
        Ok(why) => {
            why.map(|why| trouble(&id, Code::UnsupportedModel, &why, "Fetch or copy it again, or remove it."))
        }
        // The very same files could be read before, and what was seen then still holds.
        Err(why) => match before.iter().find(|before| before.key == key) {
            Some(before) => before.trouble.clone(),
            None => Some(
                trouble(&id, Code::LoadFailed, &why, "It is looked at again in a moment.").retry_after(2),
            ),
        },
    };
    OnShelf {
        id,
        kind: found.kind,
        size_bytes: found.files.iter().map(|file| file.key.size).sum(),
        key,
        files: found.files,
        trouble,
    }
}

fn trouble(id: &ModelId, code: Code, why: &str, hint: &str) -> Problem {
    Problem::new(code, format!("`{id}` cannot be loaded: {why}."), hint)
}

/// Why one of the files that call themselves GGUF is none: its first four bytes say so. Nothing further is read here. An
/// error: it cannot be read, so nobody knows.
fn no_gguf(files: &[ShelfFile]) -> Result<Option<String>, String> {
    for file in files.iter().filter(|file| matches!(file.role, ModelFileRole::Gguf(_))) {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        let mut magic = [0; 4];
        match File::open(&file.path).and_then(|mut open| open.read_exact(&mut magic)) {
            Ok(()) if magic == *b"GGUF" => {}
            Ok(()) => {
                return Ok(Some(format!("{name} is no GGUF file (it does not begin with the letters GGUF)")));
            }
            Err(_) if file.key.size < 4 => {
                return Ok(Some(format!("{name} is no GGUF file (it has {} bytes)", file.key.size)));
            }
            Err(error) => return Err(format!("{name} cannot be read: {error}")),
        }
    }
    Ok(None)
}

/// Reads a folder and all below it.
fn read(folder: &Path, depth: usize, found: &mut Places, unread: &mut Unread) -> io::Result<()> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') {
            continue;
        }
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => {
                if depth > 0
                    && let Err(error) = read(&path, depth - 1, found, unread)
                {
                    missed(path, &error, unread);
                }
            }
            // Follows a link; what is no file is nothing.
            Ok(kind) => match fs::metadata(&path) {
                Ok(meta) if meta.is_file() => {
                    files.insert(name, (path, FileKey::of(&meta), kind.is_symlink()));
                }
                Ok(_) => {}
                Err(error) => missed(path, &error, unread),
            },
            Err(error) => missed(path, &error, unread),
        }
    }
    embedding(folder, &files, found);
    gguf(folder, &files, found);
    Ok(())
}

/// Something could not be read. What has gone in this moment, and a link that leads nowhere, is nothing.
fn missed(path: PathBuf, error: &io::Error, unread: &mut Unread) {
    let nothing = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
    if !Errno::from_io_error(error).is_some_and(|error| nothing.contains(&error)) {
        unread.insert(path, error.to_string());
    }
}

type Files = BTreeMap<String, (PathBuf, FileKey, bool)>;

fn shelf_file(role: ModelFileRole, (path, key, is_link): &(PathBuf, FileKey, bool)) -> ShelfFile {
    ShelfFile { role, path: path.clone(), key: *key, is_link: *is_link }
}

/// A folder with `model.safetensors` is an embedding model, named after the folder.
fn embedding(folder: &Path, files: &Files, found: &mut Places) {
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
fn gguf(folder: &Path, files: &Files, found: &mut Places) {
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
