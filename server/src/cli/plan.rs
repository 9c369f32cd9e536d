//! `innkeeper plan`: what a load would take.

use app::words::{bytes, signed, took};
use protocol::{Code, ModelId, Plan, Problem};

use super::{
    Remote,
    client::{Client, read},
    output::Output,
    trouble::Trouble,
};

/// Says what a load would take, whom it would push out, or why it would be refused (exit code 4). Loads nothing.
///
/// Example: innkeeper plan smollm2
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which model.
    model: ModelId,
    /// Positions that one conversation may have.
    #[arg(long, value_name = "TOKENS")]
    context: Option<u32>,
    #[command(flatten)]
    remote: Remote,
}

/// Does it.
pub(crate) fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Trouble> {
    let context = arguments.context.map(|tokens| tokens.to_string());
    let mut form = vec![("model", arguments.model.as_str())];
    form.extend(context.as_deref().map(|tokens| ("context", tokens)));
    let answer = Client::new(&arguments.remote).post("/manage/plan", &form)?;
    let plan: Plan = read(&answer)?;
    out.line(&if out.json {
        serde_json::to_string_pretty(&answer).unwrap_or_default()
    } else {
        said(&plan)
    })?;
    match plan.refusal {
        Some(_) if out.json => Err(Trouble::Partly),
        Some(refusal) => Err(Trouble::Refused(Problem::new(
            serde_json::from_value(refusal.code.into()).unwrap_or(Code::InsufficientMemory),
            refusal.message,
            refusal.hint,
        ))),
        None => Ok(()),
    }
}

fn said(plan: &Plan) -> String {
    let mut lines = vec![format!(
        "{} would take {}, at most {}, of which {} are file cache.",
        plan.model,
        bytes(plan.predicted_bytes),
        bytes(plan.reserve_bytes),
        bytes(plan.mapped_bytes)
    )];
    let parts = &plan.prediction;
    lines.push(format!(
        "Weights {}, process and vocabulary {}, KV cache up to {}, scratch up to {}.",
        bytes(parts.weights_bytes),
        bytes(parts.runtime_bytes),
        bytes(parts.kv_cache_bytes),
        bytes(parts.scratch_bytes)
    ));
    for one in &plan.evict {
        let held = one.expected_bytes.map_or_else(String::new, |held| format!(" ({})", bytes(held)));
        lines.push(format!("{}{held} would have to go first.", one.model));
    }
    if let Some(error) = parts.error_percent {
        lines.push(format!("The prediction of its last load was off by {error:+.1} %."));
    }
    if let Some(why) = &plan.waits_for {
        lines.push(format!("It would wait {why}."));
    }
    if let Some(ms) = plan.wait_ms {
        lines.push(format!("That is expected to take about {}.", took(ms)));
    }
    if plan.fits {
        lines.push(format!("{} would be free afterwards.", signed(plan.free_after_bytes)));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use protocol::{Expected, Prediction};

    use super::*;

    #[test]
    fn a_plan_says_what_it_takes_who_goes_and_what_is_left() {
        let plan = Plan {
            model: "big".parse().unwrap(),
            fits: true,
            predicted_bytes: 33 << 20,
            reserve_bytes: 160 << 20,
            mapped_bytes: 94 << 20,
            prediction: Prediction {
                weights_bytes: 23 << 20,
                runtime_bytes: 10 << 20,
                kv_cache_bytes: 30 << 20,
                scratch_bytes: 3 << 20,
                learned_factor: 1.0,
                error_percent: Some(4.21),
            },
            free_after_bytes: 5 << 30,
            evict: vec![Expected { model: "old".parse().unwrap(), expected_bytes: Some(1 << 30) }],
            wait_ms: None,
            waits_for: None,
            refusal: None,
        };
        assert_eq!(
            said(&plan),
            "big would take 33.0 MiB, at most 160 MiB, of which 94.0 MiB are file cache.\nWeights 23.0 MiB, process and \
             vocabulary 10.0 MiB, KV cache up to 30.0 MiB, scratch up to 3.00 MiB.\nold (1.00 GiB) would have to go \
             first.\nThe prediction of its last load was off by +4.2 %.\n5.00 GiB would be free afterwards."
        );
    }
}
