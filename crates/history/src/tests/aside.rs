//! Files that cannot be used are set aside, whole, and a new one is begun.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use manager::ports::Archive;
use protocol::EventKind;
use rusqlite::Connection;

use super::{event, ids, wanted};
use crate::History;

/// Every file of a folder with its content, but the one in use.
fn kept(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let aside = files.filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with("history.db"));
    aside.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// A history with five events, closed.
async fn five(folder: &Path) -> PathBuf {
    let opened = History::open(folder, 1_000).unwrap();
    for id in 1..=5 {
        opened.history.keep(&Arc::new(event(id, 10, EventKind::Load, Some("a"))));
    }
    opened.history.close().await;
    folder.join("history.db")
}

/// Opens what stands there, which must be set aside as `word`, and writes into the new file.
async fn must_be_set_aside(folder: &Path, word: &str, says: &str) {
    let before = fs::read(folder.join("history.db")).unwrap();
    let opened = History::open(folder, 1_795_442_551_120).unwrap();
    let warning = opened.history.warnings().borrow().first().cloned().unwrap();
    assert_eq!(warning.code, "history_set_aside");
    assert!(warning.message.contains(says), "{}", warning.message);
    let name = folder.join(format!("history-{word}-2026-11-23T140231.db"));
    assert!(warning.hint.contains(&name.display().to_string()), "{}", warning.hint);
    assert_eq!(kept(folder).get(&name), Some(&before), "the old file is whole");
    // Whatever numbers it had, these are above them.
    assert_eq!(opened.first_event, 1_795_442_551);
    opened.history.keep(&Arc::new(event(opened.first_event, 20, EventKind::Load, None)));
    opened.history.close().await;
    let again = History::open(folder, 1_795_442_559_000).unwrap();
    assert_eq!(ids(&again.history.page(&wanted(9)).await.unwrap().events), [1_795_442_551]);
    assert_eq!(again.first_event, 1_795_442_552);
    assert!(again.history.warnings().borrow().is_empty(), "told once, by the run that did it");
    again.history.close().await;
}

#[tokio::test]
async fn a_file_of_garbage_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("history.db"), vec![0x5a; 9000]).unwrap();
    must_be_set_aside(folder.path(), "damaged", "was damaged").await;
}

#[tokio::test]
async fn a_file_that_lost_its_end_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = five(folder.path()).await;
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 3]).unwrap();
    must_be_set_aside(folder.path(), "damaged", "was damaged").await;
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_set_aside_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = five(folder.path()).await;
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    must_be_set_aside(folder.path(), "newer", "a newer Innkeeper (format 99)").await;
}

#[tokio::test]
async fn a_database_of_another_program_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let other = Connection::open(folder.path().join("history.db")).unwrap();
    other.execute_batch("CREATE TABLE songs (name TEXT)").unwrap();
    drop(other);
    must_be_set_aside(folder.path(), "foreign", "another program").await;
}

#[tokio::test]
async fn an_empty_file_is_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("history.db"), b"").unwrap();
    let opened = History::open(folder.path(), 1_000).unwrap();
    assert_eq!((opened.first_event, opened.history.warnings().borrow().len()), (1, 0));
    opened.history.close().await;
}

/// Damage in the middle shows only when somebody reads there: the reader is told, the file set aside, and what comes
/// then is written into a new one.
#[tokio::test]
async fn damage_that_a_read_finds_later_sets_the_file_aside_while_the_server_runs() {
    let folder = tempfile::tempdir().unwrap();
    let opened = History::open(folder.path(), 1_000).unwrap();
    for id in 1..=3000 {
        opened.history.keep(&Arc::new(event(id, 10, EventKind::Load, Some("a"))));
    }
    opened.history.close().await;
    let path = folder.path().join("history.db");
    let mut bytes = fs::read(&path).unwrap();
    let pages = bytes.len() / 4096;
    // Inner pages, none of those that a start looks at: the first ones, and the newest events.
    bytes[20 * 4096..(pages - 20) * 4096].chunks_mut(2).for_each(|pair| pair[0] ^= 0xa5);
    fs::write(&path, bytes).unwrap();
    let again = History::open(folder.path(), 2_000).unwrap();
    if again.history.warnings().borrow().is_empty() {
        let mut warnings = again.history.warnings();
        let old = manager::HistoryQuery { after: Some(1500), ..wanted(1000) };
        assert!(again.history.page(&old).await.is_err(), "nobody would notice");
        warnings.changed().await.unwrap();
    }
    assert_eq!(again.history.warnings().borrow()[0].code, "history_set_aside");
    again.history.keep(&Arc::new(event(9000, 20, EventKind::Load, None)));
    again.history.close().await;
    assert_eq!(ids(&again.history.page(&wanted(9)).await.unwrap().events), [9000]);
    assert_eq!(kept(folder.path()).len(), 1);
}

/// A reader may find damage in a file that the writer has set aside by itself meanwhile.
#[tokio::test]
async fn damage_of_the_file_before_says_nothing_about_the_one_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let opened = History::open(folder.path(), 1_000).unwrap();
    opened.history.shared.inbox.tell_damage(0);
    opened.history.keep(&Arc::new(event(1, 20, EventKind::Load, None)));
    opened.history.close().await;
    assert!(opened.history.warnings().borrow().is_empty());
    assert!(kept(folder.path()).is_empty(), "nothing was set aside");
    assert_eq!(ids(&opened.history.page(&wanted(9)).await.unwrap().events), [1]);
}

#[tokio::test]
async fn a_data_folder_that_is_reached_by_a_link_is_as_good_as_any() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    five(&link).await;
    let opened = History::open(&link, 2_000).unwrap();
    assert!(opened.history.warnings().borrow().is_empty());
    assert_eq!(ids(&opened.history.page(&wanted(9)).await.unwrap().events), [5, 4, 3, 2, 1]);
    opened.history.close().await;
    assert!(real.join("history.db").exists());
}

/// Rows whose bytes were changed, or that were written by an Innkeeper with kinds of its own.
#[tokio::test]
async fn a_row_that_cannot_be_read_is_left_out_and_takes_no_other_along() {
    let folder = tempfile::tempdir().unwrap();
    let path = five(folder.path()).await;
    let file = Connection::open(&path).unwrap();
    file.execute_batch(
        "UPDATE event SET body = 'no JSON' WHERE id = 4;
         UPDATE event SET kind = 'teleport' WHERE id = 2;
         INSERT INTO event VALUES (6, 10, 'server', NULL, '{\"reason\":');
         INSERT INTO event VALUES (7, 10, 'load', 'a', x'00ff');
         INSERT INTO event VALUES (8, 10, 'load', 'a', '{\"duration_ms\":\"long\"}');
         INSERT INTO measured VALUES (1, 100, 1, 'no JSON');",
    )
    .unwrap();
    drop(file);
    let opened = History::open(folder.path(), 2_000).unwrap();
    assert!(opened.history.warnings().borrow().is_empty(), "the file is used as it is");
    assert_eq!((opened.first_event, ids(&opened.since_start)), (9, vec![1, 3, 5]));
    let mut query = wanted(1);
    let mut found = Vec::new();
    loop {
        let page = opened.history.page(&query).await.unwrap();
        found.extend(ids(&page.events));
        query.after = page.next;
        if page.next.is_none() {
            break;
        }
    }
    assert_eq!(found, [5, 3, 1], "page by page");
    let told = opened.history.performance(20).await.unwrap();
    assert_eq!(told.models[0].windows[0].load_ms.as_ref().map(|spread| spread.count), Some(3));
    let series = crate::SeriesQuery { series: "cpu".to_owned(), since_s: 0, until_s: 200, step_s: 1 };
    assert!(opened.history.series(series).await.unwrap().points.is_empty());
    opened.history.close().await;
}
