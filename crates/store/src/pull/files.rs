//! Bringing files into the workshop, byte by byte and checked, and knowing those that are there already.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};
use zip::{ZipArchive, result::ZipError};

use super::{Cancel, Job, PullProgress, PullStage, Source, workshop::Workshop};
use crate::{
    StoreError,
    scan::{QUIET, now_ns},
};

/// Read at a time; cancelling takes effect between two of these.
const CHUNK: usize = 256 << 10;
/// Written at a time, from multiples of itself on: what comes in pieces of a large page is kept in large pages, and a model
/// that is mapped from them is read a tenth faster (docs/performance.md).
const LARGE_PAGE: usize = 2 << 20;

/// A file of a model on its way.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) from: From,
    /// What it will be called.
    pub(super) name: String,
    /// What it must be.
    pub(super) pin: Option<Pin>,
}

/// Where a file comes from.
#[derive(Clone, Debug)]
pub(super) enum From {
    /// A path in the package.
    Member(String),
    /// A path on this machine.
    File(PathBuf),
    /// A file on the hub.
    #[cfg(feature = "hub")]
    Hub(super::hub::Place),
}

/// Exactly which bytes a file must have.
#[derive(Clone, Debug)]
pub(super) struct Pin {
    pub(super) size_bytes: u64,
    /// In hexadecimal digits.
    pub(super) sha256: String,
}

/// Copies this machine's files.
pub(super) fn copy(parts: &[Part], workshop: &Workshop, job: &mut Job<'_>) -> Result<(), StoreError> {
    let mut opened = Vec::new();
    let mut total = 0_u64;
    for part in parts {
        let From::File(path) = &part.from else { continue };
        let open = File::open(path).map_err(StoreError::io("read", path))?;
        let meta = open.metadata().map_err(StoreError::io("read", path))?;
        if !meta.is_file() {
            return Err(StoreError::BadArchive {
                what: path.display().to_string(),
                why: "it is no file".to_owned(),
            });
        }
        total = total.saturating_add(meta.len());
        opened.push((part, open, path.display().to_string()));
    }
    workshop.need(total)?;
    let mut done = 0;
    for (part, mut open, path) in opened {
        done += bring(&mut open, &path, part, workshop, job, (PullStage::Copying, done, total))?;
    }
    Ok(())
}

/// Takes the parts out of a package.
pub(super) fn unpack(
    archive: &Path,
    parts: &[Part],
    workshop: &Workshop,
    job: &mut Job<'_>,
) -> Result<(), StoreError> {
    let what = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let broken =
        |error: &dyn std::fmt::Display| StoreError::BadArchive { what: what.clone(), why: error.to_string() };
    let open = File::open(archive).map_err(StoreError::io("read", archive))?;
    let mut zip = ZipArchive::new(open).map_err(|error| broken(&error))?;
    let mut sizes = Vec::new();
    for part in parts {
        let From::Member(member) = &part.from else { continue };
        let size = match zip.by_name(member) {
            Ok(member) => member.size(),
            Err(ZipError::FileNotFound) => {
                return Err(broken(&format_args!("there is no file {member} in it")));
            }
            Err(error) => return Err(broken(&error)),
        };
        sizes.push((part, member, size));
    }
    let total = sizes.iter().map(|(_, _, size)| *size).fold(0, u64::saturating_add);
    workshop.need(total)?;
    let mut done = 0;
    for (part, member, _) in sizes {
        let mut from = zip.by_name(member).map_err(|error| broken(&error))?;
        done += bring(&mut from, &what, part, workshop, job, (PullStage::Unpacking, done, total))?;
    }
    Ok(())
}

/// Copies one part into the workshop, checks it, and makes it survive a power cut; returns its size.
pub(super) fn bring(
    from: &mut dyn Read,
    source: &str,
    part: &Part,
    workshop: &Workshop,
    job: &mut Job<'_>,
    (stage, done_before, total): (PullStage, u64, u64),
) -> Result<u64, StoreError> {
    let path = workshop.out().join(&part.name);
    let mut to = (job.create)(&path).map_err(StoreError::io("created", &path))?;
    let mut hash = part.pin.as_ref().map(|_| Sha256::new());
    let mut buffer = vec![0; LARGE_PAGE];
    let (mut filled, mut size) = (0, 0_u64);
    loop {
        job.cancel.check()?;
        let end = (filled + CHUNK).min(LARGE_PAGE);
        let read = match from.read(&mut buffer[filled..end]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(StoreError::BadArchive { what: source.to_owned(), why: error.to_string() });
            }
        };
        let piece = &buffer[filled..filled + read];
        if size == 0 {
            begins_like_a_model(part, piece, source)?;
        }
        if let Some(hash) = &mut hash {
            hash.update(piece);
        }
        filled += read;
        if filled == LARGE_PAGE {
            to.write_all(&buffer).map_err(StoreError::io("written", &path))?;
            filled = 0;
        }
        size += read as u64;
        let done_bytes = done_before + size;
        (job.progress)(PullProgress { stage, done_bytes, total_bytes: Some(total.max(done_bytes)) });
    }
    to.write_all(&buffer[..filled]).map_err(StoreError::io("written", &path))?;
    if let Some((pin, hash)) = part.pin.as_ref().zip(hash) {
        check(&part.name, pin, size, &hex(&hash.finalize()))?;
    } else if size == 0 {
        return Err(StoreError::BadArchive {
            what: source.to_owned(),
            why: format!("{} is empty", part.name),
        });
    }
    // It is whole, and a scan takes it for whole at once when it was not written to just now.
    to.set_modified(a_while_ago()).and_then(|()| to.sync_all()).map_err(StoreError::io("written", &path))?;
    Ok(size)
}

/// A file that is to be a GGUF and is none is refused before gigabytes of it are copied.
fn begins_like_a_model(part: &Part, start: &[u8], source: &str) -> Result<(), StoreError> {
    if part.name.ends_with(".gguf") && !start.starts_with(b"GGUF") {
        let why = "it is no GGUF file (it does not begin with the letters GGUF)".to_owned();
        return Err(StoreError::BadArchive { what: source.to_owned(), why });
    }
    Ok(())
}

fn a_while_ago() -> SystemTime {
    let now = u64::try_from(now_ns()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_nanos(now).saturating_sub(QUIET + Duration::from_secs(1))
}

fn check(name: &str, pin: &Pin, size: u64, digest: &str) -> Result<(), StoreError> {
    let wrong = |why: String| Err(StoreError::WrongFile { name: name.to_owned(), why });
    if size != pin.size_bytes {
        return wrong(format!("it has {size} bytes instead of {}", pin.size_bytes));
    }
    if digest != pin.sha256 {
        return wrong(format!("its SHA-256 is {digest} instead of {}", pin.sha256));
    }
    Ok(())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether what stands at `target` is what this source would bring: by digest where it is pinned, byte by byte
/// where it is on this machine. What can only be known by fetching it counts as different.
pub(super) fn same_files(target: &Path, in_folder: bool, source: &Source, cancel: &Cancel) -> bool {
    source.parts.iter().all(|part| {
        let there = if in_folder { target.join(&part.name) } else { target.to_owned() };
        match (&part.pin, &part.from) {
            (Some(pin), _) => {
                size_of(&there) == Some(pin.size_bytes)
                    && digest(&there, cancel).is_some_and(|digest| digest == pin.sha256)
            }
            (None, From::File(from)) => {
                size_of(&there).is_some_and(|size| size_of(from) == Some(size))
                    && digest(&there, cancel).is_some_and(|there| digest(from, cancel) == Some(there))
            }
            (None, From::Member(_)) => false,
            #[cfg(feature = "hub")]
            (None, From::Hub(_)) => false,
        }
    })
}

fn size_of(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|meta| meta.len())
}

/// `None`: it cannot be read, or the pull was cancelled.
fn digest(path: &Path, cancel: &Cancel) -> Option<String> {
    let mut hash = Sha256::new();
    take_in(&mut File::open(path).ok()?, &mut hash, &mut || cancel.check().is_ok())?;
    Some(hex(&hash.finalize()))
}

/// Takes a whole file into a digest. `None`: it cannot be read, or it was not to go on.
pub(crate) fn take_in(file: &mut File, hash: &mut Sha256, go_on: &mut dyn FnMut() -> bool) -> Option<()> {
    let mut buffer = vec![0; CHUNK];
    while go_on() {
        match file.read(&mut buffer).ok()? {
            0 => return Some(()),
            read => hash.update(&buffer[..read]),
        }
    }
    None
}
