//! From file names to model names: pure.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use protocol::ModelId;

/// Which place has which name. A place keeps its name while it is there, so that a file that is added later never
/// takes the name of a model that somebody uses.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<PathBuf, ModelId>);

impl Names {
    /// Names for the places that are there now: (place, the stem that it would like to be called after).
    ///
    /// The second of one name gets `-2`, and so on; of those that are new together, the least deep comes first.
    pub(crate) fn assign(&mut self, mut places: Vec<(PathBuf, String)>) -> &BTreeMap<PathBuf, ModelId> {
        let there: HashSet<&Path> = places.iter().map(|(place, _)| place.as_path()).collect();
        self.0.retain(|place, _| there.contains(place.as_path()));
        let mut taken: HashSet<ModelId> = self.0.values().cloned().collect();
        places.sort_by_cached_key(|(place, _)| (place.components().count(), place.clone()));
        for (place, stem) in places {
            if self.0.contains_key(&place) {
                continue;
            }
            let free = (1..=u16::MAX).filter_map(|n| name(&stem, n)).find(|id| !taken.contains(id));
            if let Some(id) = free {
                taken.insert(id.clone());
                self.0.insert(place, id);
            }
        }
        &self.0
    }
}

/// A stem as a model name: what a name cannot have becomes a dash; `n` above 1 is appended.
pub(crate) fn name(stem: &str, n: u16) -> Option<ModelId> {
    let tail = if n > 1 { format!("-{n}") } else { String::new() };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let mut text: String = stem.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    text.truncate(128 - tail.len());
    if text.is_empty() || text.chars().all(|c| c == '.') {
        text = "model".to_owned();
    }
    text.push_str(&tail);
    text.parse().ok()
}

/// A part of a split GGUF file: `name-00002-of-00005.gguf` is part 2 of 5 of `name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) stem: String,
    /// From 1.
    pub(crate) number: u16,
    pub(crate) of: u16,
}

/// `None`: a whole file. Takes the stem of a file name, without `.gguf`.
pub(crate) fn part(stem: &str) -> Option<Part> {
    let (rest, of) = stem.rsplit_once("-of-")?;
    let (name, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(of) || !digits(number) || name.is_empty() {
        return None;
    }
    let (number, of) = (number.parse().ok()?, of.parse().ok()?);
    (1..=of).contains(&number).then(|| Part { stem: name.to_owned(), number, of })
}

/// The stem of a file that calls itself GGUF. `None`: another file, or one that is hidden.
pub(crate) fn gguf_stem(file_name: &str) -> Option<&str> {
    let dot = file_name.len().checked_sub(5)?;
    let (stem, extension) = (file_name.get(..dot)?, file_name.get(dot..)?);
    (extension.eq_ignore_ascii_case(".gguf") && !stem.is_empty() && !stem.starts_with('.')).then_some(stem)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assigned(names: &mut Names, places: &[(&str, &str)]) -> Vec<(String, String)> {
        let places = places.iter().map(|(p, s)| (PathBuf::from(p), (*s).to_owned())).collect();
        names.assign(places).iter().map(|(p, id)| (p.display().to_string(), id.to_string())).collect()
    }

    #[test]
    fn a_second_file_of_one_name_gets_a_number_and_the_least_deep_comes_first() {
        let named = assigned(&mut Names::default(), &[("a/x.gguf", "x"), ("x.gguf", "x"), ("b/x.gguf", "x")]);
        let expected = [("a/x.gguf", "x-2"), ("b/x.gguf", "x-3"), ("x.gguf", "x")];
        assert_eq!(named, expected.map(|(p, id)| (p.to_owned(), id.to_owned())));
    }

    #[test]
    fn a_file_that_is_added_later_takes_nobodys_name() {
        let mut names = Names::default();
        assigned(&mut names, &[("a/x.gguf", "x")]);
        let named = assigned(&mut names, &[("x.gguf", "x"), ("a/x.gguf", "x")]);
        assert_eq!(named[0], ("a/x.gguf".to_owned(), "x".to_owned()));
        assert_eq!(named[1], ("x.gguf".to_owned(), "x-2".to_owned()));
        // When the first has gone, its name is free again, but nobody is renamed.
        assert_eq!(assigned(&mut names, &[("x.gguf", "x")])[0].1, "x-2");
    }

    #[test]
    fn a_file_already_called_minus_two_keeps_out_of_the_way() {
        let named =
            assigned(&mut Names::default(), &[("x-2.gguf", "x-2"), ("x.gguf", "x"), ("z/x.gguf", "x")]);
        assert_eq!(named[2], ("z/x.gguf".to_owned(), "x-3".to_owned()));
    }

    #[test]
    fn parts_are_known_by_their_numbers() {
        assert_eq!(part("m-00002-of-00005"), Some(Part { stem: "m".to_owned(), number: 2, of: 5 }));
        for whole in
            ["m", "m-2-of-5", "m-00006-of-00005", "m-00000-of-00005", "-00001-of-00002", "m-00001-of-99999"]
        {
            assert_eq!(part(whole), None, "{whole}");
        }
    }

    #[test]
    fn hidden_and_foreign_files_have_no_stem() {
        assert_eq!(gguf_stem("a.b.GGUF"), Some("a.b"));
        for other in [".x.gguf", ".gguf", "x.gguf.part", "x.bin", "", "gguf"] {
            assert_eq!(gguf_stem(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn every_stem_becomes_a_name(stem in "\\PC{0,200}", n in 1..=u16::MAX) {
            let id = name(&stem, n).expect("a name");
            prop_assert!(id.as_str().parse::<ModelId>().is_ok());
            let tail = format!("-{n}");
            prop_assert!(n == 1 || id.as_str().ends_with(&tail));
        }

        #[test]
        fn names_are_unique(stems in proptest::collection::vec("[ab ./]{1,3}", 0..12)) {
            let places: Vec<_> = stems.iter().enumerate().map(|(i, s)| (PathBuf::from(i.to_string()), s.clone())).collect();
            let mut names = Names::default();
            let count = places.len();
            let distinct: HashSet<_> = names.assign(places).values().cloned().collect();
            prop_assert_eq!(distinct.len(), count);
        }

        #[test]
        fn no_name_makes_the_readers_panic(text in "\\PC{0,40}") {
            let _ = part(&text);
            let _ = gguf_stem(&text);
        }
    }
}
