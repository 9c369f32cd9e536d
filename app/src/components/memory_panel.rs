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
    words::{bytes, fixed, goes_first, no_gpu, signed},
};

/// The section at the top of Resources.
pub(crate) fn memory_panel() -> El {
    let live = expect_context::<Live>();
    let machine = move || bars::machine(&live.house(), live.now.get());
    let own = move || bars::innkeeper(&live.house(), live.now.get());
    let at = move || {
        let house = live.house();
        house.measured_at.unwrap_or(house.at)
    };
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

/// The machine with the limit on it, and in words what models may take and have: what the settings of memory are about.
pub(crate) fn budget_picture(live: Live) -> El {
    let machine = move || bars::machine(&live.house(), live.now.get());
    el("div")
        .child(patterns())
        .child(memory_bar("bar", machine, move || limit(&live.house())))
        .child(el("p").class("sub under").text(move || budget_line(&live.house())))
        .child(el("p").class("sub").text(move || goes_first(&live.house(), live.now.get())))
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
        Some(0) => format!("No model is loaded. {free} is free."),
        models => format!("Models use {}. {free} is free.", known(models.map(bytes))),
    }
}

/// An amount; what nobody says is no nought.
fn known(amount: Option<String>) -> String {
    amount.unwrap_or_else(|| "unknown".to_owned())
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
        let amount = move || known(amount(&live.house()));
        let swatch = el("i").class(format!("swatch {class}"));
        el("li").child(swatch).say(name).child(el("b").class("val").text(amount))
    };
    let cache = move || {
        let cached = ram(&live.house()).and_then(|b| b.file_cache_bytes);
        cached.map(|cached| format!(" ({} of it file cache)", bytes(cached)))
    };
    let spare = move || {
        let held = live.house().server.spare?.private_bytes;
        Some(format!(" ({} of it a worker that waits for the next model)", bytes(held)))
    };
    el("ul")
        .class("legend")
        .list(models)
        .child(
            entry("server", "Innkeeper itself ", |s| bars::itself(s).map(bytes))
                .child(el("span").class("quiet").text_if(spare)),
        )
        .child(entry("other", "other programs ", |s| ram(s)?.other_bytes.map(signed)))
        .child(
            entry("free", "free ", |s| ram(s).map(|b| bytes(b.free_bytes)))
                .child(el("span").class("quiet").text_if(cache)),
        )
        .child(unaccounted(live))
}

fn unaccounted(live: Live) -> El {
    let amount = move || known(ram(&live.house()).and_then(|b| b.unaccounted_bytes).map(signed));
    el("li")
        .child(el("i").class("swatch unaccounted"))
        .child(explained("unaccounted", "unaccounted"))
        .say(" ")
        .child(el("b").class("val").text(amount))
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
    let no_gpu = move || absent().map(|absent| no_gpu(&absent) + " ").unwrap_or_default();
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
        parts.push(format!("models {}", known(books.models_bytes.map(bytes))));
        parts.push(format!("other programs {}", known(books.other_bytes.map(signed))));
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
            models_bytes: Some(0),
            server_bytes: 14 << 20,
            other_bytes: Some(4 << 30),
            free_bytes: 19 << 30,
            unaccounted_bytes: Some(0),
            file_cache_bytes: None,
            quality: protocol::Quality::Exact,
        });
        assert_eq!(headline(&snapshot), "No model is loaded. 19.0 GiB is free.");
        snapshot.books[0].models_bytes = Some(34_708_000);
        assert_eq!(headline(&snapshot), "Models use 33.1 MiB. 19.0 GiB is free.");
    }

    #[test]
    fn what_a_gpus_driver_does_not_say_is_called_unknown() {
        let mut snapshot = crate::example::busy_day();
        let gpu = serde_json::json!({ "index": 0, "name": "H100", "memory_total_bytes": 80_u64 << 30,
            "memory_used_bytes": 9_u64 << 30 });
        snapshot.gpus.push(serde_json::from_value(gpu).unwrap());
        let (models_bytes, other_bytes, unaccounted_bytes) = (None, None, None);
        let (device, ram) = ("gpu:0".to_owned(), snapshot.books[0].clone());
        snapshot.books.push(Books { device, models_bytes, other_bytes, unaccounted_bytes, ..ram });
        assert!(
            gpu_line(&snapshot, 0).starts_with("H100 \u{b7} models unknown \u{b7} other programs unknown")
        );
        assert!(!bars::gpu(&snapshot, 0).is_empty(), "what is in use is drawn all the same");
    }
}
