//! The engine's thread: inspects, loads, then steps while there is work and blocks while there is none.

use std::{
    fs::File,
    sync::mpsc::{Receiver, TryRecvError},
};

use link::{ErrorCode, FileRole, FromWorker, Load, Received, Stage, ToWorker};

use crate::{
    channel::{Outbox, Pulse},
    leave, log,
    peak::Peak,
    port::{Engine, Loader, ModelFile, Refusal},
    serving::{Say, Serving, error},
    title::Title,
};

type Orders = Receiver<Received<ToWorker>>;

/// Until the process ends. A panic ends it, with the panic's message as the last line of the log.
pub(crate) fn run<L: Loader>(
    loader: &L,
    orders: &Orders,
    outbox: &Outbox,
    pulse: &Pulse,
    (title, peak): (Title, Peak),
) -> ! {
    let _leave = leave::WithThread;
    let engine = until_loaded(loader, orders, outbox, pulse, &title);
    serve(Serving::new(engine), orders, outbox, pulse, peak)
}

fn until_loaded<L: Loader>(
    loader: &L,
    orders: &Orders,
    outbox: &Outbox,
    pulse: &Pulse,
    title: &Title,
) -> L::Engine {
    loop {
        let Received { message, descriptors } = orders.recv().unwrap_or_else(|_| leave::now(0));
        let files = |roles: &[FileRole]| -> Vec<ModelFile> {
            let files = descriptors.into_iter().map(File::from);
            roles.iter().zip(files).map(|(&role, file)| ModelFile { role, file }).collect()
        };
        let answer = match message {
            ToWorker::Inspect(order) => match loader.inspect(files(&order.files)) {
                Ok(facts) => FromWorker::Facts(facts),
                Err(refusal) => refused(None, refusal),
            },
            ToWorker::Load(order) => {
                title.set(&order.model);
                match load(loader, files(&order.files), &order, outbox, pulse) {
                    Ok(engine) => return engine,
                    Err(refusal) => refused(None, refusal),
                }
            }
            ToWorker::Generate(request) => error(Some(request.id), nothing_loaded()),
            ToWorker::Embed(order) => error(Some(order.id), nothing_loaded()),
            // Of a request or a session that cannot be.
            _ => continue,
        };
        outbox.say(&answer);
    }
}

fn load<L: Loader>(
    loader: &L,
    files: Vec<ModelFile>,
    order: &Load,
    outbox: &Outbox,
    pulse: &Pulse,
) -> Result<L::Engine, Refusal> {
    let (mut told, mut reached) = (None, None);
    let mut progress = |stage: Stage, done: u64, total: u64| {
        // The same once more is no progress.
        if reached.replace((stage, done)) != Some((stage, done)) {
            pulse.set(pulse.get() + 1);
        }
        // A word for each percent is enough; a model may have a thousand tensors.
        let percent = u128::from(done) * 100 / u128::from(total.max(1));
        if told.replace((stage, percent)) != Some((stage, percent)) {
            outbox.say(&FromWorker::Progress { stage, done, total });
        }
    };
    let (engine, ready) = loader.load(files, order, &mut progress)?;
    log(&format!("Ready: {}, {} threads, context {}.", ready.served_by, ready.threads, ready.context));
    outbox.say(&FromWorker::Ready(ready));
    Ok(engine)
}

fn serve<E: Engine>(
    mut serving: Serving<E>,
    orders: &Orders,
    outbox: &Outbox,
    pulse: &Pulse,
    mut peak: Peak,
) -> ! {
    let say = &mut |message: FromWorker| outbox.say(&message);
    let loaded_at = pulse.get();
    peak.ready();
    let look = &mut |at_rest: Option<(u64, bool)>, say: Say<'_>| peak.look(at_rest, say);
    let mut busy = false;
    loop {
        // Idle, it blocks for one order; then, and between steps, it takes all that wait.
        let mut next =
            if busy { orders.try_recv() } else { orders.recv().map_err(|_| TryRecvError::Disconnected) };
        while let Ok(received) = next {
            serving.take(received.message, look, say);
            next = orders.try_recv();
        }
        if next.is_err_and(|error| error == TryRecvError::Disconnected) {
            leave::now(0);
        }
        busy = serving.step(look, say);
        pulse.set(loaded_at + serving.steps());
    }
}

fn refused(id: Option<u64>, refusal: Refusal) -> FromWorker {
    log(&refusal.message);
    error(id, refusal)
}

fn nothing_loaded() -> Refusal {
    Refusal { code: ErrorCode::BadRequest, message: "No model is loaded.".into() }
}
