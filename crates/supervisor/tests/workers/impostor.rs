//! Processes that speak the worker's protocol by hand, and not as they should.

use std::{process::ExitCode, sync::mpsc};

use link::{FromWorker, Hello, Ready, ToWorker, blocking, encode};
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
        "deaf" => {
            say(FromWorker::Hello(Hello { protocol, build, nonce }));
            say(FromWorker::Confined { sandbox: "none".into() });
            let mut reader = blocking::Reader::new(channel);
            while let Some(received) = reader.receive::<ToWorker>().unwrap() {
                if let ToWorker::Load(load) = received.message {
                    let (facts, context, threads) = (crate::ballast::facts(1), 512, load.threads);
                    say(FromWorker::Ready(Ready {
                        facts,
                        context,
                        threads,
                        device: "cpu".into(),
                        served_by: "nobody".into(),
                    }));
                    break;
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
