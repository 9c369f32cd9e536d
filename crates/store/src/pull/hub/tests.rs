use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
};

use sha2::{Digest, Sha256};

use super::*;
use crate::{
    Store,
    pull::{Cancel, pip::Pip, reference},
};

/// A hub on this machine: says of a file what the test wants, and sends the reader to another host for its bytes.
struct Lookalike {
    address: String,
    /// First line and authorization of each request.
    asked: Receiver<(String, Option<String>)>,
}

/// What it has.
#[derive(Clone, Copy)]
enum Has {
    /// These bytes, of which it tells the right digest.
    Right(&'static [u8]),
    /// Other bytes than it tells.
    Wrong(&'static [u8]),
    /// So many bytes of them, then the line is cut.
    Cut(&'static [u8], usize),
    /// The beginning, then nothing any more.
    Silence(&'static [u8]),
    /// These bytes, in a repository that has another name now, told as such an address.
    Renamed(&'static [u8], Address),
    /// Nothing for this reader.
    Status(&'static str),
}

/// How a redirect names the place.
#[derive(Clone, Copy)]
enum Address {
    Path,
    Whole,
    /// On another host, which says no digest either.
    Elsewhere,
    /// Round and round.
    Itself,
}

impl Lookalike {
    fn open(has: Has) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, asked) = sync_channel(64);
        thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                let Some((line, token)) = request(&stream) else { continue };
                if tell.send((line.clone(), token)).is_err() {
                    break;
                }
                answer(&stream, &line, has, port);
                if matches!(has, Has::Silence(_)) {
                    held.push(stream);
                }
            }
        });
        Self { address: format!("http://127.0.0.1:{port}"), asked }
    }

    fn hub(&self) -> Hub {
        Hub {
            endpoint: self.address.clone(),
            token: Some("secret".to_owned()),
            stall: Duration::from_secs(1),
        }
    }
}

fn request(stream: &TcpStream) -> Option<(String, Option<String>)> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut token = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("authorization: ") {
            token = Some(value.to_owned());
        }
    }
    Some((first, token))
}

fn answer(mut stream: &TcpStream, line: &str, has: Has, port: u16) {
    if let Has::Renamed(_, to) = has
        && (line.contains("/a/b/") || matches!(to, Address::Itself))
    {
        let place = "new/name/resolve/main/m.gguf";
        let location = match to {
            Address::Path | Address::Itself => format!("/{place}"),
            Address::Whole => format!("http://127.0.0.1:{port}/{place}"),
            Address::Elsewhere => format!("http://localhost:{port}/{place}"),
        };
        let _ = write!(
            stream,
            "HTTP/1.1 307 Moved\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        return;
    }
    let bytes = match has {
        Has::Renamed(bytes, _)
        | Has::Right(bytes)
        | Has::Wrong(bytes)
        | Has::Cut(bytes, _)
        | Has::Silence(bytes) => bytes,
        Has::Status(status) => {
            let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            return;
        }
    };
    if line.contains("/resolve/main/") {
        let told = if matches!(has, Has::Wrong(_)) { b"others".as_slice() } else { bytes };
        let digest: String = Sha256::digest(told).iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = write!(
            stream,
            "HTTP/1.1 302 Found\r\nlocation: http://localhost:{port}/store\r\nx-linked-size: {}\r\n\
             x-linked-etag: \"{digest}\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            bytes.len()
        );
        return;
    }
    let sent = match has {
        Has::Cut(_, sent) => sent,
        Has::Silence(_) => 8,
        _ => bytes.len(),
    };
    let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", bytes.len());
    let _ = stream.write_all(&bytes[..sent]);
}

const MODEL: &[u8] = b"GGUF and a model that is whole";

/// The bytes of each part that a pull brings.
fn pull(hub: &Hub, text: &str, cancel: &Cancel) -> Result<Vec<Vec<u8>>, StoreError> {
    let root = tempfile::tempdir().unwrap();
    let plan = reference::plan(&text.parse().unwrap(), None).unwrap();
    let workshop = Workshop::begin(Store::open(root.path()).unwrap().models_dir(), &plan.id)?;
    let mut job =
        Job { fetch: &Pip::default(), create: |path| File::create(path), progress: &mut |_| {}, cancel };
    hub.fetch(&plan.sources[0].parts, &workshop, &mut job)?;
    let read = |part: &Part| std::fs::read(workshop.out().join(&part.name)).unwrap();
    Ok(plan.sources[0].parts.iter().map(read).collect())
}

fn pulled(has: Has) -> Result<Vec<Vec<u8>>, StoreError> {
    pull(&Lookalike::open(has).hub(), "hf:a/b:m.gguf", &Cancel::default())
}

#[test]
fn a_file_comes_from_where_the_hub_sends_to_and_the_token_stays_with_the_hub() {
    let lookalike = Lookalike::open(Has::Right(MODEL));
    let got = pull(&lookalike.hub(), "hf:a/b:q/m.gguf", &Cancel::default()).unwrap();
    assert_eq!(got, [MODEL]);
    let asked: Vec<_> = lookalike.asked.try_iter().collect();
    let lines: Vec<_> = asked.iter().map(|(line, token)| (line.as_str(), token.is_some())).collect();
    let path = "/a/b/resolve/main/q/m.gguf HTTP/1.1";
    assert_eq!(
        lines,
        [(&*format!("HEAD {path}"), true), (&*format!("GET {path}"), true), ("GET /store HTTP/1.1", false)]
    );
}

#[test]
fn all_parts_of_a_split_file_come() {
    let lookalike = Lookalike::open(Has::Right(MODEL));
    let got = pull(&lookalike.hub(), "hf:a/b:m-00001-of-00002.gguf", &Cancel::default()).unwrap();
    assert_eq!(got.len(), 2);
}

#[test]
fn bytes_that_are_not_those_that_the_hub_told_are_refused() {
    assert!(matches!(pulled(Has::Wrong(MODEL)), Err(StoreError::WrongFile { .. })));
}

#[test]
fn a_renamed_repositorys_file_is_still_checked_and_what_cannot_be_checked_is_refused() {
    for address in [Address::Path, Address::Whole] {
        let lookalike = Lookalike::open(Has::Renamed(MODEL, address));
        let got = pull(&lookalike.hub(), "hf:a/b:m.gguf", &Cancel::default()).unwrap();
        assert_eq!(got, [MODEL]);
        let heads: Vec<_> = lookalike.asked.try_iter().filter(|(line, _)| line.starts_with("HEAD")).collect();
        assert!(heads[1].0.contains("/new/name/") && heads[1].1.is_some(), "{heads:?}");
    }
    for address in [Address::Elsewhere, Address::Itself] {
        let error = pulled(Has::Renamed(MODEL, address)).unwrap_err();
        assert!(error.to_string().contains("does not say what the file must be"), "{error}");
    }
}

#[test]
fn the_thread_that_reads_a_silent_line_ends_soon_after() {
    let lookalike = Lookalike::open(Has::Silence(MODEL));
    let hub = lookalike.hub();
    let place = Place::read("a/b:m.gguf").unwrap();
    let mut incoming = Incoming::start(hub.open(&hub.agent(), &place).unwrap(), hub.stall).unwrap();
    let given_up = loop {
        match incoming.read(&mut [0; 64]) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => break error,
            _ => {}
        }
    };
    assert_eq!(given_up.kind(), io::ErrorKind::TimedOut);
    let left = Duration::from_secs(10);
    assert!(matches!(incoming.chunks.recv_timeout(left), Ok(Err(_))), "its own read has an end");
    assert!(matches!(incoming.chunks.recv_timeout(left), Err(RecvTimeoutError::Disconnected)));
}

#[test]
fn a_line_that_is_cut_is_no_file() {
    let error = pulled(Has::Cut(MODEL, 10)).unwrap_err();
    assert!(matches!(error, StoreError::BadArchive { .. } | StoreError::WrongFile { .. }), "{error}");
}

#[test]
fn a_silent_line_is_given_up() {
    let error = pulled(Has::Silence(MODEL)).unwrap_err();
    assert!(error.to_string().contains("nothing came for 1 seconds"), "{error}");
}

#[test]
fn a_cancelled_fetch_leaves_a_silent_line_at_once() {
    let lookalike = Lookalike::open(Has::Silence(MODEL));
    let cancel = Cancel::default();
    let hub = Hub { stall: LONGEST, ..lookalike.hub() };
    let watcher = {
        let cancel = cancel.clone();
        thread::spawn(move || {
            // The last of three requests is that for the bytes.
            let asked = lookalike.asked.iter().take(3).count();
            cancel.cancel();
            asked
        })
    };
    let error = pull(&hub, "hf:a/b:m.gguf", &cancel).unwrap_err();
    assert!(matches!(error, StoreError::Cancelled), "{error}");
    assert_eq!(watcher.join().unwrap(), 3);
}

#[test]
fn a_refusal_says_what_to_do() {
    for (status, help) in
        [("404 Not Found", "list of files"), ("401 Unauthorized", "HF_TOKEN"), ("500 Oops", "later")]
    {
        let error = pulled(Has::Status(status)).unwrap_err();
        assert!(matches!(error, StoreError::Hub { .. }), "{error}");
        assert!(error.hint().contains(help), "{error} {}", error.hint());
    }
    let nobody =
        Hub { endpoint: "http://127.0.0.1:1".to_owned(), token: None, stall: Duration::from_secs(1) };
    let error = pull(&nobody, "hf:a/b:m.gguf", &Cancel::default()).unwrap_err();
    assert!(error.hint().contains("connected"), "{error}");
}
