//! Requests: order, credit, cancel.

use std::time::Duration;

use link::Finish;
use manager::ports::{Launcher, News};
use protocol::Code;
use supervisor::{Ask, CREDITS, Event};

use crate::rig::{Rig, ask, run, soon, to_done, to_end, to_error, to_first_token};

pub(crate) fn tokens_come_in_order_and_end_once() {
    run(async {
        let mut rig = Rig::new();
        let (_, instance, _) = rig.load(1).await;
        let mut several: Vec<_> = (0..8).map(|_| instance.generate(ask("tokens 300"))).collect();
        for generation in &mut several {
            let events = to_end(generation).await;
            assert_eq!(events[0], Event::Started { prompt_tokens: 3, cached_tokens: 1 });
            for (n, event) in events[1..=300].iter().enumerate() {
                assert_eq!(*event, Event::Token { text: format!("{n} ") });
            }
            assert!(
                matches!(&events[301], Event::Done { finish: Finish::Length, usage, .. } if usage.completion_tokens == 300)
            );
        }
        rig.close().await;
    });
}

pub(crate) fn a_slow_reader_pauses_its_own_request_and_no_other() {
    run(async {
        let mut rig = Rig::new();
        let (_, instance, _) = rig.load(1).await;
        let mut unread = instance.generate(ask("tokens 1000"));
        // While nobody reads the one, others run to their end, again and again.
        for _ in 0..20 {
            assert_eq!(to_done(&mut instance.generate(ask("tokens 200"))).await, 200);
        }
        to_first_token(&mut unread).await;
        unread.cancel();
        let events = to_end(&mut unread).await;
        let Some(Event::Done { finish: Finish::Cancelled, usage, .. }) = events.last() else {
            panic!("{events:?}")
        };
        let made = usage.completion_tokens;
        assert!(
            (CREDITS..CREDITS + 2).contains(&made),
            "it made {made}: what it had credit for, and no more"
        );
        rig.close().await;
    });
}

pub(crate) fn a_cancel_ends_within_a_step() {
    run(async {
        let mut rig = Rig::new();
        let (_, instance, _) = rig.load(1).await;
        let mut generation = instance.generate(ask("slow 1000000"));
        to_first_token(&mut generation).await;
        generation.cancel();
        let events = to_end(&mut generation).await;
        assert!(matches!(events.last(), Some(Event::Done { finish: Finish::Cancelled, .. })), "{events:?}");
        assert!(events.len() < 50, "{} events after the cancel", events.len());
        rig.close().await;
    });
}

pub(crate) fn a_dropped_generation_stops_the_work() {
    run(async {
        let mut rig = Rig::new();
        let (_, instance, _) = rig.load(1).await;
        // 64 places: would one of these go on, there would be none left for the last.
        for _ in 0..200 {
            let mut generation = instance.generate(ask("slow 1000000"));
            to_first_token(&mut generation).await;
        }
        assert_eq!(to_done(&mut instance.generate(ask("tokens 5"))).await, 5);
        rig.close().await;
    });
}

pub(crate) fn cancel_all_ends_every_generation() {
    run(async {
        let mut rig = Rig::new();
        let (epoch, instance, _) = rig.load(1).await;
        let mut several: Vec<_> = (0..5).map(|_| instance.generate(ask("slow 1000000"))).collect();
        for generation in &mut several {
            to_first_token(generation).await;
        }
        rig.supervisor.cancel_all(epoch);
        for generation in &mut several {
            let events = to_end(generation).await;
            assert!(
                matches!(events.last(), Some(Event::Done { finish: Finish::Cancelled, .. })),
                "{events:?}"
            );
        }
        rig.close().await;
    });
}

pub(crate) fn a_refused_request_leaves_the_others_alone() {
    run(async {
        let mut rig = Rig::new();
        let (_, instance, _) = rig.load(1).await;
        let mut good = instance.generate(ask("tokens 500"));
        let problem = to_error(&mut instance.generate(ask("dance"))).await;
        assert_eq!((problem.code, problem.message.as_str()), (Code::BadArgument, "dance is no prompt."));
        let long = Ask { session: "x".repeat(17 << 20), ..ask("tokens 1") };
        assert_eq!(to_error(&mut instance.generate(long)).await.code, Code::TooLarge);
        assert_eq!(to_done(&mut good).await, 500);
        rig.close().await;
    });
}

pub(crate) fn more_requests_than_places_are_refused_at_once() {
    run(async {
        let mut rig = Rig::new();
        let (_, instance, _) = rig.load(1).await;
        let mut several: Vec<_> = (0..64).map(|_| instance.generate(ask("tokens 1000"))).collect();
        let problem = to_error(&mut instance.generate(ask("tokens 1"))).await;
        assert_eq!((problem.code, problem.retry_after_seconds), (Code::QueueFull, Some(1)));
        for generation in &mut several {
            assert_eq!(to_done(generation).await, 1000);
        }
        assert_eq!(to_done(&mut instance.generate(ask("tokens 1"))).await, 1);
        rig.close().await;
    });
}

pub(crate) fn vectors_come_in_the_order_of_their_texts() {
    run(async {
        let mut rig = Rig::new();
        let (_, instance, _) = rig.load(1).await;
        let texts: Vec<String> = (0..100).map(|n| "x".repeat(n)).collect();
        let vectors = soon("vectors", instance.embed(texts, std::future::pending())).await.unwrap();
        assert_eq!(vectors.prompt_tokens, 100);
        for (n, vector) in (0_u16..).zip(&vectors.vectors) {
            assert_eq!(vector[0], f32::from(n));
        }
        assert_eq!(vectors.vectors.len(), 100);
        let long = vec!["x".repeat(17 << 20)];
        assert_eq!(instance.embed(long, std::future::pending()).await.unwrap_err().code, Code::TooLarge);
        rig.close().await;
    });
}

pub(crate) fn a_session_tells_what_it_holds_and_that_it_ended() {
    run(async {
        let mut rig = Rig::new();
        let (epoch, instance, _) = rig.load(1).await;
        to_done(&mut instance.generate(Ask { session: "anna".into(), ..ask("tokens 1") })).await;
        let held = |news: &News<_>| match news {
            News::Held { session, bytes } => Some((session.clone(), *bytes)),
            _ => None,
        };
        assert_eq!(rig.news(epoch, held).await, ("anna".into(), 1000));
        rig.supervisor.end_session(epoch, "anna");
        assert_eq!(rig.news(epoch, held).await, ("anna".into(), 0));
        // A worker that has nothing to do for longer than its pings may take is still there.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(to_done(&mut instance.generate(ask("tokens 3"))).await, 3);
        rig.close().await;
    });
}
