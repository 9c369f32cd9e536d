//! As much HTTP as harm needs, on a bare socket, so that a client may also misbehave. HTTP/1.0: the body ends where the
//! connection does.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// No answer of a test server takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connects to a server on this machine.
pub(crate) fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An answer whose head has been read.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: BufReader<TcpStream>,
}

/// Sends a request, and does not wait for its answer; `body` with its content type.
pub(crate) fn begin(
    port: u16,
    method: &str,
    path: &str,
    body: Option<(&str, &str)>,
) -> io::Result<TcpStream> {
    begin_on(connect(port)?, port, method, path, body)
}

/// The same over a connection that is there already.
pub(crate) fn begin_on(
    mut stream: TcpStream,
    port: u16,
    method: &str,
    path: &str,
    body: Option<(&str, &str)>,
) -> io::Result<TcpStream> {
    let mut text = format!("{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n");
    if let Some((kind, body)) = body {
        text += &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
    }
    text += "\r\n";
    text += body.map_or("", |(_, body)| body);
    stream.write_all(text.as_bytes())?;
    Ok(stream)
}

/// Sends a request, and waits for the head of its answer.
pub(crate) fn send(port: u16, method: &str, path: &str, body: Option<(&str, &str)>) -> io::Result<Answer> {
    answer(begin(port, method, path, body)?)
}

/// The head of the answer to a request that was begun.
pub(crate) fn answer(stream: TcpStream) -> io::Result<Answer> {
    let mut body = BufReader::new(stream);
    let mut line = String::new();
    body.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "no answer"))?;
    while line.trim_end() != "" {
        line.clear();
        body.read_line(&mut line)?;
    }
    Ok(Answer { status, body })
}

/// The same, with the whole answer as JSON (a text if it is none).
pub(crate) fn ask(
    port: u16,
    method: &str,
    path: &str,
    body: Option<(&str, &str)>,
) -> io::Result<(u16, Value)> {
    let mut answer = send(port, method, path, body)?;
    let mut text = String::new();
    answer.body.read_to_string(&mut text)?;
    Ok((answer.status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
}
