//! Many, slow and rude connections.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use fixtures::{Counting, Random};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{
    Ground,
    clients::{self, End},
    http,
    inn::{Inn, Shelf},
    processes::{descriptors, pause, private_bytes, until},
    report::{Figures, Outcome, ms, now},
};

/// How much a reader may cost.
const MOST_A_READER: u64 = 64 << 10;

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
    let before = private_bytes(inn.pid());
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut stream = http::connect(inn.port)?;
        write!(stream, "GET /events HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", inn.port)?;
        stream.set_nonblocking(true)?;
        readers.push(stream);
    }
    let (seconds, mut most, mut worst) = (ground.amount(15, 120), 0, Duration::ZERO);
    for second in 0..seconds {
        for reader in &mut readers {
            // Those that the server has given up read an end; they stay, and cost nothing more.
            drop(reader.read(&mut [0]));
        }
        let began = now();
        let heard = clients::chat(inn.port, "one", model, second, 20, |_| {});
        ensure!(heard.end == End::Done("length".into()), "beside slow readers: {heard:?}");
        worst = worst.max(began.elapsed());
        most = most.max(private_bytes(inn.pid()).saturating_sub(before));
        pause(1000);
    }
    let each = most / READERS as u64;
    ensure!(each <= MOST_A_READER, "a slow reader costs {each} bytes");
    Figures::default()
        .with("readers", READERS)
        .with("seconds", seconds)
        .with("bytes_a_reader", each)
        .with("another_answer_max_ms", ms(worst))
        .held()
}

/// Connections that say nothing, as many as there may be.
pub(super) fn crowd(ground: &Ground<'_>, _: &mut Random) -> Result<Outcome> {
    let may = usize::try_from(many_descriptors()).unwrap_or(usize::MAX).saturating_sub(200);
    let wanted = ground.amount(2000, 10_000).min(may);
    let model = Counting::new(0);
    let shelf = Shelf::new(&[("one", model)])?;
    // The full form lets them all in; the short one leaves most of them with the system.
    let connections = ground.amount(1024, wanted + 100).to_string();
    let inn = Inn::open_with(ground, &shelf, 0, &[("INNKEEPER_LIMITS__CONNECTIONS", &connections)])?;
    let worker = inn.load("one")?;
    let before = private_bytes(inn.pid());
    let mut crowd: Vec<TcpStream> = Vec::new();
    let began = now();
    while crowd.len() < wanted && began.elapsed() < Duration::from_secs(30) {
        // Once the server and the system's queue are full, one has to wait its turn.
        match TcpStream::connect_timeout(&([127, 0, 0, 1], inn.port).into(), Duration::from_secs(2)) {
            Ok(stream) => crowd.push(stream),
            Err(_) => break,
        }
    }
    let (connected, taken) = (crowd.len(), descriptors(inn.pid()));
    let each = private_bytes(inn.pid()).saturating_sub(before) / connected.max(1) as u64;
    ensure!(connected >= 1000, "only {connected} connections came about");
    // Silent ones are cut, so that somebody who speaks gets in.
    let mut answered = Vec::new();
    let end = now() + Duration::from_secs(60);
    while answered.len() < 3 && now() < end {
        let began = now();
        let heard = clients::chat(inn.port, "one", model, 1, 20, |_| {});
        if heard.end == End::Done("length".into()) {
            answered.push(began.elapsed());
        }
    }
    ensure!(answered.len() == 3, "nobody gets in beside {connected} silent connections");
    ensure!(inn.worker("one")? == worker, "the worker was replaced");
    drop(crowd);
    until("the server to let go of them", Duration::from_secs(15), || descriptors(inn.pid()) < 100)?;
    Figures::default()
        .with("connections", connected)
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
