//! Many, slow and rude connections.

use std::{
    fs,
    io::{self, Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use fixtures::{Counting, Random};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use super::{
    Ground,
    clients::{self, End},
    http,
    inn::{Inn, Shelf},
    processes::{descriptors, now, pause, private_bytes, until},
    report::{Figures, Outcome, ms},
};

/// How much a reader may cost.
const MOST_A_READER: u64 = 64 << 10;
/// How long somebody who speaks may wait beside a crowd that does not.
const FIRST: Duration = Duration::from_secs(1);

/// Raises this process's own limit, and says how many descriptors it may have.
fn many_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Readers of the event stream that take a byte a second.
pub(super) fn slow(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    const READERS: usize = 200;
    many_descriptors();
    let model = Counting::new(0);
    let shelf = Shelf::new(&[("one", model)])?;
    let inn = Inn::open(ground, &shelf)?;
    inn.load("one")?;
    for _ in 0..20 {
        clients::chat(inn.port, "one", model, 0, 50, |_| {});
    }
    // In the process, and in the system as far as it is not yet sent.
    let cost = || private_bytes(inn.pid()) + unsent_bytes(inn.port);
    let before = cost();
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut stream = http::connect(inn.port)?;
        write!(stream, "GET /events HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", inn.port)?;
        stream.set_nonblocking(true)?;
        readers.push(stream);
    }
    let (seconds, mut most, mut worst) = (ground.amount(15, 120), 0, Duration::ZERO);
    for second in 0..seconds {
        sip(&mut readers);
        let began = now();
        let heard = clients::chat(inn.port, "one", model, second, 20, |_| {});
        ensure!(heard.end == End::Done("length".into()), "beside slow readers: {heard:?}");
        worst = worst.max(began.elapsed());
        most = most.max(cost().saturating_sub(before));
        pause(1000);
    }
    let each = most / READERS as u64;
    ensure!(each <= MOST_A_READER, "a slow reader costs {each} bytes");
    drop(readers);
    let of_answers = slow_answers(&inn, model)?;
    Figures::default()
        .with("readers", READERS)
        .with("seconds", seconds)
        .with("bytes_a_reader", each)
        .with("bytes_a_reader_of_an_answer", of_answers)
        .with("another_answer_max_ms", ms(worst))
        .held()
}

/// Each takes a byte. Those that the server has given up read an end; they stay, and cost nothing more.
fn sip(readers: &mut [TcpStream]) {
    for reader in readers {
        drop(reader.read(&mut [0]));
    }
}

/// What the system holds for connections to this port because their readers have not taken it.
fn unsent_bytes(port: u16) -> u64 {
    let text = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let ours = format!(":{port:04X}");
    let waits = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, queues) = (words.next()?, words.nth(2)?);
        let unsent = u64::from_str_radix(queues.split(':').next()?, 16).ok()?;
        local.ends_with(&ours).then_some(unsent)
    };
    text.lines().skip(1).filter_map(waits).sum()
}

/// The same for readers of an answer: what one costs that takes a byte a second.
fn slow_answers(inn: &Inn, model: Counting) -> Result<u64> {
    const READERS: u64 = 8;
    let body = |tokens: usize| {
        json!({ "model": "one", "stream": true, "temperature": 0, "max_tokens": tokens, "ignore_eos": true,
            "messages": [{ "role": "user", "content": model.prompt(0) }] })
        .to_string()
    };
    let all = |tokens: usize| {
        let body = body(tokens);
        let one = || http::begin(inn.port, "POST", "/v1/chat/completions", Some(("application/json", &body)));
        (0..READERS).map(|_| one()).collect::<io::Result<Vec<_>>>()
    };
    let busy = |wanted: u64| move || inn.model("one").is_ok_and(|one| one["in_flight"] == wanted);
    // So many at once have been there before, and were quick.
    for mut reader in all(500)? {
        io::copy(&mut reader, &mut io::sink())?;
    }
    until("everybody to be done", Duration::from_secs(10), busy(0))?;
    let cost = || private_bytes(inn.pid()) + unsent_bytes(inn.port);
    let (before, mut most) = (cost(), 0);
    let mut readers = all(3900)?;
    readers.iter().try_for_each(|reader| reader.set_nonblocking(true))?;
    until("everybody to be answered", Duration::from_secs(10), busy(READERS))?;
    for _ in 0..8 {
        sip(&mut readers);
        pause(1000);
        most = most.max(cost().saturating_sub(before));
    }
    ensure!(busy(READERS)(), "an answer of megabytes went into readers that do not read");
    let each = most / READERS;
    ensure!(each <= MOST_A_READER, "a slow reader of an answer costs {each} bytes");
    Ok(each)
}

/// Connects so often, on several threads, within the ten seconds that a silent connection is let alone.
fn gather(port: u16, wanted: usize) -> Vec<TcpStream> {
    const THREADS: usize = 8;
    let end = now() + Duration::from_secs(8);
    let some = |share: usize| {
        let mut streams = Vec::with_capacity(share);
        while streams.len() < share && now() < end {
            // Once the server and the system's queue are full, one has to wait its turn.
            match TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), Duration::from_secs(2)) {
                Ok(stream) => streams.push(stream),
                Err(_) => break,
            }
        }
        streams
    };
    thread::scope(|scope| {
        let share = |thread: usize| wanted / THREADS + usize::from(thread < wanted % THREADS);
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || some(share(thread)))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    })
}

/// Connections that say nothing, as many as there may be.
pub(super) fn crowd(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    let may = usize::try_from(many_descriptors()).unwrap_or(usize::MAX).saturating_sub(200);
    let wanted = ground.amount(2000, 10_000).min(may);
    let model = Counting::new(0);
    let shelf = Shelf::new(&[("one", model)])?;
    // The full form lets them all in; the short one has no place for half of them.
    let connections = ground.amount(1024, wanted + 100).to_string();
    let inn = Inn::open_with(ground, &shelf, 0, &[("INNKEEPER_LIMITS__CONNECTIONS", &connections)])?;
    let worker = inn.load("one")?;
    let before = private_bytes(inn.pid());
    let began = now();
    let crowd = gather(inn.port, wanted);
    let (took, connected) = (began.elapsed(), crowd.len());
    // What came last is still on its way from the system to the server.
    let wanted_in = ground.amount(1024, wanted);
    let all_in =
        until("all to be in", Duration::from_secs(2), || descriptors(inn.pid()) >= wanted_in).is_ok();
    let taken = descriptors(inn.pid());
    let each = private_bytes(inn.pid()).saturating_sub(before) / connected.min(taken).max(1) as u64;
    // In the full form the server holds them all at the same time.
    ensure!(
        connected == wanted && all_in,
        "{connected} of {wanted} came about in {took:?}; the server has {taken}"
    );
    // Where there is no place left, those who have been silent longest make room.
    let mut answered = Vec::new();
    for _ in 0..3 {
        let began = now();
        let heard = clients::chat(inn.port, "one", model, 1, 20, |_| {});
        answered.push(began.elapsed());
        ensure!(heard.end == End::Done("length".into()), "beside {connected} silent connections: {heard:?}");
    }
    ensure!(answered[0] < FIRST, "the first who speaks waits {:?}", answered[0]);
    ensure!(inn.worker("one")? == worker, "the worker was replaced");
    drop(crowd);
    until("the server to let go of them", Duration::from_secs(15), || descriptors(inn.pid()) < 100)?;
    Figures::default()
        .with("connections", connected)
        .with("connected_within_ms", ms(took))
        .with("descriptors_of_the_server", taken)
        .with("bytes_a_connection", each)
        .with("first_answer_ms", ms(answered[0]))
        .with("later_answer_ms", ms(answered[2]))
        .held()
}

/// Heads and bodies that come a byte at a time.
pub(super) fn dribble(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    let model = Counting::new(0);
    let shelf = Shelf::new(&[("one", model)])?;
    let inn = Inn::open(ground, &shelf)?;
    let head =
        dribble_until_cut(&inn, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: ", Duration::from_secs(12))
            .context("a head")?;
    let form = b"POST /manage/unload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100000\r\n\r\n";
    let body = match ground.options.short {
        true => "not tried in the short form; its deadline of 30 s has a test with paused time".to_owned(),
        false => {
            format!("{} ms", ms(dribble_until_cut(&inn, form, Duration::from_secs(35)).context("a body")?))
        }
    };
    let heard = clients::chat(inn.port, "one", model, 1, 20, |_| {});
    ensure!(heard.end == End::Done("length".into()), "{heard:?}");
    Figures::default().with("head_cut_after_ms", ms(head)).with("body_cut_after", body).held()
}

fn dribble_until_cut(inn: &Inn, begin: &[u8], most: Duration) -> Result<Duration> {
    let mut stream = http::connect(inn.port)?;
    stream.write_all(begin)?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    let began = now();
    loop {
        let mut answer = [0; 1024];
        match stream.read(&mut answer) {
            // Closed, perhaps after a word.
            Ok(0) => return Ok(began.elapsed()),
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return Ok(began.elapsed()),
        }
        ensure!(began.elapsed() < most, "it was not cut within {most:?}");
        if stream.write_all(b"x").is_err() {
            return Ok(began.elapsed());
        }
    }
}
