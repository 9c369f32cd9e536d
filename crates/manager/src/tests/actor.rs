//! The manager as a whole: handles, leases and the actor, in paused time.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::join_all, poll};
use protocol::{
    CleanUp, CleanUpScope, Code, EventKind, Host, IdleTimeout, ModelState, RequestState, ServerState, Verdict,
};
use tokio::time::timeout;

use super::{
    doubles::{Running, TestInstance, TestLauncher, run, run_after},
    rig::{MIB, config, id, measured, pid, session, shelf, wish},
};
use crate::{
    Desk, LoadWish, Note,
    ports::{Epoch, MemorySample, News, RamTotals},
};

async fn obliging() -> Running {
    run(config(), TestLauncher::obliging(), vec![shelf("a", 100), shelf("b", 100)]).await
}

fn load() -> LoadWish {
    LoadWish { idle_timeout: None, context: None, wait: true, anyway: false, by: "a test".to_owned() }
}

fn state(desk: &Desk, model: &str) -> ModelState {
    desk.snapshot().models.iter().find(|m| m.id == id(model)).unwrap().state
}

fn sample(workers: Vec<(u32, u64)>) -> Option<Arc<MemorySample>> {
    Some(Arc::new(MemorySample {
        wall_ms: 5,
        begun: Duration::from_millis(5),
        host: Host {
            memory_total_bytes: 4000 * MIB,
            memory_available_bytes: 3000 * MIB,
            swap_used_bytes: 0,
            cpu_count: 2,
            cpu_percent: 0.0,
            pressure: None,
        },
        ram: RamTotals { total: 4000 * MIB, free: 3000 * MIB, anonymous: 900 * MIB, ..RamTotals::default() },
        server: Some(measured(10)),
        workers: workers.into_iter().map(|(pid, mib)| (pid, measured(mib))).collect(),
        spare: None,
        gpus: vec![],
        gpu_absent: None,
        gpu_uses: vec![],
    }))
}

#[tokio::test(start_paused = true)]
async fn what_was_measured_before_the_start_is_shown_at_once() {
    let house = run_after(sample(vec![]), config(), TestLauncher::obliging(), vec![]).await;
    let mut samples = house.handle.desk().samples();
    let shown = timeout(Duration::from_millis(1), samples.wait_for(|sample| sample.host.is_some())).await;
    assert!(shown.is_ok(), "the first numbers wait for the second look at the machine");
}

#[tokio::test(start_paused = true)]
async fn a_lease_gives_the_instance_and_its_drop_gives_it_back() {
    let house = obliging().await;
    let desk = house.handle.desk();
    let lease = house.handle.lease(wish("a")).await.unwrap();
    assert_eq!(lease.instance(), &TestInstance(Epoch(1)));
    assert_eq!((lease.queue_ms(), lease.load_ms()), (0, Some(0)));
    let snapshot = desk.snapshot();
    assert_eq!((snapshot.models[0].in_flight, snapshot.requests.len()), (1, 1));
    lease.meter().set_state(RequestState::Decode);
    lease.meter().set_prompt_tokens(9);
    lease.meter().add_completion_tokens(4);
    let mut samples = desk.samples();
    house.samples.send_replace(sample(vec![]));
    samples.changed().await.unwrap();
    let request = desk.snapshot().requests[0].clone();
    assert_eq!((request.prompt_tokens, request.completion_tokens), (9, 4));
    assert_eq!(request.state, RequestState::Decode);
    let mut changes = desk.changes();
    changes.mark_unchanged();
    drop(lease);
    changes.changed().await.unwrap();
    assert_eq!(desk.snapshot().models[0].in_flight, 0);
    assert!(desk.snapshot().requests.is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_stops_waiting_leaves_the_queue() {
    let house = run(config(), TestLauncher::default(), vec![shelf("a", 100)]).await;
    let desk = house.handle.desk();
    let mut gone = Box::pin(house.handle.lease(wish("a")));
    let mut stays = Box::pin(house.handle.lease(wish("a")));
    assert!(poll!(&mut gone).is_pending() && poll!(&mut stays).is_pending());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(desk.snapshot().models[0].queued, 2);
    drop(gone);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(desk.snapshot().models[0].queued, 1);
    house.launcher.come_ready(Epoch(1));
    let lease = stays.await.unwrap();
    assert_eq!(lease.load_ms(), Some(2));
    assert_eq!(desk.snapshot().models[0].in_flight, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_granted_to_somebody_who_has_just_left_comes_back() {
    let house = run(config(), TestLauncher::default(), vec![shelf("a", 100)]).await;
    let mut gone = Box::pin(house.handle.lease(wish("a")));
    assert!(poll!(&mut gone).is_pending());
    tokio::time::sleep(Duration::from_millis(1)).await;
    house.launcher.come_ready(Epoch(1));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(house.handle.desk().snapshot().models[0].in_flight, 1);
    drop(gone);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(house.handle.desk().snapshot().models[0].in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_model_goes_by_itself_within_a_second_of_its_deadline() {
    let house = obliging().await;
    let desk = house.handle.desk();
    let mut ledger = desk.ledger();
    let wish = LoadWish { idle_timeout: Some(IdleTimeout::After { ms: 5000 }), ..load() };
    let model = desk.load(id("a"), wish).await.unwrap();
    assert_eq!(model.unload_at.unwrap().unix_ms(), 1_005_000);
    tokio::time::sleep(Duration::from_millis(4999)).await;
    assert_eq!(state(desk, "a"), ModelState::Ready);
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(state(desk, "a"), ModelState::Unloaded);
    assert_eq!(ledger.recv().await.unwrap().kind, EventKind::Load);
    let event = ledger.recv().await.unwrap();
    assert_eq!((event.kind, event.asked_by.as_str()), (EventKind::Unload, "idle timer"));
    assert_eq!(event.receipt.as_ref().unwrap().id, event.id);
    assert_eq!(desk.snapshot().receipts[0].id, event.id);
}

#[tokio::test(start_paused = true)]
async fn reading_resets_no_timer_and_changes_nothing() {
    let house = obliging().await;
    let desk = house.handle.desk();
    let wish = LoadWish { idle_timeout: Some(IdleTimeout::After { ms: 5000 }), ..load() };
    desk.load(id("a"), wish).await.unwrap();
    let sequence = desk.snapshot().sequence;
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let _ = (desk.snapshot(), desk.ledger());
        if state(desk, "a") == ModelState::Ready {
            assert_eq!(desk.snapshot().sequence, sequence);
        }
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(state(desk, "a"), ModelState::Unloaded);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_answered_sees_the_new_state_already() {
    let house = obliging().await;
    let desk = house.handle.desk();
    for _ in 0..50 {
        desk.load(id("a"), load()).await.unwrap();
        assert_eq!(state(desk, "a"), ModelState::Ready);
        let receipt = desk.unload(id("a"), false, "a test".to_owned()).await.unwrap();
        assert_eq!(state(desk, "a"), ModelState::Unloaded);
        assert_eq!(desk.snapshot().receipts[0], receipt);
        assert_eq!(*desk.workers().borrow(), [0_u32; 0]);
    }
    assert_eq!(desk.snapshot().receipts.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_cut_request_hears_why_and_its_late_lease_harms_nobody() {
    let house = run(config(), TestLauncher::default(), vec![shelf("a", 100)]).await;
    let desk = house.handle.desk().clone();
    let (lease, ()) = tokio::join!(house.handle.lease(wish("a")), async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        house.launcher.come_ready(Epoch(1));
    });
    let lease = lease.unwrap();
    let mut unload = Box::pin(desk.unload(id("a"), true, "this page".to_owned()));
    assert!(poll!(&mut unload).is_pending());
    lease.meter().cancelled().cancelled().await;
    assert_eq!(lease.meter().why().unwrap().code, Code::CutOff);
    assert_eq!(house.launcher.cancels(), [Epoch(1)]);
    assert!(house.launcher.stops().is_empty());
    tokio::time::sleep(Duration::from_millis(2001)).await;
    assert_eq!(house.launcher.stops().len(), 1);
    house.launcher.come_back(Epoch(1));
    let receipt = unload.await.unwrap();
    assert_eq!((receipt.verdict, receipt.cut_off_requests), (Verdict::Returned, 1));
    drop(lease);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(state(&desk, "a"), ModelState::Unloaded);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_cancelled_by_its_id() {
    let house = obliging().await;
    let lease = house.handle.lease(wish("a")).await.unwrap();
    assert!(house.handle.desk().cancel_request("r").await);
    assert!(lease.meter().cancelled().is_cancelled());
    assert_eq!(lease.meter().state(), RequestState::Cancelling);
    assert!(!house.handle.desk().cancel_request("another").await);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_is_answered_when_its_request_has_ended_and_at_the_latest_after_a_second() {
    let house = obliging().await;
    let desk = house.handle.desk();
    let lease = house.handle.lease(wish("a")).await.unwrap();
    let began = tokio::time::Instant::now();
    assert!(desk.cancel_request("r").await);
    assert!((1_000..1_100).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(desk.snapshot().requests[0].state, RequestState::Cancelling);
    let mut again = Box::pin(desk.cancel_request("r"));
    assert!(poll!(&mut again).is_pending());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(poll!(&mut again).is_pending());
    drop(lease);
    assert!(again.await);
    assert!(desk.snapshot().requests.is_empty());
    assert!(began.elapsed().as_millis() < 1_500);
}

#[tokio::test(start_paused = true)]
async fn a_dead_worker_takes_only_its_own_requests_along() {
    let house = run(config(), TestLauncher::default(), vec![shelf("a", 100), shelf("b", 100)]).await;
    let both = join_all([house.handle.lease(wish("a")), house.handle.lease(wish("b"))]);
    let (leases, ()) = tokio::join!(both, async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        house.launcher.running().into_iter().for_each(|epoch| house.launcher.come_ready(epoch));
    });
    let leases: Vec<_> = leases.into_iter().map(Result::unwrap).collect();
    house.launcher.die(leases[0].instance().0);
    leases[0].meter().cancelled().cancelled().await;
    assert_eq!(leases[0].meter().why().unwrap().code, Code::WorkerDied);
    assert!(!leases[1].meter().cancelled().is_cancelled());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(state(house.handle.desk(), "b"), ModelState::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_measurement_reaches_the_books_the_models_and_the_speeds() {
    let house = obliging().await;
    let desk = house.handle.desk();
    let lease = house.handle.lease(wish("a")).await.unwrap();
    let worker = pid(lease.instance().0);
    assert_eq!(*desk.workers().borrow(), [worker]);
    let mut samples = desk.samples();
    tokio::time::sleep(Duration::from_secs(2)).await;
    lease.meter().add_completion_tokens(50);
    house.samples.send_replace(sample(vec![(worker, 40), (4, 500)]));
    samples.changed().await.unwrap();
    let shown = samples.borrow_and_update().clone();
    assert_eq!(shown.models[0].memory.as_ref().unwrap().private_bytes, 40 * MIB);
    assert_eq!(shown.models[0].tokens_per_second, Some(25.0));
    assert_eq!(shown.books[0].models_bytes, Some(40 * MIB));
    assert_eq!(desk.snapshot().server.private_bytes, Some(10 * MIB));
    tokio::time::sleep(Duration::from_secs(1)).await;
    house.samples.send_replace(sample(vec![(worker, 40)]));
    samples.changed().await.unwrap();
    assert_eq!(samples.borrow().models[0].tokens_per_second, None, "nothing is being decoded");
}

#[tokio::test(start_paused = true)]
async fn sequences_grow_and_only_the_life_cycle_counts_as_a_change() {
    let house = obliging().await;
    let desk = house.handle.desk();
    assert!(desk.snapshot().sequence > 1_000_000, "it starts at the server's start in Unix milliseconds");
    let (mut changes, mut samples) = (desk.changes(), desk.samples());
    changes.mark_unchanged();
    house.samples.send_replace(sample(vec![]));
    samples.changed().await.unwrap();
    assert!(changes.has_changed().is_ok_and(|changed| !changed));
    let before = desk.snapshot().sequence;
    assert!(before > samples.borrow().sequence);
    desk.pin(id("a"), true, "a test".to_owned()).await.unwrap();
    assert!(changes.has_changed().unwrap());
    assert_eq!(*changes.borrow_and_update(), desk.snapshot().sequence);
    assert!(desk.snapshot().sequence > before);
}

#[tokio::test(start_paused = true)]
async fn a_clean_up_unloads_what_is_idle_and_reports_what_it_kept() {
    let house = obliging().await;
    let desk = house.handle.desk();
    desk.load(id("a"), load()).await.unwrap();
    let _busy = house.handle.lease(wish("b")).await.unwrap();
    let dry = desk.clean_up(CleanUpScope::All, false, true, "a test".to_owned()).await.unwrap();
    let CleanUp::Dry { would_unload, kept } = dry else { panic!("not dry") };
    assert_eq!((would_unload[0].model.as_str(), would_unload[0].expected_bytes), ("a", Some(33 * MIB)));
    assert_eq!((kept[0].model.as_str(), kept[0].reason.as_str()), ("b", "1 request in flight"));
    let done = desk.clean_up(CleanUpScope::Idle, true, false, "a test".to_owned()).await.unwrap();
    let CleanUp::Done { receipts, kept } = done else { panic!("dry") };
    assert_eq!((receipts.len(), kept.len()), (1, 1), "force means nothing where only the idle are looked at");
    assert_eq!(state(desk, "b"), ModelState::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_reload_answers_with_the_receipt_and_the_new_instance() {
    let house = obliging().await;
    let desk = house.handle.desk();
    desk.load(id("a"), load()).await.unwrap();
    desk.load(id("b"), load()).await.unwrap();
    let reloaded = desk.reload(id("a"), "a test".to_owned()).await.unwrap();
    assert_eq!(reloaded.receipt.verdict, Verdict::Returned);
    assert_eq!(reloaded.model.instances[0].epoch, 3);
    let all = desk.reload_all("a test".to_owned()).await;
    assert!(all.len() == 2 && all.iter().all(|(_, outcome)| outcome.is_ok()));
    let receipts = desk.unload_all(false, "a test".to_owned()).await;
    assert_eq!(receipts.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_everything_and_refuses_the_rest() {
    let house = obliging().await;
    let desk = house.handle.desk();
    desk.load(id("a"), load()).await.unwrap();
    let lease = house.handle.lease(wish("b")).await.unwrap();
    let mut stop = Box::pin(desk.shut_down());
    assert!(poll!(&mut stop).is_pending());
    let late = house.handle.lease(wish("a")).await;
    assert_eq!(late.unwrap_err().code, Code::Draining);
    assert_eq!(desk.snapshot().server.state, ServerState::Draining);
    lease.meter().cancelled().cancelled().await;
    drop(lease);
    stop.await;
    assert!(house.launcher.running().is_empty());
    assert!(desk.snapshot().models.iter().all(|model| !model.state.holds_memory()));
}

#[tokio::test(start_paused = true)]
async fn the_manager_ends_when_nobody_can_reach_it_any_more() {
    let Running { handle, launcher, samples, actor } = obliging().await;
    let lease = handle.lease(wish("a")).await.unwrap();
    drop((handle, launcher, samples));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!actor.is_finished(), "a lease is out");
    drop(lease);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!actor.is_finished(), "a model is loaded");
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert!(actor.is_finished());
}

#[tokio::test(start_paused = true)]
async fn after_the_managers_end_every_ask_is_refused_with_a_reason() {
    let house = obliging().await;
    house.actor.abort();
    let _ = house.actor.await;
    assert_eq!(house.handle.lease(wish("a")).await.unwrap_err().code, Code::Draining);
    assert_eq!(house.handle.desk().load(id("a"), load()).await.unwrap_err().code, Code::Draining);
    house.handle.desk().shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_happened_outside_goes_into_the_same_ledger() {
    let house = obliging().await;
    let desk = house.handle.desk();
    let mut ledger = desk.ledger();
    desk.load(id("a"), load()).await.unwrap();
    desk.note(Note {
        kind: EventKind::Disk,
        model: Some(id("a")),
        reason: "fetched".to_owned(),
        by: "a test".to_owned(),
        bytes_before: Some(7),
        bytes_after: Some(98 * MIB),
        detail: String::new(),
    })
    .await;
    let (load, note) = (ledger.try_recv().unwrap(), ledger.try_recv().unwrap());
    assert_eq!((load.id, load.kind), (1, EventKind::Load));
    assert_eq!((note.id, note.kind), (2, EventKind::Disk));
    assert_eq!((note.bytes_before, note.bytes_after), (Some(7), Some(98 * MIB)));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_is_forgotten_by_the_instance_that_keeps_something_for_it() {
    let house = obliging().await;
    let desk = house.handle.desk();
    let mut asked = wish("a");
    asked.session = Some(session("cookie"));
    let lease = house.handle.lease(asked).await.unwrap();
    let epoch = lease.instance().0;
    house.launcher.tell(epoch, News::Held { session: "cookie".to_owned(), bytes: 7 });
    drop(lease);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let shown = desk.snapshot().sessions[0].clone();
    assert_eq!((shown.held_bytes, shown.label.as_str()), (7, "browser"));
    assert_ne!(shown.id, "cookie");
    assert!(desk.end_session(&shown.id, "a test".to_owned()).await);
    assert_eq!(house.launcher.ended(), [(epoch, "cookie".to_owned())]);
    assert!(desk.snapshot().sessions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn many_clients_at_once_all_get_their_turn() {
    let house = run(config(), TestLauncher::obliging(), vec![shelf("a", 100)]).await;
    let clients = (0..32).map(|n| {
        let handle = house.handle.clone();
        async move {
            let lease = handle.lease(wish("a")).await?;
            tokio::time::sleep(Duration::from_millis(10 + n)).await;
            drop(lease);
            Ok::<_, protocol::Problem>(())
        }
    });
    let outcomes = join_all(clients).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(house.handle.desk().snapshot().models[0].in_flight, 0);
    assert!(house.handle.lease(wish("a")).now_or_never().is_none(), "an ask takes a turn of the actor");
}
