//! Where the memory is: one sentence, the machine's bar, Innkeeper's own, and every byte in a list.

use leptos::prelude::*;
use protocol::{Books, Snapshot};

use super::{
    Moment,
    memory_bars::{MemoryBar, Patterns},
};
use crate::{
    Live,
    pure::{bars, colour, held},
    words::{bytes, signed},
};

/// The section at the top of Resources.
#[component]
pub fn MemoryPanel() -> impl IntoView {
    let live = expect_context::<Live>();
    let machine = Memo::new(move |_| live.snapshot.with(|s| bars::machine(s, live.now.get())));
    let own = Memo::new(move |_| live.snapshot.with(|s| bars::innkeeper(s, live.now.get())));
    let limit = live.memo(|s| {
        let total = ram(s)?.total_bytes;
        (total > 0 && s.budget.ram_limit_bytes > 0)
            .then(|| s.budget.ram_limit_bytes as f64 / total as f64 * 100.0)
    });
    let total = live.memo(|s| ram(s).map(|b| bytes(b.total_bytes)).unwrap_or_default());
    let own_total = live.memo(|s| bytes(bars::innkeeper_bytes(s)));
    let headline = live.memo(headline);
    let at = live.memo(|s| s.at);
    let unknown = live.memo(|s| ram(s).is_none());
    view! {
        <section aria-labelledby="memory">
            <Patterns />
            <div class="head">
                <h1 id="memory" class="big val">
                    {move || headline.get()}
                </h1>
                <span class="sub" hidden=move || unknown.get()>
                    "measured "
                    <Moment at=at />
                </span>
            </div>
            <div class="bars">
                <span class="lab">"This machine" <b>{move || total.get()}</b></span>
                <MemoryBar segments=machine mark=limit />
                <span class="lab">"Innkeeper" <b>{move || own_total.get()}</b></span>
                <MemoryBar segments=own class="bar thin" />
                <GpuBars />
            </div>
            <Legend />
            <Facts />
        </section>
    }
    .into_any()
}

fn ram(snapshot: &Snapshot) -> Option<&Books> {
    snapshot.books.iter().find(|books| books.device == "ram")
}

fn headline(snapshot: &Snapshot) -> String {
    let Some(books) = ram(snapshot) else { return "Memory has not been measured yet.".to_owned() };
    let free = bytes(books.free_bytes);
    match books.models_bytes {
        0 => format!("No model is loaded. {free} is free."),
        models => format!("Models use {}. {free} is free.", bytes(models)),
    }
}

/// Every byte of RAM, by name: what the bars show.
#[component]
fn Legend() -> impl IntoView {
    let live = expect_context::<Live>();
    let models = live.memo(|s| {
        let held = s.models.iter().map(|m| (m.id.clone(), held(m))).filter(|(_, bytes)| *bytes > 0);
        held.map(|(id, amount)| (colour(s, &id), id.to_string(), bytes(amount))).collect::<Vec<_>>()
    });
    let models = move || {
        let entry = |(colour, name, amount)| {
            view! {
                <li>
                    <i class=format!("swatch {colour}")></i>
                    {name}
                    " "
                    <b class="val">{amount}</b>
                </li>
            }
        };
        models.get().into_iter().map(entry).collect_view()
    };
    let amount = move |pick: fn(&Snapshot) -> Option<String>| {
        let memo = live.memo(move |s| pick(s).unwrap_or_else(|| "unknown".to_owned()));
        view! { <b class="val">{move || memo.get()}</b> }
    };
    let cache = live.memo(|s| {
        ram(s).and_then(|b| b.file_cache_bytes).map(|c| format!(" ({} of it file cache)", bytes(c)))
    });
    view! {
        <ul class="legend">
            {models}
            <li>
                <i class="swatch server"></i>
                "Innkeeper itself "
                {amount(|s| s.server.private_bytes.map(bytes))}
            </li>
            <li>
                <i class="swatch other"></i>
                "other programs "
                {amount(|s| ram(s).map(|b| signed(b.other_bytes)))}
            </li>
            <li>
                <i class="swatch free"></i>
                "free "
                {amount(|s| ram(s).map(|b| bytes(b.free_bytes)))}
                <span class="quiet">{move || cache.get()}</span>
            </li>
            <li>
                <i class="swatch unaccounted"></i>
                <button type="button" class="term" popovertarget="unaccounted">
                    "unaccounted"
                </button>
                " "
                {amount(|s| ram(s).map(|b| signed(b.unaccounted_bytes)))}
                <div id="unaccounted" class="pop" popover="auto">
                    "What the kernel's own totals leave unexplained: the total minus everything else in this list, all \
                     counted at one moment. It should stay near zero; memory that a driver keeps for itself shows here."
                </div>
            </li>
        </ul>
    }
    .into_any()
}

/// The lines below: what models may take, pressure, the GPU that is missing.
#[component]
fn Facts() -> impl IntoView {
    let live = expect_context::<Live>();
    let budget = live.memo(budget_line);
    let pressure = live.memo(pressure_line);
    let yielding = live.memo(|s| s.yield_until);
    let reason = live.memo(|s| {
        let absent = s.gpu_absent.as_ref();
        absent.map(|a| format!("No GPU found: {}. Models run on the CPU. ", a.reason.trim_end_matches('.')))
    });
    let hint = live.memo(|s| s.gpu_absent.as_ref().map(|a| a.hint.clone()).unwrap_or_default());
    view! {
        <p class="sub fact">
            <i class="swatch limit"></i>
            {move || budget.get()}
        </p>
        <p class="sub fact warn" hidden=move || pressure.with(String::is_empty)>
            {move || pressure.get()}
        </p>
        <p class="sub fact warn" hidden=move || yielding.get().is_none()>
            "Loads are refused until "
            {move || yielding.get().map(|at| live.clock_text(at, true))}
            ": the machine was lent to somebody else."
        </p>
        <p class="sub fact" hidden=move || reason.get().is_none()>
            {move || reason.get()}
            <button type="button" class="term" popovertarget="gpu-hint" hidden=move || hint.with(String::is_empty)>
                "What to do"
            </button>
        </p>
        <div id="gpu-hint" class="pop" popover="auto">
            {move || hint.get()}
        </div>
    }
    .into_any()
}

fn budget_line(snapshot: &Snapshot) -> String {
    let budget = &snapshot.budget;
    let mut parts = Vec::new();
    if budget.ram_limit_bytes > 0 {
        parts.push(format!(
            "Models may take up to {}; {} of it is spoken for.",
            bytes(budget.ram_limit_bytes),
            bytes(budget.ram_reserved_bytes)
        ));
    }
    if let Some(host) = &snapshot.host {
        parts.push(format!("{} CPU cores, {:.0} % busy.", host.cpu_count, host.cpu_percent));
        if host.swap_used_bytes > 0 {
            parts.push(format!("{} in swap.", bytes(host.swap_used_bytes)));
        }
    }
    parts.join(" ")
}

/// Said only when it hurts: a tenth of the time.
fn pressure_line(snapshot: &Snapshot) -> String {
    match snapshot.host.as_ref().and_then(|h| h.pressure) {
        Some(pressure) if pressure.some_avg10 >= 10.0 => format!(
            "Memory is short: programs waited for it {:.0} % of the last ten seconds.",
            pressure.some_avg10
        ),
        _ => String::new(),
    }
}

/// A bar for each GPU, with its words beside it.
#[component]
fn GpuBars() -> impl IntoView {
    let live = expect_context::<Live>();
    let indexes = live.memo(|s| s.gpus.iter().map(|gpu| gpu.index).collect::<Vec<_>>());
    view! {
        <For each=move || indexes.get() key=|index| *index let:index>
            <span class="lab">
                {format!("GPU {index}")}
                <b>{move || live.snapshot.with(|s| gpu_total(s, index))}</b>
            </span>
            <div>
                <MemoryBar segments=Memo::new(move |_| live.snapshot.with(|s| bars::gpu(s, index))) class="bar thin" />
                <p class="sub val">{move || live.snapshot.with(|s| gpu_line(s, index))}</p>
            </div>
        </For>
    }
    .into_any()
}

fn gpu_total(snapshot: &Snapshot, index: u32) -> String {
    let gpu = snapshot.gpus.iter().find(|gpu| gpu.index == index);
    gpu.map(|gpu| bytes(gpu.memory_total_bytes)).unwrap_or_default()
}

/// `NVIDIA H100 · models 1.20 GiB · other programs 3.00 GiB · free 70.0 GiB · 12 % busy · 41 °C · 70 W`
fn gpu_line(snapshot: &Snapshot, index: u32) -> String {
    let Some(gpu) = snapshot.gpus.iter().find(|gpu| gpu.index == index) else { return String::new() };
    let mut parts = vec![gpu.name.clone()];
    if let Some(books) = snapshot.books.iter().find(|b| b.device == format!("gpu:{index}")) {
        parts.push(format!("models {}", bytes(books.models_bytes)));
        parts.push(format!("other programs {}", signed(books.other_bytes)));
        parts.push(format!("free {}", bytes(books.free_bytes)));
    }
    parts.extend(gpu.utilization_percent.map(|busy| format!("{busy:.0} % busy")));
    parts.extend(gpu.temperature_celsius.map(|degrees| format!("{degrees:.0} \u{b0}C")));
    parts.extend(gpu.power_watts.map(|watts| format!("{watts:.0} W")));
    parts.join(" \u{b7} ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::first::nothing_yet;

    #[test]
    fn the_headline_says_what_models_use_and_what_is_free() {
        let mut snapshot = nothing_yet();
        assert_eq!(headline(&snapshot), "Memory has not been measured yet.");
        snapshot.books.push(Books {
            device: "ram".to_owned(),
            total_bytes: 23 << 30,
            models_bytes: 0,
            server_bytes: 14 << 20,
            other_bytes: 4 << 30,
            free_bytes: 19 << 30,
            unaccounted_bytes: 0,
            file_cache_bytes: None,
        });
        assert_eq!(headline(&snapshot), "No model is loaded. 19.0 GiB is free.");
        snapshot.books[0].models_bytes = 34_708_000;
        assert_eq!(headline(&snapshot), "Models use 33.1 MiB. 19.0 GiB is free.");
    }
}
