//! The file: opened, brought to this version's format, or set aside.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use manager::STARTED;
use protocol::{EventKind, LedgerEvent, Time, Warning};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, params};

use crate::{
    events,
    trouble::{Aside, HistoryError},
};

/// "INNK": tells our files from those of other programs.
const APPLICATION: i32 = 0x494e_4e4b;

/// Each brings the file from the format of its place in this list to the next.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE fact (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE event (
        id INTEGER PRIMARY KEY,
        at_ms INTEGER NOT NULL,
        kind TEXT NOT NULL,
        model TEXT,
        body TEXT NOT NULL
    );
    CREATE INDEX event_at ON event (at_ms);
    CREATE INDEX event_kind ON event (kind, id);
    CREATE INDEX event_model ON event (model, id) WHERE model IS NOT NULL;
    CREATE INDEX event_model_kind ON event (model, kind, id) WHERE model IS NOT NULL;
    CREATE TABLE measured (
        step_s INTEGER NOT NULL,
        at_s INTEGER NOT NULL,
        samples INTEGER NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (step_s, at_s)
    ) WITHOUT ROWID;
    CREATE TABLE request (
        id INTEGER PRIMARY KEY,
        at_ms INTEGER NOT NULL,
        model TEXT NOT NULL,
        outcome TEXT NOT NULL,
        queue_ms INTEGER,
        load_ms INTEGER,
        ttft_ms INTEGER,
        duration_ms INTEGER NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        tokens_per_second REAL
    );
    CREATE INDEX request_at ON request (at_ms);
"];

/// Event numbers that are spoken for ahead of time, so that a killed server's successor gives none of them again.
const AHEAD: u64 = 100;
/// Events that are replayed at a start, besides those that say how each model stands.
const REPLAYED: u32 = 10_000;

/// What the file says at a start.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// The number for the next event.
    pub(crate) next_event: u64,
    /// The server before did not close the file.
    pub(crate) cut_off: bool,
    /// Of the events since the last start, the newest, and those that say how each model stands; oldest first.
    pub(crate) since_start: Vec<LedgerEvent>,
    /// The newest moment that was written, and how far time was ever seen to go back, in milliseconds.
    pub(crate) clock: Clock,
}

/// What is known of the wall clock's leaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    pub(crate) newest_ms: i64,
    pub(crate) back_ms: i64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { newest_ms: i64::MIN, back_ms: 0 }
    }
}

/// An open file, with whatever had to be set aside to get there.
pub(crate) struct Book {
    pub(crate) connection: Connection,
    pub(crate) found: Found,
    pub(crate) aside: Option<Warning>,
}

/// Opens the file for writing. One that is damaged, newer or somebody else's is moved away first.
pub(crate) fn open(path: &Path, wall_ms: i64) -> Result<Book, HistoryError> {
    let mut aside = None;
    // A second file cannot be in the way as well; if moving the first did not help, nothing does.
    for _ in 0..2 {
        match attempt(path) {
            Ok((connection, found)) => return Ok(Book { connection, found, aside }),
            Err(Trouble::Aside(why)) => {
                let kept = set_aside(path, why, wall_ms)?;
                let warning = why.warning(&kept, Time::from_unix_ms(wall_ms));
                tracing::error!("{} {}", warning.message, warning.hint);
                aside = Some(warning);
            }
            Err(Trouble::Other(error)) => return Err(error),
        }
    }
    Err(HistoryError::File {
        path: path.display().to_string(),
        cause: io::Error::other("what was set aside is still there"),
    })
}

/// Moves a file whose damage was found later, and begins a new one.
pub(crate) fn begin_anew(path: &Path, wall_ms: i64) -> Result<Book, HistoryError> {
    let kept = set_aside(path, Aside::Damaged, wall_ms)?;
    let warning = Aside::Damaged.warning(&kept, Time::from_unix_ms(wall_ms));
    tracing::error!("{} {}", warning.message, warning.hint);
    let book = open(path, wall_ms)?;
    Ok(Book { aside: Some(warning), ..book })
}

enum Trouble {
    Aside(Aside),
    Other(HistoryError),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        let error = HistoryError::from(error);
        if error.is_damage() { Self::Aside(Aside::Damaged) } else { Self::Other(error) }
    }
}

fn attempt(path: &Path) -> Result<(Connection, Found), Trouble> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(1))?;
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    if tables > 0 && application != APPLICATION {
        return Err(Trouble::Aside(Aside::Foreign));
    }
    if version > known {
        return Err(Trouble::Aside(Aside::Newer(version)));
    }
    // Normal: a commit survives the end of the process at once; the newest ones may go with the machine's power.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "journal_size_limit", 4 << 20)?;
    // In KiB: the writer touches the last leaf of a few trees, and the system keeps the rest of the file in its own cache.
    connection.pragma_update(None, "cache_size", -128)?;
    let step = connection.transaction()?;
    for migration in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0)) {
        step.execute_batch(migration)?;
    }
    step.pragma_update(None, "application_id", APPLICATION)?;
    step.pragma_update(None, "user_version", known)?;
    let found = look(&step, tables == 0)?;
    set_fact(&step, "closed", 0)?;
    // Also whoever is killed in the first second has given numbers.
    speak_for(&step, found.next_event - 1, false)?;
    step.commit()?;
    Ok((connection, found))
}

/// Reads what a start needs to know, and with it something of every table.
fn look(book: &Transaction<'_>, fresh: bool) -> rusqlite::Result<Found> {
    let newest: Option<u64> = book.query_row("SELECT max(id) FROM event", [], |row| row.get(0))?;
    book.query_row("SELECT max(at_s) FROM measured WHERE step_s = 1", [], |_| Ok(()))?;
    book.query_row("SELECT max(at_ms) FROM request", [], |_| Ok(()))?;
    let next = newest.map_or(1, |id| id + 1);
    let spoken_for = fact(book, "next_event")?.and_then(|id| u64::try_from(id).ok()).unwrap_or(1);
    let start: Option<u64> = book
        .query_row(
            // SQLite may look at the parts of an AND in any order, and a body that is no JSON would be an error.
            "SELECT id FROM event WHERE kind = ?1
             AND CASE WHEN json_valid(body) THEN json_extract(body, '$.reason') END = ?2 ORDER BY id DESC LIMIT 1",
            params![EventKind::Server.word(), STARTED],
            |row| row.get(0),
        )
        .optional()?;
    let newest_ms: Option<i64> = book.query_row("SELECT max(at_ms) FROM event", [], |row| row.get(0))?;
    let back_ms = fact(book, "clock_back_ms")?.unwrap_or(0);
    Ok(Found {
        next_event: next.max(spoken_for),
        cut_off: !fresh && fact(book, "closed")? == Some(0),
        since_start: events::since(book, start.unwrap_or(0), REPLAYED)?,
        clock: Clock { newest_ms: newest_ms.unwrap_or(i64::MIN), back_ms },
    })
}

/// A number that the file knows by name.
pub(crate) fn fact(book: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    book.query_row("SELECT value FROM fact WHERE name = ?1", [name], |row| row.get(0)).optional()
}

/// Remembers a number by name.
pub(crate) fn set_fact(book: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    book.execute("INSERT OR REPLACE INTO fact VALUES (?1, ?2)", params![name, value]).map(drop)
}

/// Speaks for the numbers after `newest`; at the file's end exactly for the next one.
pub(crate) fn speak_for(book: &Connection, newest: u64, last: bool) -> rusqlite::Result<u64> {
    let next = if last { newest + 1 } else { newest + AHEAD };
    set_fact(book, "next_event", i64::try_from(next).unwrap_or(i64::MAX))?;
    Ok(next)
}

/// Whether the numbers spoken for run out.
pub(crate) fn runs_out(newest: u64, spoken_for: u64) -> bool {
    newest + AHEAD / 2 > spoken_for
}

/// Moves the file and its journals to a name that says why and when.
fn set_aside(path: &Path, why: Aside, wall_ms: i64) -> Result<PathBuf, HistoryError> {
    let at: String = Time::from_unix_ms(wall_ms).to_string().chars().take(19).filter(|c| *c != ':').collect();
    let name = |count: u32| {
        let more = if count == 0 { String::new() } else { format!("-{count}") };
        path.with_file_name(format!("history-{}-{at}{more}.db", why.word()))
    };
    let kept = (0..).map(name).find(|kept| !kept.exists()).unwrap_or_else(|| name(0));
    for journal in ["-wal", "-shm", ""] {
        match fs::rename(beside(path, journal), beside(&kept, journal)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(HistoryError::File { path: path.display().to_string(), cause: error });
            }
            _ => {}
        }
    }
    Ok(kept)
}

fn beside(path: &Path, journal: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(journal);
    name.into()
}
