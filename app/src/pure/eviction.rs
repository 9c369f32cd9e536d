//! Who would go first if a load needed room, from what the page already knows.
//!
//! The manager decides; this is its rule once more (`manager::admission`), as a promise before it happens.

use protocol::{Model, ModelId, Snapshot, Time};

/// A model that came only now is not asked to go.
const LEAST_STAY_MS: i64 = 10_000;

/// The idle models that are not pinned, those that are worth least to keep first: by idle time / (load time x weight).
pub fn order(house: &Snapshot, now: Time) -> Vec<&ModelId> {
    let mut idle: Vec<(f64, &ModelId)> = house
        .models
        .iter()
        .filter(|model| !model.pinned)
        .filter_map(|model| Some((idle_by_worth(model, now)?, &model.id)))
        .collect();
    idle.sort_by(|a, b| b.0.total_cmp(&a.0));
    idle.into_iter().map(|(_, id)| id).collect()
}

fn idle_by_worth(model: &Model, now: Time) -> Option<f64> {
    let (since, instance) = (model.idle_since?, model.instances.first()?);
    if now.unix_ms() - instance.loaded_at?.unix_ms() < LEAST_STAY_MS {
        return None;
    }
    let idle_ms = (now.unix_ms() - since.unix_ms()).max(0) as f64;
    Some(idle_ms / (instance.load_ms.unwrap_or(0).max(1) as f64 * model.weight))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    fn idle(id: &str, since_ms: i64, load_ms: u64, weight: f64) -> Model {
        let mut model = example::ready(id, 33 << 20);
        model.idle_since = Some(Time::from_unix_ms(since_ms));
        model.instances[0].loaded_at = Some(Time::from_unix_ms(since_ms));
        model.instances[0].load_ms = Some(load_ms);
        model.weight = weight;
        model
    }

    fn first(models: Vec<Model>) -> Vec<String> {
        let mut house = example::busy_day();
        house.models = models;
        order(&house, Time::from_unix_ms(100_000)).into_iter().map(ToString::to_string).collect()
    }

    #[test]
    fn who_is_idle_for_long_quick_to_load_and_of_little_weight_goes_first() {
        let usual = || idle("usual", 0, 100, 1.0);
        assert_eq!(first(vec![idle("later", 10_000, 100, 1.0), usual()]), ["usual", "later"]);
        assert_eq!(first(vec![idle("slow", 0, 200, 1.0), usual()]), ["usual", "slow"]);
        assert_eq!(first(vec![usual(), idle("light", 0, 100, 0.5)]), ["light", "usual"]);
    }

    #[test]
    fn who_is_pinned_in_use_or_came_only_now_does_not_go() {
        let mut pinned = idle("pinned", 0, 100, 1.0);
        pinned.pinned = true;
        let mut used = idle("used", 0, 100, 1.0);
        used.idle_since = None;
        let new = idle("new", 90_001, 100, 1.0);
        let of_age = idle("of-age", 90_000, 100, 1.0);
        assert_eq!(first(vec![pinned, used, new, of_age, example::unloaded("away")]), ["of-age"]);
    }
}
