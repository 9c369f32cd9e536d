//! Looks for paths of the machine that built it: they say who built it where, and make builds differ.

/// The beginnings that betray a machine. Put together here, so that this file is not found by its own search.
pub(crate) fn needles() -> Vec<String> {
    let absolute = |name: &str| format!("/{name}/");
    vec![
        absolute("root"),
        absolute("home"),
        absolute("Users"),
        [".cargo", "registry"].join("/"),
        ["index.crates", "io-"].join("."),
    ]
}

/// Each place where a needle occurs, with a little of what stands around it; at most `limit`.
pub(crate) fn find(content: &[u8], needles: &[String], limit: usize) -> Vec<String> {
    let mut hits = Vec::new();
    for needle in needles {
        let needle = needle.as_bytes();
        for (at, _) in content.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle) {
            if hits.len() == limit {
                return hits;
            }
            let around = &content[at.saturating_sub(16)..content.len().min(at + needle.len() + 48)];
            let shown = String::from_utf8_lossy(around);
            hits.push(shown.chars().map(|c| if c.is_control() { ' ' } else { c }).collect());
        }
    }
    hits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_inside_binary_content_is_found() {
        let path = ["\0\0panicked at /ro", "ot/.cargo/", "lib.rs\0"].concat();
        let hits = find(path.as_bytes(), &needles(), 9);
        assert_eq!(hits.len(), 1, "{hits:?}");
        assert!(hits[0].contains("lib.rs"));
    }

    #[test]
    fn harmless_words_are_not_found_and_the_limit_holds() {
        assert!(find(b"/roots/ /homes/ registry+ root home", &needles(), 9).is_empty());
        let many = ["/ho", "me/x "].concat().repeat(20);
        assert_eq!(find(many.as_bytes(), &needles(), 3).len(), 3);
    }
}
