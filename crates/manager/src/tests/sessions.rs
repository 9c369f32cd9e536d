//! Sessions: who uses models, until when, and what goes with them.

use protocol::{Code, EventKind, IdleTimeout, ModelState, Reason, SessionKind};

use super::rig::{MIB, Rig, id, session, wish};
use crate::{
    desk::Defaults,
    event::{Action, Answer, Event, Heard, Ticket},
    lease::LeaseWish,
    sessions::MOST,
};

fn of(key: &str, model: &str) -> LeaseWish {
    LeaseWish { session: Some(session(key)), ..wish(model) }
}

/// A session uses a model and is done with it.
fn used(rig: &mut Rig, key: &str, model: &str) -> Ticket {
    let lease = rig.lease_as(of(key, model));
    if rig.waits(lease) {
        rig.come_ready(model);
    }
    rig.back(lease, model);
    lease
}

fn page(rig: &mut Rig, key: &str, open: bool) {
    let (key, label) = (key.to_owned(), "browser".to_owned());
    rig.happen(Event::Presence { key, kind: SessionKind::Browser, label, open });
}

fn end(rig: &mut Rig, id: &str) -> Answer {
    let ticket = rig.ticket();
    rig.happen(Event::EndSession { ticket, id: id.to_owned(), by: "a person".to_owned() });
    rig.told(ticket)
}

fn sessions(rig: &Rig) -> Vec<protocol::Session> {
    let snapshot = crate::view::snapshot(&rig.house, 1, &crate::view::Counters::new(), Vec::new(), rig.now);
    snapshot.sessions
}

#[test]
fn when_the_last_session_of_a_model_has_ended_the_model_goes_a_minute_later() {
    let mut rig = Rig::new();
    used(&mut rig, "one", "a");
    rig.pass_ms(100_000);
    used(&mut rig, "two", "a");
    assert_eq!(rig.goes_in_s("a"), Some(360), "the page says so from the beginning");
    rig.pass_ms(299_999);
    assert_eq!(sessions(&rig).len(), 1, "the first has ended, the second has not");
    rig.pass_ms(1);
    assert!(sessions(&rig).is_empty());
    rig.pass_ms(59_999);
    assert_eq!(rig.state("a"), ModelState::Ready);
    rig.pass_ms(1);
    assert_eq!(rig.state("a"), ModelState::Unloading);
    rig.come_back("a");
    let receipt = &rig.house.receipts[0];
    assert_eq!((receipt.reason, receipt.asked_by.as_str()), (Reason::Idle, protocol::LAST_SESSION));
}

#[test]
fn the_idle_timeout_still_rules_where_it_comes_first() {
    let mut rig = Rig::new();
    rig.idle_timeout("a", IdleTimeout::After { ms: 10_000 });
    used(&mut rig, "one", "a");
    assert_eq!(rig.goes_in_s("a"), Some(10));
    rig.pass_ms(10_000);
    assert_eq!(rig.state("a"), ModelState::Unloading);
}

#[test]
fn the_end_of_a_session_takes_no_model_that_shall_stay() {
    let mut rig = Rig::new();
    used(&mut rig, "one", "a");
    rig.pin("a", true);
    rig.idle_timeout("b", IdleTimeout::Never);
    used(&mut rig, "one", "b");
    let mut asked = of("one", "c");
    asked.idle_timeout = Some(IdleTimeout::After { ms: 3_600_000 });
    let lease = rig.lease_as(asked);
    rig.come_ready("c");
    rig.back(lease, "c");
    rig.pass_ms(3_000_000);
    for model in ["a", "b", "c"] {
        assert_eq!(rig.state(model), ModelState::Ready, "{model}");
    }
    assert_eq!(rig.goes_in_s("c"), Some(600), "what a request said rules this instance");
}

#[test]
fn a_session_whose_request_runs_does_not_end_and_is_shown_without_an_end() {
    let mut rig = Rig::new();
    rig.loaded("a");
    let lease = rig.lease_as(of("one", "a"));
    rig.pass_ms(1_000_000);
    assert_eq!(sessions(&rig)[0].ends_at, None);
    rig.back(lease, "a");
    let shown = &sessions(&rig)[0];
    assert_eq!(shown.ends_at.unwrap().unix_ms(), rig.now.wall_ms + 300_000);
    assert_eq!((shown.requests, shown.model.as_ref()), (1, Some(&id("a"))));
}

#[test]
fn when_a_browsers_last_page_closes_its_session_ends_and_its_model_follows() {
    let mut rig = Rig::new();
    page(&mut rig, "one", true);
    page(&mut rig, "one", true);
    used(&mut rig, "one", "a");
    page(&mut rig, "one", false);
    assert_eq!(rig.goes_in_s("a"), Some(900), "a page is open: only the idle timeout counts");
    page(&mut rig, "one", false);
    assert_eq!(rig.goes_in_s("a"), Some(90));
    rig.pass_ms(30_000);
    assert!(sessions(&rig).is_empty());
    rig.pass_ms(60_000);
    assert_eq!(rig.state("a"), ModelState::Unloading);
}

#[test]
fn an_open_page_keeps_a_session_known_and_no_model_busy() {
    let mut rig = Rig::new();
    page(&mut rig, "one", true);
    used(&mut rig, "one", "a");
    rig.pass_ms(900_000);
    assert_eq!(rig.state("a"), ModelState::Unloading);
    assert_eq!(sessions(&rig).len(), 1);
}

#[test]
fn a_page_that_closes_in_the_middle_of_an_answer_ends_its_session_half_a_minute_later() {
    let mut rig = Rig::new();
    page(&mut rig, "one", true);
    rig.loaded("a");
    let lease = rig.lease_as(of("one", "a"));
    page(&mut rig, "one", false);
    rig.pass_ms(10);
    rig.back(lease, "a");
    assert_eq!(rig.goes_in_s("a"), Some(90), "30 s for the session, 60 s for the model");
    rig.pass_ms(29_999);
    assert_eq!(sessions(&rig).len(), 1);
    rig.pass_ms(1);
    assert!(sessions(&rig).is_empty());
}

#[test]
fn a_session_that_is_ended_while_its_page_is_open_begins_anew_with_that_page() {
    let mut rig = Rig::new();
    page(&mut rig, "one", true);
    used(&mut rig, "one", "a");
    let epoch = rig.epoch("a");
    rig.news(epoch, Heard::Held { session: "one".to_owned(), bytes: 5 * MIB });
    let shown = sessions(&rig)[0].id.clone();
    assert_eq!(end(&mut rig, &shown), Answer::Found(true));
    assert!(rig.last.contains(&Action::EndSession { epoch, session: "one".to_owned() }));
    assert_eq!(rig.goes_in_s("a"), Some(60), "what it used is nobody's any more");
    let next = &sessions(&rig)[0];
    assert_eq!((next.id.as_str(), next.requests, next.ends_at), (shown.as_str(), 0, None));
    rig.news(epoch, Heard::Held { session: "one".to_owned(), bytes: 0 });
    rig.news(epoch, Heard::Held { session: "one".to_owned(), bytes: 7 });
    assert_eq!(
        rig.last,
        [Action::EndSession { epoch, session: "one".to_owned() }],
        "it asked for nothing since"
    );
    used(&mut rig, "one", "a");
    rig.pass_ms(400_000);
    assert_eq!(sessions(&rig)[0].requests, 1, "the page is open still");
    page(&mut rig, "one", false);
    rig.pass_ms(30_000);
    assert!(sessions(&rig).is_empty());
}

#[test]
fn a_page_that_is_closed_without_having_been_opened_makes_no_session() {
    let mut rig = Rig::new();
    page(&mut rig, "one", false);
    assert!(sessions(&rig).is_empty());
}

#[test]
fn a_session_that_ends_has_its_conversation_forgotten_and_that_is_written_down() {
    let mut rig = Rig::new();
    used(&mut rig, "one", "a");
    let epoch = rig.epoch("a");
    rig.news(epoch, Heard::Held { session: "one".to_owned(), bytes: 5 * MIB });
    assert_eq!(sessions(&rig)[0].held_bytes, 5 * MIB);
    rig.pass_ms(300_000);
    assert!(rig.last.contains(&Action::EndSession { epoch, session: "one".to_owned() }));
    let event = rig.events(EventKind::Session)[0];
    assert_eq!((event.bytes_before, event.model.as_ref()), (Some(5 * MIB), Some(&id("a"))));
    assert!(!event.detail.contains("one"), "the key is nobody's business");
}

#[test]
fn what_is_kept_for_a_session_after_its_end_is_to_be_forgotten_once() {
    let mut rig = Rig::new();
    used(&mut rig, "one", "a");
    let epoch = rig.epoch("a");
    rig.pass_ms(300_000);
    let late = |rig: &mut Rig| rig.news(epoch, Heard::Held { session: "one".to_owned(), bytes: 7 });
    late(&mut rig);
    assert_eq!(rig.last, [Action::EndSession { epoch, session: "one".to_owned() }]);
    late(&mut rig);
    assert!(rig.last.is_empty(), "a worker that insists does not make us talk for ever");
}

#[test]
fn a_person_can_end_a_session_by_its_shown_name_and_its_requests_stop() {
    let mut rig = Rig::new();
    rig.loaded("a");
    let running = rig.lease_as(of("one", "a"));
    let waiting = rig.lease_as(of("one", "b"));
    let other = rig.lease_as(of("two", "b"));
    let shown = sessions(&rig)[0].id.clone();
    assert_eq!(end(&mut rig, &shown), Answer::Found(true));
    assert_eq!(rig.stopped_requests(), [running]);
    assert_eq!(rig.refusal(waiting).code, Code::Cancelled);
    assert!(rig.waits(other));
    assert_eq!(end(&mut rig, &shown), Answer::Found(false));
    assert_eq!(end(&mut rig, "two"), Answer::Found(false), "a key is no shown name");
    rig.back(running, "a");
    assert_eq!(rig.goes_in_s("a"), Some(60));
}

#[test]
fn session_times_can_be_changed_while_it_runs() {
    let mut rig = Rig::new();
    used(&mut rig, "one", "a");
    let ticket = rig.ticket();
    let defaults = Defaults {
        session_timeout: Some(IdleTimeout::After { ms: 2000 }),
        after_last_session: Some(IdleTimeout::After { ms: 1000 }),
        ..Defaults::default()
    };
    rig.happen(Event::Defaults { ticket, defaults });
    assert_eq!(rig.goes_in_s("a"), Some(3));
    rig.pass_ms(3000);
    assert_eq!(rig.state("a"), ModelState::Unloading);
}

#[test]
fn a_session_that_comes_back_in_time_keeps_its_model() {
    let mut rig = Rig::new();
    used(&mut rig, "one", "a");
    rig.pass_ms(330_000);
    used(&mut rig, "one", "a");
    assert_eq!(rig.goes_in_s("a"), Some(360));
    rig.pass_ms(100_000);
    assert_eq!(rig.state("a"), ModelState::Ready);
}

#[test]
fn requests_without_a_session_leave_only_the_idle_timeout() {
    let mut rig = Rig::new();
    rig.loaded("a");
    let lease = rig.lease("a");
    rig.back(lease, "a");
    assert_eq!(rig.goes_in_s("a"), Some(900));
}

#[test]
fn a_use_without_a_session_counts_after_the_last_session_has_ended() {
    let mut rig = Rig::new();
    used(&mut rig, "one", "a");
    let other = rig.lease("a");
    rig.pass_ms(500_000);
    rig.back(other, "a");
    assert_eq!(rig.goes_in_s("a"), Some(60));
    assert_eq!(rig.state("a"), ModelState::Ready);
}

#[test]
fn there_are_never_more_sessions_than_the_cap_and_the_busy_ones_stay() {
    let mut rig = Rig::new();
    rig.loaded("a");
    let busy = rig.lease_as(of("busy", "a"));
    for n in 0..MOST + 10 {
        rig.pass_ms(1);
        used(&mut rig, &format!("key {n}"), "a");
    }
    assert_eq!(sessions(&rig).len(), MOST);
    assert!(rig.house.sessions.uses_models("busy"));
    assert!(!rig.house.sessions.uses_models("key 0"));
    assert!(rig.house.sessions.uses_models(&format!("key {}", MOST + 9)));
    rig.back(busy, "a");
}
