//! The child's end: message loop, parent watch, sandbox. Owns one engine, which it knows as a trait alone, so that
//! this room and its tests compile without candle.
//!
//! Three threads. The reader blocks on the channel from the first moment and is the parent watch: when the channel
//! closes, the process ends at once, whatever the others do. The writer alone waits for a socket that is full, and
//! sends tokens of a quick model together. The engine's is the main thread. SIGTERM needs no handler: the supervisor makes
//! sure that it has its default effect.

mod channel;
mod engine_loop;
mod leave;
mod peak;
pub mod port;
mod sandbox;
mod serving;
mod title;

use link::{FromWorker, Hello};

/// Exit codes of a worker, beside 0 for "told to go" and 101 for a panic.
mod exit {
    /// Called without a channel or a nonce: not by a server.
    pub(crate) const USAGE: i32 = 2;
    /// The server broke the protocol, or is another build.
    pub(crate) const PROTOCOL: i32 = 3;
}

/// The life of a worker: `innkeeper worker --nonce WORD --model NAME`, started by the supervisor with the channel as
/// descriptor 3. Must be called before the program starts a thread or opens a file.
///
/// `build` is what the server's build must be; `args` are those after `worker`.
pub fn main(loader: impl port::Loader, build: &str, args: impl IntoIterator<Item = String>) -> ! {
    let (Some(nonce), Some(channel)) = (nonce(args), leave::channel()) else {
        log("This is how Innkeeper starts its own workers; it is of no use otherwise.");
        leave::now(exit::USAGE)
    };
    let title = title::Title::find();
    // Sandbox first: a thread that is started before it would stay outside.
    let (sandbox, peak) = sandbox::confine();
    let hello = Hello { protocol: link::PROTOCOL, build: build.to_owned(), nonce };
    match channel::start(channel, hello.clone()) {
        Ok((outbox, orders, pulse)) => {
            outbox.say(&FromWorker::Hello(hello));
            outbox.say(&FromWorker::Confined { sandbox: sandbox.words() });
            engine_loop::run(&loader, &orders, &outbox, &pulse, (title, peak))
        }
        Err(error) => {
            log(&format!("The worker cannot start its threads: {error}."));
            leave::now(exit::USAGE)
        }
    }
}

fn nonce(args: impl IntoIterator<Item = String>) -> Option<String> {
    let mut args = args.into_iter();
    args.find(|arg| arg == "--nonce")?;
    args.next()
}

/// A line of the worker's log. A server that is gone hears nothing, and that is no reason to panic.
fn log(line: &str) {
    use std::io::Write;
    drop(writeln!(std::io::stderr(), "{line}"));
}
