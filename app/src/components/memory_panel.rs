//! Where the memory is: one sentence, the machine's bar, Innkeeper's own, and every byte in a list.

use leptos::prelude::*;
use protocol::{Books, Snapshot, Warning};

use super::{
    memory_bars::{memory_bar, patterns},
    moment::moment,
};
use crate::{
    Live,
    dom::{El, el},
    pure::{bars, colour, held},
    words::{bytes, fixed, signed},
};

/// The section at the top of Resources.
pub(crate) fn memory_panel() -> El {
    let live = expect_context::<Live>();
    let machine = move || bars::machine(&live.house(), live.now.get());
    let own = move || bars::innkeeper(&live.house(), live.now.get());
    let at = move || live.house().at;
    el("section")
        .attr("aria-labelledby", "memory")
        .child(patterns())
        .child(
            el("div")
                .class("head")
                .child(el("h1").id("memory").class("big val").text(move || headline(&live.house())))
                .child(
                    el("span")
                        .class("sub")
                        .hidden_if(move || ram(&live.house()).is_none())
                        .say("measured ")
                        .child(moment(at, false)),
                ),
        )
        .child(
            el("div")
                .class("bars")
                .child(label(live, "This machine", |s| {
                    ram(s).map(|b| bytes(b.total_bytes)).unwrap_or_default()
                }))
                .child(memory_bar("bar", machine, move || limit(&live.house())))
                .child(label(live, "Innkeeper", |s| bytes(bars::innkeeper_bytes(s))))
                .child(memory_bar("bar thin", own, || None)),
        )
        .child(gpu_bars(live))
        .child(legend(live))
        .child(facts(live))
}

fn label(live: Live, name: &'static str, amount: fn(&Snapshot) -> String) -> El {
    let amount = el("b").text(move || amount(&live.house()));
    el("span").class("lab").say(name).child(amount)
}

/// Where the budget ends, in percent of the machine.
fn limit(snapshot: &Snapshot) -> Option<f64> {
    let (limit, total) = (snapshot.budget.ram_limit_bytes, ram(snapshot)?.total_bytes);
    (total > 0 && limit > 0).then(|| limit as f64 / total as f64 * 100.0)
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
fn legend(live: Live) -> El {
    let model = |[colour, name, amount]: [String; 3]| {
        let swatch = el("i").class(format!("swatch {colour}"));
        el("li").child(swatch).say(name + " ").child(el("b").class("val").say(amount))
    };
    let models = move || {
        let house = live.house();
        let held = house.models.iter().map(|m| (&m.id, held(m))).filter(|(_, bytes)| *bytes > 0);
        held.map(|(id, amount)| model([colour(&house, id), id.to_string(), bytes(amount)]).into()).collect()
    };
    let entry = move |class: &'static str, name: &'static str, amount: fn(&Snapshot) -> Option<String>| {
        let amount = move || amount(&live.house()).unwrap_or_else(|| "unknown".to_owned());
        let swatch = el("i").class(format!("swatch {class}"));
        el("li").child(swatch).say(name).child(el("b").class("val").text(amount))
    };
    let cache = move || {
        let cached = ram(&live.house()).and_then(|b| b.file_cache_bytes);
        cached.map(|cached| format!(" ({} of it file cache)", bytes(cached)))
    };
    el("ul")
        .class("legend")
        .list(models)
        .child(entry("server", "Innkeeper itself ", |s| s.server.private_bytes.map(bytes)))
        .child(entry("other", "other programs ", |s| ram(s).map(|b| signed(b.other_bytes))))
        .child(
            entry("free", "free ", |s| ram(s).map(|b| bytes(b.free_bytes)))
                .child(el("span").class("quiet").text_if(cache)),
        )
        .child(unaccounted(live))
}

fn unaccounted(live: Live) -> El {
    let amount = move || ram(&live.house()).map(|b| signed(b.unaccounted_bytes));
    el("li")
        .child(el("i").class("swatch unaccounted"))
        .child(explained("unaccounted", "unaccounted"))
        .say(" ")
        .child(el("b").class("val").text(move || amount().unwrap_or_else(|| "unknown".to_owned())))
        .child(pop("unaccounted").say(
            "What the kernel's own totals leave unexplained: the total minus everything else in this list, all counted \
             at one moment. It should stay near zero; memory that a driver keeps for itself shows here.",
        ))
}

/// A word that opens its explanation.
fn explained(name: &'static str, word: &'static str) -> El {
    el("button").attr("type", "button").class("term").attr("popovertarget", name).say(word)
}

/// The explanation.
fn pop(name: &'static str) -> El {
    el("div").id(name).class("pop").attr("popover", "auto")
}

/// The lines below: what models may take, pressure, the GPU that is missing.
fn facts(live: Live) -> El {
    let absent = move || live.house().gpu_absent.clone();
    let no_gpu = move || {
        let reason = absent().map(|a| a.reason).unwrap_or_default();
        format!("No GPU found: {}. Models run on the CPU. ", reason.trim_end_matches('.'))
    };
    let until = move || live.house().yield_until;
    let lent = move || {
        let at = until().map(|at| live.clock_text(at, true)).unwrap_or_default();
        format!("Loads are refused until {at}: the machine was lent to somebody else.")
    };
    let hint = move || absent().map(|a| a.hint).unwrap_or_default();
    let pressure = move || pressure_line(&live.house());
    let fact = |class: &'static str| el("p").class(class);
    let warnings = move || {
        let warning =
            |w: &Warning| el("p").class("sub fact warn").say(format!("{} {}", w.message, w.hint)).into();
        live.house().warnings.iter().map(warning).collect()
    };
    el("div")
        .child(el("div").list(warnings))
        .child(fact("sub fact").child(el("i").class("swatch limit")).text(move || budget_line(&live.house())))
        .child(fact("sub fact warn").hidden_if(move || pressure().is_empty()).text(pressure))
        .child(fact("sub fact warn").hidden_if(move || until().is_none()).text(lent))
        .child(
            fact("sub fact")
                .hidden_if(move || absent().is_none())
                .text(no_gpu)
                .child(explained("gpu-hint", "What to do").hidden_if(move || hint().is_empty())),
        )
        .child(pop("gpu-hint").text(hint))
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
        parts.push(format!("{} CPU cores, {} % busy.", host.cpu_count, fixed(host.cpu_percent, 0)));
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
            "Memory is short: programs waited for it {} % of the last ten seconds.",
            fixed(pressure.some_avg10, 0)
        ),
        _ => String::new(),
    }
}

/// A bar for each GPU, with its words below.
fn gpu_bars(live: Live) -> El {
    let indexes = move || live.house().gpus.iter().map(|gpu| gpu.index.to_string()).collect();
    el("div").each(indexes, move |index| {
        let number = index.parse().unwrap_or_default();
        let segments = move || bars::gpu(&live.house(), number);
        let total = el("b").text(move || gpu_total(&live.house(), number));
        el("div")
            .class("bars")
            .child(el("span").class("lab").say(format!("GPU {index}")).child(total))
            .child(memory_bar("bar thin", segments, || None))
            .child(el("p").class("sub val under").text(move || gpu_line(&live.house(), number)))
            .into()
    })
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
    parts.extend(gpu.utilization_percent.map(|busy| format!("{} % busy", fixed(busy, 0))));
    parts.extend(gpu.temperature_celsius.map(|degrees| format!("{} \u{b0}C", fixed(degrees, 0))));
    parts.extend(gpu.power_watts.map(|watts| format!("{} W", fixed(watts, 0))));
    parts.extend(gpu.note.clone());
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
