//! Both ends over a real socket: descriptors arrive with the frame that names them, in order, and a dropped wait loses
//! nothing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::File,
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    thread,
};

use link::{
    Class, Embed, FileRole, FromWorker, Order, ToWorker, WireError,
    blocking::{Reader, Writer},
    encode,
};

fn file_with(text: &str) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.into()
}

fn text_of(file: OwnedFd) -> String {
    use std::os::unix::fs::FileExt;
    let (file, mut bytes) = (File::from(file), vec![0; 64]);
    let length = file.read_at(&mut bytes, 0).unwrap();
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

fn inspect(parts: u16) -> (Vec<u8>, Vec<OwnedFd>) {
    let files = (0..parts).map(|part| FileRole::Gguf { part }).collect();
    let descriptors = (0..parts).map(|part| file_with(&format!("part {part}"))).collect();
    (encode(&ToWorker::Inspect(Order { files })).unwrap(), descriptors)
}

fn big_embed() -> ToWorker {
    ToWorker::Embed(Embed { id: 7, texts: vec!["word ".repeat(100_000); 8] })
}

fn expect_parts(reader: &mut Reader, parts: u16) {
    let received = reader.receive::<ToWorker>().unwrap().unwrap();
    assert!(matches!(received.message, ToWorker::Inspect(_)));
    let texts: Vec<String> = received.descriptors.into_iter().map(text_of).collect();
    assert_eq!(texts, (0..parts).map(|part| format!("part {part}")).collect::<Vec<_>>());
}

#[test]
fn descriptors_arrive_with_the_frame_that_names_them() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let sender = thread::spawn(move || {
        let writer = Writer::new(ours.into());
        for parts in [3_u16, 1, 100] {
            let (frame, files) = inspect(parts);
            let beside: Vec<_> = files.iter().map(AsFd::as_fd).collect();
            writer.send(&frame, &beside).unwrap();
            writer.send(&encode(&big_embed()).unwrap(), &[]).unwrap();
        }
    });
    let mut reader = Reader::new(theirs.into());
    for parts in [3, 1, 100] {
        expect_parts(&mut reader, parts);
        assert_eq!(reader.receive::<ToWorker>().unwrap().unwrap().message, big_embed());
    }
    sender.join().unwrap();
    assert!(reader.receive::<ToWorker>().unwrap().is_none(), "closed between frames is a plain end");
}

#[test]
fn a_channel_that_closes_within_a_frame_is_cut() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let frame = encode(&big_embed()).unwrap();
    ours.write_all(&frame[..1000]).unwrap();
    drop(ours);
    let end = Reader::new(theirs.into()).receive::<ToWorker>();
    assert!(matches!(end, Err(WireError::Cut)));
}

#[test]
fn a_writer_whose_reader_is_gone_gets_an_error_and_no_signal() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let sent = Writer::new(ours.into()).send(&encode(&ToWorker::Shutdown).unwrap(), &[]);
    assert!(matches!(sent, Err(WireError::Io(_))));
}

#[test]
fn a_limit_holds_for_what_a_class_may_weigh() {
    assert!(encode(&big_embed()).unwrap().len() > Class::Control.limit());
}

#[cfg(feature = "tokio")]
mod server_end {
    use std::time::Duration;

    use link::nonblocking;

    use super::*;

    #[tokio::test]
    async fn a_dropped_wait_loses_no_byte_in_either_direction() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let worker = thread::spawn(move || {
            let (mut reader, writer) =
                (Reader::new(theirs.try_clone().unwrap().into()), Writer::new(theirs.into()));
            for parts in [2, 5] {
                expect_parts(&mut reader, parts);
                assert_eq!(reader.receive::<ToWorker>().unwrap().unwrap().message, big_embed());
            }
            for n in 0..2000 {
                writer.send(&encode(&FromWorker::Pong { n, step: n }).unwrap(), &[]).unwrap();
            }
        });
        let (mut reader, mut writer) = nonblocking::split(ours).unwrap();
        for parts in [2, 5] {
            let (frame, files) = inspect(parts);
            writer.queue(frame, files);
            writer.queue(encode(&big_embed()).unwrap(), Vec::new());
        }
        let mut seen = 0;
        loop {
            // The third branch drops both waits again and again, wherever they are.
            tokio::select! {
                flushed = writer.flush(), if !writer.is_empty() => flushed.unwrap(),
                received = reader.receive::<FromWorker>() => match received.unwrap() {
                    Some(message) => {
                        assert_eq!(message, FromWorker::Pong { n: seen, step: seen });
                        seen += 1;
                    }
                    None => break,
                },
                () = tokio::time::sleep(Duration::from_micros(50)) => {}
            }
        }
        assert_eq!(seen, 2000);
        worker.join().unwrap();
    }

    #[tokio::test]
    async fn a_worker_cannot_pass_descriptors_to_the_server() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (read_end, write_end) = std::io::pipe().unwrap();
        let (mut reader, _writer) = nonblocking::split(ours).unwrap();
        let passed: OwnedFd = write_end.into();
        let frame = encode(&FromWorker::Pong { n: 1, step: 1 }).unwrap();
        Writer::new(theirs.into()).send(&frame, &[passed.as_fd()]).unwrap();
        assert!(reader.receive::<FromWorker>().await.unwrap().is_some());
        drop(passed);
        // Were the passed end still open somewhere, this read would never end.
        let end = tokio::task::spawn_blocking(move || {
            let mut read_end = read_end;
            read_end.read(&mut [0]).unwrap()
        });
        let length = tokio::time::timeout(Duration::from_secs(5), end).await;
        assert_eq!(length.expect("the descriptor is still open").unwrap(), 0);
    }
}
