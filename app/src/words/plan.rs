//! What a load would take and whom it would push out, before the click.

use protocol::{ModelId, Plan, Problem};

use super::{about, bytes, list, sentence};
use crate::manage::PlanWords;

/// A plan in words.
pub fn plan(plan: &Plan) -> PlanWords {
    let model = plan.model.clone();
    if let Some(refusal) = &plan.refusal {
        let (text, hint) = (sentence(&refusal.message), sentence(&refusal.hint));
        return PlanWords {
            model,
            fits: false,
            anyway: refusal.anyway,
            plain: false,
            waits: false,
            text,
            hint,
        };
    }
    let taken = about(plan.predicted_bytes);
    let most = Some(about(plan.reserve_bytes)).filter(|most| *most != taken);
    let most = most.map_or_else(String::new, |most| format!(", {most} at most"));
    let gone: Vec<String> = plan
        .evict
        .iter()
        .map(|one| match one.expected_bytes {
            Some(held) => format!("{} ({})", one.model, bytes(held)),
            None => one.model.to_string(),
        })
        .collect();
    let text = match (gone.as_slice(), &plan.waits_for) {
        ([], None) => format!("Would take about {taken}{most}."),
        ([], Some(what)) => format!("Would wait {what}, then take about {taken}{most}."),
        (gone, _) => format!("Would unload {} first, then take about {taken}{most}.", list(gone)),
    };
    let hint = match u64::try_from(plan.free_after_bytes) {
        Ok(free) => format!("{} would be free afterwards.", bytes(free)),
        Err(_) => String::new(),
    };
    let waits = plan.waits_for.is_some();
    let plain = gone.is_empty() && !waits;
    PlanWords { model, fits: plan.fits, anyway: false, plain, waits, text, hint }
}

/// Why there is no plan.
pub fn no_plan(model: ModelId, problem: &Problem) -> PlanWords {
    let (text, hint) = (sentence(&problem.message), sentence(&problem.hint));
    PlanWords { model, fits: false, anyway: false, plain: false, waits: false, text, hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Expected, Prediction, Refused};

    fn example() -> Plan {
        let prediction = Prediction {
            weights_bytes: 0,
            runtime_bytes: 0,
            kv_cache_bytes: 0,
            scratch_bytes: 0,
            learned_factor: 1.0,
            error_percent: None,
        };
        serde_json::from_value(serde_json::json!({
            "model": "big", "fits": true, "predicted_bytes": 33 << 20, "reserve_bytes": 412 << 20, "mapped_bytes": 0,
            "prediction": prediction, "free_after_bytes": 17_u64 << 30, "evict": [], "wait_ms": null, "refusal": null,
        }))
        .unwrap()
    }

    #[test]
    fn a_plan_says_what_it_takes_who_goes_first_and_what_is_left() {
        let mut one = example();
        let words = plan(&one);
        assert_eq!(words.text, "Would take about 33 MiB, 412 MiB at most.");
        assert_eq!(words.hint, "17.0 GiB would be free afterwards.");
        assert!(words.plain && words.fits);
        one.evict = vec![Expected { model: "old".parse().unwrap(), expected_bytes: Some(1 << 30) }];
        let words = plan(&one);
        assert_eq!(words.text, "Would unload old (1.00 GiB) first, then take about 33 MiB, 412 MiB at most.");
        assert!(!words.plain);
        let waits_for = Some("until `old` may be unloaded".to_owned());
        let words = plan(&Plan { fits: false, evict: Vec::new(), waits_for, ..one });
        assert_eq!(
            words.text,
            "Would wait until `old` may be unloaded, then take about 33 MiB, 412 MiB at most."
        );
        assert!(words.waits && !words.plain && !words.fits);
    }

    #[test]
    fn a_refusal_is_told_with_its_numbers_and_what_helps() {
        let refusal = Refused {
            code: "insufficient_memory".to_owned(),
            message: "`big` needs 9.1 GiB; 6.0 GiB is free on this machine".to_owned(),
            hint: "Unload old first".to_owned(),
            anyway: true,
        };
        let in_vain = Some(Refused { anyway: false, ..refusal.clone() });
        assert!(!plan(&Plan { fits: false, refusal: in_vain, ..example() }).anyway, "a short machine");
        let words = plan(&Plan { fits: false, refusal: Some(refusal), ..example() });
        assert_eq!(words.text, "`big` needs 9.1 GiB; 6.0 GiB is free on this machine.");
        assert_eq!((words.fits, words.anyway, words.hint.as_str()), (false, true, "Unload old first."));
    }
}
