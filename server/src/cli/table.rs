//! Tables for a terminal: columns as wide as what stands in them.

/// On which side a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table with a head; every row has as many cells as the head.
pub(crate) fn table(head: &[(&str, Side)], rows: &[Vec<String>]) -> String {
    let width = |text: &str| text.chars().count();
    let widths: Vec<usize> = head
        .iter()
        .enumerate()
        .map(|(at, (title, _))| {
            let cells = rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell));
            cells.max().unwrap_or(0).max(width(title))
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for ((cell, wide), (_, side)) in cells.zip(&widths).zip(head) {
            let gap = " ".repeat(wide - width(cell));
            let (before, after) = match side {
                Side::Left => ("", gap.as_str()),
                Side::Right => (gap.as_str(), ""),
            };
            text.push_str(before);
            text.push_str(cell);
            text.push_str(after);
            text.push_str("  ");
        }
        text.trim_end().to_owned()
    };
    let mut lines = vec![line(&mut head.iter().map(|(title, _)| *title))];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_left_numbers_right_and_no_line_ends_in_blanks() {
        let rows = [
            vec!["smollm2".to_owned(), "33.1 MiB".to_owned(), "ready".to_owned()],
            vec!["m\u{e9}".to_owned(), "1.05 GiB".to_owned(), String::new()],
        ];
        let text = table(&[("MODEL", Side::Left), ("MEMORY", Side::Right), ("STATE", Side::Left)], &rows);
        assert_eq!(text, "MODEL      MEMORY  STATE\nsmollm2  33.1 MiB  ready\nm\u{e9}       1.05 GiB");
    }

    #[test]
    fn a_table_without_rows_is_its_head() {
        assert_eq!(table(&[("A", Side::Left), ("B", Side::Right)], &[]), "A  B");
    }
}
