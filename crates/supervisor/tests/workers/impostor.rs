//! Processes that speak the worker's protocol by hand, and not as they should.

use std::{process::ExitCode, sync::mpsc};

use link::{Finish, FromWorker, Hello, Ready, Timings, ToWorker, Usage, blocking, encode};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use crate::BUILD;

pub(crate) fn main(mut args: impl Iterator<Item = String>) -> ExitCode {
    let kind = args.next().unwrap();
    args.find(|arg| arg == "--nonce").unwrap();
    let nonce = args.next().unwrap();
    let me = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let channel = pidfd_getfd(me, 3, PidfdGetfdFlags::empty()).unwrap();
    let writer = blocking::Writer::new(channel.try_clone().unwrap());
    let say = |message: FromWorker| writer.send(&encode(&message).unwrap(), &[]).unwrap();
    let (protocol, build) = (link::PROTOCOL, BUILD.to_owned());
    match kind.as_str() {
        "wrong-nonce" => say(FromWorker::Hello(Hello { protocol, build, nonce: "guessed".into() })),
        "wrong-build" => say(FromWorker::Hello(Hello { protocol, build: "another build".into(), nonce })),
        "silent" => {}
        "deaf" | "last-words" => {
            say(FromWorker::Hello(Hello { protocol, build, nonce }));
            say(FromWorker::Confined { sandbox: "none".into() });
            let mut reader = blocking::Reader::new(channel);
            while let Some(received) = reader.receive::<ToWorker>().unwrap() {
                match received.message {
                    ToWorker::Load(load) => {
                        say(FromWorker::Ready(ready(load.threads)));
                        if kind == "deaf" {
                            break;
                        }
                    }
                    ToWorker::Generate(request) => {
                        last_words(request.id, say);
                        return ExitCode::SUCCESS;
                    }
                    _ => {}
                }
            }
        }
        other => panic!("no impostor {other}"),
    }
    // Reads nothing any more, and waits for a signal.
    let (_keep, never) = mpsc::channel::<()>();
    let _ = never.recv();
    ExitCode::SUCCESS
}

fn ready(threads: u32) -> Ready {
    let (device, served_by) = ("cpu".to_owned(), "nobody".to_owned());
    Ready { facts: crate::ballast::facts(1), context: 512, threads, device, served_by }
}

/// A whole answer, after which the process ends at once.
fn last_words(id: u64, say: impl Fn(FromWorker)) {
    say(FromWorker::Started { id, prompt_tokens: 1, cached_tokens: 0 });
    for seq in 0..supervisor::CREDITS {
        say(FromWorker::Token { id, seq, text: "word ".into() });
    }
    let (usage, timings) = (Usage::default(), Timings::default());
    say(FromWorker::Done { id, text: String::new(), finish: Finish::Stop, usage, timings });
}
