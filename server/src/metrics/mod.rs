//! GET /metrics: OpenMetrics 1.0. Gauges are read from the live table at each scrape, so that a model's gauges end with
//! its instance; counters go on as long as there is such a model.

mod counts;

use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
    sync::Arc,
};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric, NoLabelSet, text},
    metrics::{MetricType, exemplar::Exemplar, histogram::Histogram},
    registry::{Registry, Unit},
};
use protocol::{Instance, Model, ModelId, ModelState, Snapshot};

use crate::compose::House;

pub(crate) use counts::Counts;
use counts::OfModel;

/// What a scraper is told that this is.
const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every state, for the gauge that tells them apart.
const STATES: [ModelState; 8] = [
    ModelState::Unloaded,
    ModelState::Waiting,
    ModelState::Loading,
    ModelState::Ready,
    ModelState::Draining,
    ModelState::Unloading,
    ModelState::Failed,
    ModelState::Stuck,
];

/// The handler.
pub(crate) async fn metrics(State(house): State<House>) -> Response {
    match written(house.desk().snapshot(), house.counts().clone()) {
        Ok(text) => ([(header::CONTENT_TYPE, TYPE)], text).into_response(),
        Err(fmt::Error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n").into_response()
        }
    }
}

fn written(snapshot: Arc<Snapshot>, counts: Arc<Counts>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("innkeeper");
    registry.register_collector(Box::new(Table { snapshot, counts }));
    let mut written = String::new();
    text::encode(&mut written, &registry)?;
    Ok(written)
}

/// Everything at one moment.
#[derive(Debug)]
struct Table {
    snapshot: Arc<Snapshot>,
    counts: Arc<Counts>,
}

impl Collector for Table {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.models(&mut page)?;
        self.machine(&mut page)?;
        let mut counts = self.counts.lock();
        // Counts of a model that is gone from the disk go with it.
        counts.retain(|id, _| self.snapshot.models.iter().any(|model| model.id == *id));
        self.loads(&mut page, &counts)?;
        requests(&mut page, &counts)
    }
}

impl Table {
    /// Loaded ones.
    fn instances(&self) -> impl Iterator<Item = (&Model, &Instance)> {
        self.snapshot.models.iter().flat_map(|model| model.instances.iter().map(move |one| (model, one)))
    }

    fn models(&self, page: &mut Page<'_>) -> fmt::Result {
        let memory =
            self.instances().filter_map(|(model, instance)| Some((model, instance.memory.as_ref()?)));
        let kinds = memory.flat_map(|(model, memory)| {
            let gpu = memory.gpu_bytes.map(|bytes| ("gpu", bytes));
            let kinds = [("private", memory.private_bytes), ("mapped", memory.mapped_bytes)];
            kinds
                .into_iter()
                .chain(gpu)
                .map(|(kind, bytes)| ([("model", model.id.as_str()), ("kind", kind)], bytes))
        });
        page.gauges("model_memory", "What a loaded model holds", Some(Unit::Bytes), kinds)?;
        let states = self.snapshot.models.iter().flat_map(|model| {
            STATES.map(|state| {
                ([("model", model.id.as_str()), ("state", state.word())], u64::from(model.state == state))
            })
        });
        page.gauges("model_state", "1 for the state that a model is in", None, states)?;
        let each = |number: fn(&Model) -> u32| {
            self.snapshot
                .models
                .iter()
                .map(move |model| ([("model", model.id.as_str())], u64::from(number(model))))
        };
        page.gauges("requests_in_flight", "Requests that hold a lease", None, each(|model| model.in_flight))?;
        page.gauges("queue_depth", "Requests that wait for a lease", None, each(|model| model.queued))
    }

    fn machine(&self, page: &mut Page<'_>) -> fmt::Result {
        let snapshot = &self.snapshot;
        let none: [(&str, &str); 0] = [];
        let host = snapshot.host.iter().map(|host| (none, host.memory_available_bytes));
        page.gauges(
            "host_memory_available",
            "MemAvailable, or what the container's limit leaves",
            Some(Unit::Bytes),
            host,
        )?;
        let own = snapshot.server.private_bytes.into_iter().map(|bytes| (none, bytes));
        page.gauges("server_memory", "What the server's process holds", Some(Unit::Bytes), own)?;
        let spare = snapshot.server.spare.into_iter().map(|spare| (none, spare.private_bytes));
        page.gauges(
            "spare_worker_memory",
            "What the worker holds that was started ahead and waits for a model",
            Some(Unit::Bytes),
            spare,
        )?;
        let growth = self.counts.growth_bytes().into_iter().map(|bytes| (none, bytes));
        page.gauges(
            "server_growth",
            "By how much the server itself grew with each unload of this run",
            Some(Unit::Bytes),
            growth,
        )?;
        let budget =
            [("limit", snapshot.budget.ram_limit_bytes), ("reserved", snapshot.budget.ram_reserved_bytes)];
        let budget = budget.into_iter().map(|(kind, bytes)| ([("kind", kind)], bytes));
        page.gauges(
            "budget",
            "What models may take of RAM together, and what of it is spoken for",
            Some(Unit::Bytes),
            budget,
        )?;
        let gpus: Vec<_> = snapshot.gpus.iter().map(|gpu| (gpu.index.to_string(), gpu)).collect();
        let used = gpus.iter().map(|(index, gpu)| {
            ([("gpu", index.as_str()), ("name", gpu.name.as_str())], gpu.memory_used_bytes)
        });
        page.gauges("gpu_memory_used", "Memory of a GPU in use by everybody", Some(Unit::Bytes), used)?;
        let rest = snapshot
            .books
            .iter()
            .filter_map(|book| Some(([("device", book.device.as_str())], book.unaccounted_bytes?)));
        page.gauges("unaccounted", "What a device's own totals leave unexplained", Some(Unit::Bytes), rest)
    }

    fn loads(&self, page: &mut Page<'_>, counts: &BTreeMap<ModelId, OfModel>) -> fmt::Result {
        let loads = labelled(counts, "result", |of| &of.loads);
        page.counters("loads", "Loads by how they ended", None, loads)?;
        let unloads = labelled(counts, "reason", |of| &of.unloads);
        page.counters("unloads", "Unloads by why they happened", None, unloads)?;
        page.histograms("load_duration", "From the decision to load until ready", counts, |of| {
            &of.load_seconds
        })?;
        let returned = counts.iter().map(|(id, of)| ([("model", id.as_str())], of.returned_bytes));
        page.counters("memory_returned", "What unloads gave back, as measured", Some(Unit::Bytes), returned)?;
        let residual = counts.iter().map(|(id, of)| ([("model", id.as_str())], of.residual_bytes()));
        page.gauges(
            "memory_residual",
            "What unloads of this run left behind, in all",
            Some(Unit::Bytes),
            residual,
        )?;
        let last =
            counts.iter().filter_map(|(id, of)| Some(([("model", id.as_str())], of.last_residual_bytes?)));
        page.gauges("cycle_residual", "What the last unload left behind", Some(Unit::Bytes), last)?;
        let errors = self.instances().flat_map(|(model, _)| {
            let of = |at, percent: Option<f64>| {
                Some(([("model", model.id.as_str()), ("at", at)], percent? / 100.0))
            };
            let errors = [of("ready", model.prediction_error_percent), of("peak", model.peak_error_percent)];
            errors.into_iter().flatten()
        });
        let ratio = Unit::Other("ratio".to_owned());
        page.gauges(
            "prediction_error",
            "Private bytes predicted / measured, less 1: at ready, and at the most that was taken",
            Some(ratio),
            errors,
        )
    }
}

fn requests(page: &mut Page<'_>, counts: &BTreeMap<ModelId, OfModel>) -> fmt::Result {
    let ended = labelled(counts, "outcome", |of| &of.requests);
    page.counters("requests", "Requests by how they ended", None, ended)?;
    page.histograms(
        "time_to_first_token",
        "From the request to the first text, a load included",
        counts,
        |of| &of.first_token_seconds,
    )?;
    page.histograms("time_per_output_token", "Mean of each request while it decoded", counts, |of| {
        &of.token_seconds
    })?;
    let tokens = counts.iter().flat_map(|(id, of)| {
        [("prompt", of.prompt_tokens), ("cached", of.cached_tokens), ("completion", of.completion_tokens)]
            .map(|(kind, tokens)| ([("model", id.as_str()), ("type", kind)], tokens))
    });
    page.counters(
        "tokens",
        "Tokens read (cached: taken from a session's cache, a part of those read) and made",
        None,
        tokens,
    )
}

type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// A count by a word, for each model.
fn labelled<'a>(
    counts: &'a BTreeMap<ModelId, OfModel>,
    label: &'static str,
    of: fn(&OfModel) -> &BTreeMap<&'static str, u64>,
) -> impl Iterator<Item = (Labels<'a, 2>, u64)> {
    counts.iter().flat_map(move |(id, model)| {
        of(model).iter().map(move |(word, count)| ([("model", id.as_str()), (label, *word)], *count))
    })
}

/// What is being written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauges<'a, V: EncodeGaugeValue, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        values: impl Iterator<Item = (Labels<'a, N>, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in values {
            if N == 0 {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn counters<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        values: impl Iterator<Item = (Labels<'a, N>, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_counter(&value, None::<&Exemplar<NoLabelSet, f64>>)?;
        }
        Ok(())
    }

    /// In seconds, one for each model.
    fn histograms(
        &mut self,
        name: &str,
        help: &str,
        counts: &BTreeMap<ModelId, OfModel>,
        of: fn(&OfModel) -> &Histogram,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (id, model) in counts {
            let labels = [("model", id.as_str())];
            of(model).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
