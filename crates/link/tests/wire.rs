//! The codec, by property: every message survives the wire however it is split, and no bytes make a reader panic.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs::File, os::fd::OwnedFd};

use link::{
    Class, Decoder, Embed, ErrorCode, Facts, FileRole, Finish, Footprint, FromWorker, Generate, Hello, Load,
    Message, Order, Prompt, Ready, Role, Sampling, Stage, Timings, ToWorker, Turn, Usage, WireError, encode,
};
use proptest::{collection::vec, option, prelude::*};

fn role() -> impl Strategy<Value = FileRole> {
    prop_oneof![
        any::<u16>().prop_map(|part| FileRole::Gguf { part }),
        Just(FileRole::Safetensors),
        Just(FileRole::Config),
        Just(FileRole::Tokenizer),
    ]
}

fn turn() -> impl Strategy<Value = Turn> {
    let role = prop_oneof![Just(Role::System), Just(Role::User), Just(Role::Assistant), Just(Role::Tool)];
    (role, ".*").prop_map(|(role, content)| Turn { role, content })
}

fn generate() -> impl Strategy<Value = ToWorker> {
    let prompt = prop_oneof![vec(turn(), 0..4).prop_map(Prompt::Chat), ".*".prop_map(Prompt::Text)];
    let numbers = (0.0_f32..2.0, any::<u32>(), any::<u64>(), option::of(any::<u32>()), any::<bool>());
    (any::<u64>(), ".*", prompt, numbers, vec(".*", 0..4), any::<u32>()).prop_map(
        |(id, session, prompt, (f, top_k, seed, max_tokens, ignore_eos), stop, credits)| {
            let sampling = Sampling {
                temperature: f,
                top_k,
                top_p: f / 2.0,
                min_p: f / 4.0,
                repeat_penalty: f,
                frequency_penalty: -f,
                presence_penalty: f,
                seed,
                max_tokens,
                stop,
                ignore_eos,
            };
            ToWorker::Generate(Generate { id, session, prompt, sampling, credits })
        },
    )
}

fn to_worker() -> impl Strategy<Value = ToWorker> {
    let hello = (any::<u32>(), ".*", ".*");
    prop_oneof![
        hello.prop_map(|(protocol, build, nonce)| ToWorker::Hello(Hello { protocol, build, nonce })),
        vec(role(), 0..3).prop_map(|files| ToWorker::Inspect(Order { files })),
        (".*", vec(role(), 0..3), option::of(any::<u32>()), any::<u32>()).prop_map(
            |(model, files, context, threads)| ToWorker::Load(Load { model, files, context, threads })
        ),
        generate(),
        (any::<u64>(), vec(".*", 0..4)).prop_map(|(id, texts)| ToWorker::Embed(Embed { id, texts })),
        any::<(u64, u32)>().prop_map(|(id, tokens)| ToWorker::Credit { id, tokens }),
        any::<u64>().prop_map(|id| ToWorker::Cancel { id }),
        ".*".prop_map(|session| ToWorker::EndSession { session }),
        any::<u32>().prop_map(|n| ToWorker::Threads { n }),
        any::<u64>().prop_map(|n| ToWorker::Ping { n }),
        Just(ToWorker::Shutdown),
    ]
}

fn facts() -> impl Strategy<Value = Facts> {
    (any::<(bool, bool, u64, u32, u32)>(), ".*", ".*", option::of(".*")).prop_map(
        |((embedding, has_template, parameters, context, layers), family, quantization, name)| Facts {
            embedding,
            family,
            quantization,
            name,
            parameters,
            context,
            has_template,
            layers,
            width: layers / 2,
            vocabulary: context / 2,
            footprint: Footprint {
                weights_bytes: parameters,
                mapped_bytes: parameters / 2,
                kv_bytes_per_token: 7,
                scratch_bytes: parameters / 3,
                runtime_bytes: 1,
            },
        },
    )
}

fn from_worker() -> impl Strategy<Value = FromWorker> {
    let stage = prop_oneof![Just(Stage::Header), Just(Stage::Tokenizer), Just(Stage::Weights)];
    let finish = prop_oneof![Just(Finish::Stop), Just(Finish::Length), Just(Finish::Cancelled)];
    let code =
        prop_oneof![Just(ErrorCode::BadFile), Just(ErrorCode::Unsupported), Just(ErrorCode::OutOfMemory)];
    prop_oneof![
        (any::<u32>(), ".*", ".*").prop_map(|(protocol, build, nonce)| FromWorker::Hello(Hello {
            protocol,
            build,
            nonce
        })),
        ".*".prop_map(|sandbox| FromWorker::Confined { sandbox }),
        facts().prop_map(FromWorker::Facts),
        (stage, any::<(u64, u64)>()).prop_map(|(stage, (done, total))| FromWorker::Progress {
            stage,
            done,
            total
        }),
        (facts(), any::<(u32, u32)>(), ".*").prop_map(|(facts, (context, threads), device)| {
            FromWorker::Ready(Ready { facts, context, threads, served_by: device.clone(), device })
        }),
        any::<(u64, u32, u32)>().prop_map(|(id, prompt_tokens, cached_tokens)| FromWorker::Started {
            id,
            prompt_tokens,
            cached_tokens
        }),
        (any::<(u64, u32)>(), ".*").prop_map(|((id, seq), text)| FromWorker::Token { id, seq, text }),
        (any::<(u64, u32, u64)>(), ".*", finish).prop_map(|((id, n, us), text, finish)| FromWorker::Done {
            id,
            text,
            finish,
            usage: Usage { prompt_tokens: n, completion_tokens: n / 2, cached_tokens: n / 3 },
            timings: Timings { prefill_us: us, decode_us: us / 2 },
        }),
        (any::<(u64, u32, u32)>(), vec(-1.0_f32..1.0, 0..64)).prop_map(
            |((id, prompt_tokens, width), numbers)| FromWorker::Embedded {
                id,
                width,
                numbers,
                prompt_tokens
            }
        ),
        (option::of(any::<u64>()), code, ".*").prop_map(|(id, code, message)| FromWorker::Error {
            id,
            code,
            message
        }),
        (".*", any::<u64>()).prop_map(|(session, bytes)| FromWorker::Held { session, bytes }),
        (".*", any::<u64>())
            .prop_map(|(session, released_bytes)| FromWorker::SessionEnded { session, released_bytes }),
        any::<(u64, u64)>().prop_map(|(n, step)| FromWorker::Pong { n, step }),
        any::<u64>().prop_map(|bytes| FromWorker::Peak { bytes }),
        any::<(u64, u64, bool)>().prop_map(|(grown_bytes, kept_bytes, full)| FromWorker::AtRest {
            grown_bytes,
            kept_bytes,
            full
        }),
    ]
}

fn some_file() -> OwnedFd {
    File::open("/proc/self/exe").unwrap().into()
}

/// Sends the messages through a decoder in pieces of these lengths (the last one again and again). A frame's
/// descriptors come with its first byte, as from a socket.
fn through<M: Message + Clone>(messages: &[M], pieces: &[usize]) -> Vec<M> {
    let (mut bytes, mut starts) = (Vec::new(), Vec::new());
    let mut decoder = Decoder::default();
    for message in messages {
        starts.push((bytes.len(), message.descriptors()));
        bytes.extend(encode(message).unwrap());
    }
    let (mut out, mut from, mut at) = (Vec::new(), 0, 0);
    while from < bytes.len() {
        let to = bytes.len().min(from + pieces[at.min(pieces.len() - 1)]);
        at += 1;
        for (_, descriptors) in starts.iter().filter(|(start, _)| (from..to).contains(start)) {
            decoder.push_descriptors((0..*descriptors).map(|_| some_file()));
        }
        decoder.push(&bytes[from..to]);
        from = to;
        while let Some(received) = decoder.take::<M>().unwrap() {
            assert_eq!(received.descriptors.len(), received.message.descriptors());
            out.push(received.message);
        }
    }
    assert!(decoder.is_between_frames());
    out
}

proptest! {
    #[test]
    fn every_word_to_the_worker_survives_the_wire_split_anywhere(
        messages in vec(to_worker(), 1..6),
        pieces in vec(1_usize..300, 1..20),
    ) {
        prop_assert_eq!(through(&messages, &pieces), messages);
    }

    #[test]
    fn every_word_of_the_worker_survives_the_wire_split_anywhere(
        messages in vec(from_worker(), 1..6),
        pieces in vec(1_usize..300, 1..20),
    ) {
        prop_assert_eq!(through(&messages, &pieces), messages);
    }

    #[test]
    fn garbage_never_panics_and_never_allocates_on_its_word(
        bytes in vec(any::<u8>(), 0..2000),
        pieces in vec(1_usize..100, 1..20),
    ) {
        let mut decoder = Decoder::default();
        let (mut rest, mut at) = (bytes.as_slice(), 0);
        'reading: while !rest.is_empty() {
            let piece = pieces[at % pieces.len()].min(rest.len());
            at += 1;
            decoder.push(&rest[..piece]);
            rest = &rest[piece..];
            loop {
                match decoder.take::<FromWorker>() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => break 'reading,
                }
            }
        }
    }

    #[test]
    fn a_damaged_frame_is_an_error_or_another_message_and_never_a_panic(
        message in to_worker(), at in any::<prop::sample::Index>(), flip in 1_u8..,
    ) {
        let mut frame = encode(&message).unwrap();
        let at = at.index(frame.len());
        frame[at] ^= flip;
        let mut decoder = Decoder::default();
        decoder.push(&frame);
        while let Ok(Some(_)) = decoder.take::<ToWorker>() {}
    }
}

fn refused(bytes: &[u8]) -> WireError {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    decoder.take::<ToWorker>().unwrap_err()
}

#[test]
fn a_length_is_refused_before_its_body_has_come() {
    let announced = |length: usize, class: u8| {
        let mut head = u32::try_from(length).unwrap().to_le_bytes().to_vec();
        head.push(class);
        head
    };
    let over = |class: Class| class.limit() + 1;
    assert!(matches!(refused(&announced(over(Class::Control), 0)), WireError::Oversize { .. }));
    assert!(matches!(refused(&announced(over(Class::Data), 1)), WireError::Oversize { .. }));
    assert!(matches!(refused(&announced(u32::MAX as usize, 1)), WireError::Oversize { .. }));
    assert!(matches!(refused(&announced(1, 2)), WireError::UnknownClass(2)));
}

#[test]
fn a_message_that_is_too_long_is_refused_where_it_is_made() {
    let long = FromWorker::Token { id: 1, seq: 0, text: "x".repeat(Class::Control.limit()) };
    assert!(matches!(encode(&long), Err(WireError::Oversize { .. })));
    let many = ToWorker::Inspect(Order { files: vec![FileRole::Config; link::MAX_DESCRIPTORS + 1] });
    assert!(matches!(encode(&many), Err(WireError::Descriptors { .. })));
}

#[test]
fn bytes_after_a_message_and_a_wrong_class_are_refused() {
    let mut frame = encode(&ToWorker::Shutdown).unwrap();
    frame[4] = 1;
    assert!(matches!(refused(&frame), WireError::Malformed(_)));
    frame[4] = 0;
    frame[0] += 1;
    frame.push(0);
    assert!(matches!(refused(&frame), WireError::Malformed(_)));
}

#[test]
fn descriptors_that_nobody_named_are_refused_and_so_are_missing_ones() {
    let frame = encode(&ToWorker::Inspect(Order { files: vec![FileRole::Config] })).unwrap();
    assert!(matches!(refused(&frame), WireError::Descriptors { named: 1, came: 0 }));

    let mut decoder = Decoder::default();
    decoder.push_descriptors([some_file()]);
    decoder.push(&encode(&ToWorker::Shutdown).unwrap());
    assert!(decoder.take::<ToWorker>().unwrap().is_some());
    assert!(matches!(decoder.take::<ToWorker>(), Err(WireError::Descriptors { named: 0, came: 1 })));
}
