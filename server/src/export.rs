//! The ledger as a file: GET /manage/history.csv and /manage/history.json. The arguments are those of /manage/history; what
//! they choose comes whole, page after page, so that a year of it needs no more memory than a page.

use app::manage::Wanted;
use axum::{
    body::{Body, Bytes},
    extract::{Query, State},
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use manager::{HistoryPage, HistoryQuery};
use protocol::{Code, LedgerEvent, Problem};

use crate::{answer::Answer, compose::House};

/// Events that are read at once.
const PAGE: u32 = 1000;

/// How the file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Csv,
    Json,
}

type Asked = Result<Query<Wanted>, axum::extract::rejection::QueryRejection>;

/// GET /manage/history.csv
pub(crate) async fn csv(State(house): State<House>, asked: Asked) -> Response {
    answer(house, asked, Format::Csv).await
}

/// GET /manage/history.json: the shape of /manage/history, with everything on one page.
pub(crate) async fn json(State(house): State<House>, asked: Asked) -> Response {
    answer(house, asked, Format::Json).await
}

async fn answer(house: House, asked: Asked, format: Format) -> Response {
    let first = async {
        let Query(wanted) = asked.map_err(|why| {
            Problem::new(Code::BadArgument, why.body_text(), "The arguments are those of /manage/history.")
        })?;
        let most = wanted.limit;
        let wanted = wanted.query(house.wall_ms()).map_err(|refusal| refusal.0.error)?;
        let wanted = HistoryQuery { limit: most.unwrap_or(PAGE).clamp(1, PAGE), ..wanted };
        // The first page comes before the head, so that what is refused has its status.
        let page = house.past(wanted.clone()).await?;
        Ok::<_, Problem>(Writer { house, wanted, left: most, page: Some(page), format, begun: Begun::No })
    };
    match first.await {
        Err(problem) => Answer::Ours.problem(&problem),
        Ok(writer) => {
            let (kind, name) = match format {
                Format::Csv => ("text/csv; charset=utf-8; header=present", "innkeeper-history.csv"),
                Format::Json => ("application/json", "innkeeper-history.json"),
            };
            let pieces = stream::unfold(Some(writer), |writer| async { next(writer?).await });
            let head = [
                (header::CONTENT_TYPE, kind.to_owned()),
                (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
                (header::CACHE_CONTROL, "no-store".to_owned()),
            ];
            (head, Body::from_stream(pieces)).into_response()
        }
    }
}

struct Writer {
    house: House,
    wanted: HistoryQuery,
    /// How many more may come; `None`: all.
    left: Option<u32>,
    /// Read and not yet written.
    page: Option<HistoryPage>,
    format: Format,
    /// Whether the file's head is written, and whether an event is.
    begun: Begun,
}

/// How far a file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Begun {
    /// Nothing is written.
    No,
    /// The head.
    Head,
    /// The head and an event.
    Event,
}

type Piece = Result<Bytes, Problem>;

/// The next piece of the file, and the writer unless that was the last one. A page that cannot be read breaks the file off,
/// so that nobody takes it for whole.
async fn next(mut writer: Writer) -> Option<(Piece, Option<Writer>)> {
    let page = match writer.page.take() {
        Some(page) => page,
        None => match writer.house.past(writer.wanted.clone()).await {
            Ok(page) => page,
            Err(problem) => return Some((Err(problem), None)),
        },
    };
    let count = u32::try_from(page.events.len()).unwrap_or(u32::MAX);
    writer.left = writer.left.map(|left| left.saturating_sub(count));
    let last = page.next.is_none() || writer.left == Some(0);
    let text = written(&page.events, writer.format, writer.begun, last);
    writer.begun = if page.events.is_empty() { writer.begun.max(Begun::Head) } else { Begun::Event };
    writer.wanted.after = page.next;
    writer.wanted.limit = writer.left.unwrap_or(PAGE).clamp(1, PAGE);
    Some((Ok(text.into()), (!last).then_some(writer)))
}

/// One page. A later one may be empty: what it was to tell may have been thinned out meanwhile.
fn written(events: &[LedgerEvent], format: Format, begun: Begun, last: bool) -> String {
    let mut text = String::new();
    match format {
        Format::Csv => {
            if begun == Begun::No {
                text.push_str(HEAD);
            }
            events.iter().for_each(|event| line(&mut text, event));
        }
        Format::Json => {
            if begun == Begun::No {
                text.push_str("{\"events\":[\n");
            } else if begun == Begun::Event && !events.is_empty() {
                text.push_str(",\n");
            }
            let lines: Vec<String> =
                events.iter().map(|event| serde_json::to_string(event).unwrap_or_default()).collect();
            text.push_str(&lines.join(",\n"));
            if last {
                text.push_str("\n],\"next\":null}\n");
            }
        }
    }
    text
}

const HEAD: &str = "id,at,kind,model,reason,asked_by,duration_ms,bytes_before,bytes_after,verdict,returned_bytes,residual_bytes,detail\r\n";

/// One line as RFC 4180 has it.
fn line(text: &mut String, event: &LedgerEvent) {
    let number = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
    let proof = event.receipt.as_ref();
    let verdict = proof.and_then(|proof| serde_json::to_value(proof.verdict).ok());
    let cells = [
        event.id.to_string(),
        event.at.to_string(),
        event.kind.word().to_owned(),
        cell(event.model.as_ref().map(|model| model.as_str()).unwrap_or_default()),
        cell(&event.reason),
        cell(&event.asked_by),
        number(event.duration_ms),
        number(event.bytes_before),
        number(event.bytes_after),
        verdict.as_ref().and_then(|word| word.as_str()).unwrap_or_default().to_owned(),
        number(proof.map(|proof| proof.ram.returned_bytes)),
        number(proof.map(|proof| proof.ram.residual_bytes)),
        cell(&event.detail),
    ];
    text.push_str(&cells.join(","));
    text.push_str("\r\n");
}

/// A text in quotes where it needs them. One that a spreadsheet would compute gets an apostrophe: names in it may be
/// chosen by strangers.
fn cell(text: &str) -> String {
    let computed = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if computed { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use protocol::{EventKind, Time};

    use super::*;

    fn event(id: u64, reason: &str) -> LedgerEvent {
        LedgerEvent {
            id,
            at: Time::from_unix_ms(0),
            kind: EventKind::Refuse,
            model: "smollm2".parse().ok(),
            reason: reason.to_owned(),
            asked_by: "api curl".to_owned(),
            duration_ms: Some(5),
            bytes_before: None,
            bytes_after: None,
            receipt: None,
            detail: String::new(),
        }
    }

    #[test]
    fn a_line_has_a_cell_for_each_column_and_quotes_what_needs_it() {
        let mut text = String::new();
        line(&mut text, &event(7, "needs 9 GiB, says \"x\""));
        assert_eq!(
            text,
            "7,1970-01-01T00:00:00.000+00:00,refuse,smollm2,\"needs 9 GiB, says \"\"x\"\"\",api curl,5,,,,,,\r\n"
        );
        assert_eq!(HEAD.matches(',').count(), 12);
    }

    #[test]
    fn a_spreadsheet_computes_nothing_that_a_stranger_wrote() {
        for text in ["=1+1", "+1", "-1", "@x", "\tx"] {
            assert!(cell(text).starts_with('\''), "{text}");
        }
        assert_eq!(cell("api:x"), "api:x");
    }

    #[test]
    fn pages_make_one_json_document() {
        let pages = [vec![event(3, "c"), event(2, "b")], vec![event(1, "a")]];
        let text = written(&pages[0], Format::Json, Begun::No, false)
            + &written(&pages[1], Format::Json, Begun::Event, true);
        let read: app::manage::History = serde_json::from_str(&text).unwrap();
        assert_eq!((read.events, read.next), (pages.concat(), None));
        let nothing = written(&[], Format::Json, Begun::No, true);
        assert!(serde_json::from_str::<app::manage::History>(&nothing).unwrap().events.is_empty());
        let empty_at_the_end = written(&pages[0], Format::Json, Begun::No, false)
            + &written(&[], Format::Json, Begun::Event, true);
        let read: app::manage::History = serde_json::from_str(&empty_at_the_end).unwrap();
        assert_eq!(read.events, pages[0]);
        let empty_first = written(&[], Format::Json, Begun::No, false)
            + &written(&pages[0], Format::Json, Begun::Head, true);
        let read: app::manage::History = serde_json::from_str(&empty_first).unwrap();
        assert_eq!(read.events, pages[0]);
    }
}
