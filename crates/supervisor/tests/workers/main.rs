//! The supervisor with real processes. This program is the test, the worker that it supervises (with an engine that
//! holds ballast and does as its prompt says), impostors that only pretend to be one, and a server to be killed.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "this is the harness of its own tests")]

mod ahead;
mod ballast;
mod cycles;
mod ends;
mod house;
mod impostor;
mod isolation;
mod ladder;
mod lessons;
mod loads;
mod requests;
mod rig;
mod room;
mod server;

use std::{
    collections::VecDeque,
    process::{Command, ExitCode},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::time::Instant;

/// The build that the test server and its true workers are.
const BUILD: &str = "test build";
/// How a test ends that this machine cannot try: it is told as skipped, never as passed.
const SKIPPED: u8 = 77;
/// Tests that run beside each other: most of them wait.
const AT_ONCE: usize = 4;

macro_rules! tests {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$((stringify!($name), $module::$name as fn())),*]
    };
}

const TESTS: &[(&str, fn())] = tests![
    loads::a_load_a_generation_and_an_unload_give_back_what_was_held,
    loads::fifty_loads_and_unloads_leave_no_descriptor_and_no_zombie,
    loads::a_load_that_is_stopped_is_killed_and_released,
    loads::a_load_that_the_engine_refuses_fails_with_its_words,
    loads::a_load_that_crashes_fails_with_the_last_words_of_the_worker,
    loads::a_model_that_cannot_be_opened_fails_and_leaves_no_process,
    loads::a_worker_that_ends_while_its_files_are_being_opened_is_missed_at_once,
    loads::one_that_is_held_before_its_program_is_ended_when_it_is_not_wanted_and_holds_nobody_else,
    loads::inspection_of_a_good_file_gives_its_facts,
    loads::inspection_of_a_bad_file_gives_the_words_of_the_refusal,
    loads::inspection_that_crashes_is_an_answer_too,
    loads::a_look_whose_worker_was_killed_says_nothing_about_the_file,
    loads::a_look_that_takes_too_long_says_nothing_about_the_file,
    loads::a_look_that_takes_long_is_ended_when_the_server_stops,
    ahead::a_load_takes_the_worker_that_waits_and_another_takes_its_place,
    ahead::of_several_loads_at_once_one_gets_the_worker_that_waits_and_all_are_served,
    ahead::fifty_loads_with_a_worker_that_waits_leave_no_descriptor_and_no_zombie,
    ahead::a_worker_that_waits_and_is_killed_is_reaped_and_replaced,
    ahead::a_worker_that_waits_and_was_stopped_holds_no_load_up,
    ahead::a_load_that_fails_in_a_worker_that_waited_is_told_and_another_one_waits,
    ahead::where_no_worker_can_wait_a_load_says_why_and_no_crowd_is_started,
    ahead::a_supervisor_that_is_dropped_leaves_no_worker_waiting,
    ahead::a_stop_at_any_moment_of_its_start_leaves_nobody,
    requests::tokens_come_in_order_and_end_once,
    requests::a_slow_reader_pauses_its_own_request_and_no_other,
    requests::a_cancel_ends_within_a_step,
    requests::a_dropped_generation_stops_the_work,
    requests::cancel_all_ends_every_generation,
    requests::a_refused_request_leaves_the_others_alone,
    requests::more_requests_than_places_are_refused_at_once,
    requests::vectors_come_in_the_order_of_their_texts,
    requests::a_session_tells_what_it_holds_and_that_it_ended,
    ends::a_worker_killed_in_mid_stream_ends_every_request_once_with_the_reason,
    ends::a_worker_that_crashes_says_how_and_is_released,
    ends::a_worker_that_exits_says_with_which_code,
    ends::what_a_worker_said_before_it_ended_is_heard,
    ends::a_worker_without_memory_says_so_and_not_that_it_crashed,
    ends::a_garbage_frame_kills_the_worker,
    ends::a_word_about_a_request_that_is_not_there_kills_the_worker,
    ends::a_request_to_an_ended_instance_hears_the_reason,
    ends::the_log_of_a_dead_worker_can_still_be_read_and_followed,
    ends::memory_that_somebody_else_still_maps_is_named,
    ends::processes_that_the_worker_started_are_ended_with_it,
    ends::an_orphan_that_nobody_knows_is_reaped_and_a_worker_is_not,
    ladder::a_worker_that_hears_leaves_by_itself,
    ladder::a_worker_that_does_not_hear_is_terminated,
    ladder::a_worker_that_neither_hears_nor_ends_is_killed,
    ladder::a_worker_whose_memory_cannot_be_read_goes_all_the_same,
    ladder::a_worker_that_cannot_be_killed_is_stuck_until_it_goes,
    ladder::a_look_whose_worker_cannot_be_killed_has_an_answer_and_a_name,
    ladder::somebody_in_a_hurry_skips_the_words,
    ladder::requests_in_flight_are_cut_off_with_the_reason,
    isolation::a_hello_with_a_wrong_nonce_is_refused,
    isolation::a_hello_of_another_build_is_refused,
    isolation::a_worker_that_says_nothing_is_given_up,
    isolation::a_worker_that_is_called_by_hand_says_what_it_is_and_leaves,
    isolation::a_worker_inherits_nothing_from_the_server_or_another_worker,
    isolation::a_worker_is_confined_from_its_first_moment,
    isolation::no_thread_of_a_worker_finds_a_way_out,
    isolation::a_worker_outlives_the_thread_that_asked_for_it,
    lessons::a_peak_that_nobody_else_saw_comes_from_the_workers_own_count_into_what_was_learned,
    cycles::a_thousand_cycles_with_ballast_leave_this_process_as_it_was,
    room::loads_at_once_stay_within_the_limit_as_the_kernel_counts,
    server::a_killed_server_takes_its_workers_along,
    server::a_server_killed_during_loads_takes_its_workers_along,
    server::a_server_killed_at_any_moment_of_its_start_leaves_nobody,
    server::a_worker_ends_with_its_channel_alone,
    server::a_worker_that_does_not_look_at_its_channel_dies_with_its_server,
    server::a_server_that_is_stopped_and_goes_on_loses_nobody,
];

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("@worker") => worker::main(ballast::Ballast, BUILD, args),
        // What the sandbox would refuse it later is done before.
        Some("@orphan") => {
            rustix::process::set_parent_process_death_signal(None).unwrap();
            worker::main(ballast::Ballast, BUILD, args)
        }
        Some("@grandparent") => {
            ends::leave_an_orphan();
            worker::main(ballast::Ballast, BUILD, args)
        }
        Some("@parent") => {
            ends::start_children();
            worker::main(ballast::Ballast, BUILD, args)
        }
        Some("@impostor") => impostor::main(args),
        Some("@server") => server::main(args),
        Some("@one") => {
            let name = args.next().unwrap();
            let (_, test) = TESTS.iter().find(|(known, _)| *known == name).unwrap();
            test();
            ExitCode::SUCCESS
        }
        filter => all(filter.filter(|arg| !arg.starts_with('-'))),
    }
}

/// Each test runs in a process of its own, since they look at what their process has for children and descriptors.
fn all(filter: Option<&str>) -> ExitCode {
    let chosen =
        TESTS.iter().map(|(name, _)| *name).filter(|name| filter.is_none_or(|part| name.contains(part)));
    let waiting = Mutex::new(chosen.collect::<VecDeque<&str>>());
    let (failed, skipped) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    let take_one = || waiting.lock().unwrap().pop_front();
    println!("\nrunning {} tests", waiting.lock().unwrap().len());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(name) = take_one() {
                    let begin = Instant::now();
                    let done = Command::new("/proc/self/exe").args(["@one", name]).output().unwrap();
                    if done.status.success() {
                        println!("test {name} ... ok ({:.1} s)", begin.elapsed().as_secs_f64());
                    } else if done.status.code() == Some(SKIPPED.into()) {
                        println!("test {name} ... skipped: {}", String::from_utf8_lossy(&done.stdout).trim());
                        skipped.fetch_add(1, Ordering::Relaxed);
                    } else {
                        println!("{}", String::from_utf8_lossy(&done.stderr));
                        println!("test {name} ... FAILED ({})", done.status);
                        failed.lock().unwrap().push(name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    println!("\ntest result: {} failed {failed:?}; {} skipped\n", failed.len(), skipped.into_inner());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
