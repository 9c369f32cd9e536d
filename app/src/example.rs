//! Models, receipts and a whole house to test pages with.

use protocol::{
    Books, DeviceReturn, EventKind, Failure, GpuAbsent, Host, IdleTimeout, Instance, LedgerEvent, Memory,
    Method, Model, ModelKind, ModelState, Progress, Quality, RamReturn, Reason, Receipt, RequestState,
    RequestView, Session, SessionKind, Snapshot, Time, Verdict,
};

/// A model that stands on disk only.
pub(crate) fn unloaded(id: &str) -> Model {
    Model {
        id: id.parse().unwrap(),
        kind: ModelKind::Chat,
        family: "llama".to_owned(),
        quantization: "Q4_1".to_owned(),
        size_bytes: 98_580_000,
        state: ModelState::Unloaded,
        pinned: false,
        idle_timeout_seconds: IdleTimeout::After { ms: 600_000 },
        in_flight: 0,
        queued: 0,
        idle_since: None,
        unload_at: None,
        last_reset_by: None,
        progress: None,
        expected_bytes: None,
        reserve_bytes: None,
        prediction_error_percent: None,
        peak_error_percent: None,
        waiting: None,
        reloads_per_hour: 0,
        weight: 1.0,
        instances: Vec::new(),
        failure: None,
    }
}

/// A loaded model that holds so many private bytes.
pub(crate) fn ready(id: &str, private_bytes: u64) -> Model {
    let at = Time::from_unix_ms(1_795_442_551_120);
    let instance = Instance {
        pid: 4121,
        epoch: 7,
        loaded_at: Some(at),
        load_ms: Some(420),
        device: "cpu".to_owned(),
        threads: 2,
        context: 8192,
        sandbox: "landlock, seccomp".to_owned(),
        served_by: "innkeeper llama, AVX2".to_owned(),
        memory: Some(Memory {
            private_bytes,
            mapped_bytes: 98_580_000,
            gpu_bytes: None,
            quality: Quality::Exact,
            measured_at: at,
        }),
        predicted_bytes: Some(private_bytes),
        tokens_per_second: None,
    };
    Model { state: ModelState::Ready, instances: vec![instance], ..unloaded(id) }
}

/// What an unload gave back.
pub(crate) fn receipt(id: &str, held_bytes: u64, returned_bytes: u64) -> Receipt {
    let residual_bytes = held_bytes - returned_bytes;
    Receipt {
        id: held_bytes,
        model: id.parse().unwrap(),
        pid: Some(4121),
        reason: Reason::Asked,
        asked_by: "the page".to_owned(),
        at: Time::from_unix_ms(1_795_442_551_120),
        duration_ms: 12,
        method: Method::Exit,
        ram: RamReturn { held_bytes, returned_bytes, residual_bytes },
        gpus: Vec::<DeviceReturn>::new(),
        verdict: if residual_bytes == 0 { Verdict::Returned } else { Verdict::Residual },
        cut_off_requests: 0,
        left: Vec::new(),
        evidence: None,
        server_bytes: None,
    }
}

/// Something that happened to a model.
pub(crate) fn event(id: u64, kind: EventKind, model: &str) -> LedgerEvent {
    LedgerEvent {
        id,
        at: Time::from_unix_ms(1_795_442_551_120),
        kind,
        model: Some(model.parse().unwrap()),
        reason: "asked".to_owned(),
        asked_by: "the page".to_owned(),
        duration_ms: Some(420),
        bytes_before: None,
        bytes_after: None,
        receipt: None,
        detail: String::new(),
    }
}

/// A house in the middle of a busy day: every state, a missing GPU, sessions, requests, receipts, a download.
pub(crate) fn busy_day() -> Snapshot {
    let mut snapshot = crate::first::nothing_yet();
    let now = 1_795_442_551_120;
    let at = |seconds_ago: i64| Time::from_unix_ms(now - seconds_ago * 1000);
    snapshot.at = at(0);
    snapshot.measured_at = Some(at(0));
    snapshot.server.version = "0.1.0".to_owned();
    snapshot.server.private_bytes = Some(13_500_000);
    snapshot.server.spare = Some(protocol::SpareWorker { pid: 4243, private_bytes: 1_390_000 });
    snapshot.server.models_dir = "/srv/innkeeper/models".to_owned();
    snapshot.gpu_absent = Some(GpuAbsent {
        kind: protocol::GpuAbsence::Absent,
        reason: "NVIDIA driver not loaded".to_owned(),
        hint: "Install the driver and restart the server; models run on the CPU until then.".to_owned(),
    });
    snapshot.host = Some(Host {
        memory_total_bytes: 25_125_558_681,
        memory_available_bytes: 19_327_352_832,
        swap_used_bytes: 0,
        cpu_count: 8,
        cpu_percent: 12.4,
        pressure: None,
    });
    snapshot.budget.ram_limit_bytes = 20_100_000_000;
    snapshot.budget.ram_reserved_bytes = 3_220_000_000;
    snapshot.books.push(Books {
        device: "ram".to_owned(),
        total_bytes: 25_125_558_681,
        models_bytes: Some(2_418_414_848),
        server_bytes: 14_890_000,
        other_bytes: Some(3_352_318_089),
        free_bytes: 19_327_352_832,
        unaccounted_bytes: Some(12_582_912),
        quality: Quality::Exact,
        file_cache_bytes: Some(12_025_908_429),
    });
    snapshot.models = models(&at);
    snapshot.requests =
        vec![request("req-7", RequestState::Decode, 118), request("req-8", RequestState::Queued, 0)];
    snapshot.sessions =
        vec![session("s1", "browser", Some(at(-660)), 3_250_000), session("s2", "api:notebook", None, 0)];
    let mut evicted = receipt("llama-3.2-3b", 2_050_000_000, 2_050_000_000);
    (evicted.reason, evicted.duration_ms) = (Reason::Evicted, 210);
    let mut stayed = receipt("whisper", 1_400 << 20, 888 << 20);
    stayed.left = vec!["held by process 4121".to_owned()];
    snapshot.receipts = vec![receipt("smollm2", 34_708_000, 34_708_000), evicted, stayed];
    snapshot.receipts.iter_mut().enumerate().for_each(|(n, one)| one.at = at(600 * (n as i64 + 1)));
    snapshot
}

fn models(at: &impl Fn(i64) -> Time) -> Vec<Model> {
    let mut busy = Model { in_flight: 2, size_bytes: 979_369_984, ..ready("qwen2.5-coder", 1_095_216_660) };
    (busy.family, busy.quantization) = ("qwen2".to_owned(), "Q4_K_M".to_owned());
    busy.instances[0].tokens_per_second = Some(41.2);
    busy.instances[0].memory.as_mut().unwrap().mapped_bytes = 979_369_984;
    let mut idle = ready("smollm2", 34_708_000);
    (idle.idle_since, idle.unload_at) = (Some(at(192)), Some(at(-108)));
    idle.idle_timeout_seconds = IdleTimeout::After { ms: 300_000 };
    idle.last_reset_by = Some("load by the page".to_owned());
    let mut loading = ready("llama-3.2-3b", 1_288_490_188);
    (loading.state, loading.queued, loading.size_bytes) = (ModelState::Loading, 1, 2_018_634_629);
    loading.last_reset_by = Some("api:notebook".to_owned());
    loading.progress = Some(Progress { stage: "reading weights".to_owned(), done: 62, total: 100 });
    loading.instances[0].predicted_bytes = Some(2_040_109_465);
    let mut failed = Model { state: ModelState::Failed, ..unloaded("phi-broken") };
    failed.failure = Some(Failure {
        code: "load_failed".to_owned(),
        message: "the file ends before its last tensor".to_owned(),
        hint: "Fetch it again; 1.2 of 2.4 GiB are there".to_owned(),
        at: at(30),
        retry_at: None,
        log_tail: vec!["reading blk.12.ffn_up.weight".to_owned(), "error: unexpected end of file".to_owned()],
    });
    let minilm = Model {
        kind: ModelKind::Embedding,
        family: "bert".to_owned(),
        quantization: "F32".to_owned(),
        expected_bytes: Some(43_000_000),
        ..unloaded("minilm")
    };
    vec![loading, minilm, failed, busy, idle]
}

fn request(id: &str, state: RequestState, completion_tokens: u64) -> RequestView {
    RequestView {
        id: id.to_owned(),
        model: "qwen2.5-coder".parse().unwrap(),
        client: "api:notebook".to_owned(),
        state,
        elapsed_ms: 3210,
        prompt_tokens: 31,
        completion_tokens,
    }
}

fn session(id: &str, label: &str, ends_at: Option<Time>, held_bytes: u64) -> Session {
    let at = Time::from_unix_ms(1_795_442_500_000);
    Session {
        id: id.to_owned(),
        kind: SessionKind::Browser,
        label: label.to_owned(),
        model: Some("smollm2".parse().unwrap()),
        held_bytes,
        requests: 4,
        started_at: at,
        last_used_at: at,
        last_reset_by: "POST /v1/chat/completions".to_owned(),
        kept_by: if ends_at.is_some() { "" } else { "page open" }.to_owned(),
        ends_at,
    }
}

/// Settings of which one was saved and one is locked.
pub(crate) fn settings() -> protocol::Settings {
    let setting = |value: &str, source: &str, locked| protocol::Setting {
        value: value.to_owned(),
        source: source.to_owned(),
        locked,
        place: String::new(),
    };
    protocol::Settings {
        ram_limit: setting("80%", "default", false),
        reserve: setting("1GiB", "default", false),
        gpu_limit: setting("90%", "default", false),
        idle_timeout: setting("10m", "saved", false),
        session_timeout: setting("5m", "flag", true),
        after_last_session: setting("60s", "default", false),
        models: Vec::new(),
    }
}
