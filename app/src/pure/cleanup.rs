//! What a clean-up or a reinitialise would take, from what the page already knows.
//!
//! The manager decides; this is the promise that the page makes before the click, by the manager's rules.

use protocol::{Expected, Kept, Model, ModelState};

use super::held;
use crate::words::in_use;

/// What would go and what would stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Those that would go, with what each is expected to give back.
    pub goes: Vec<Expected>,
    /// Those that would stay, each with the reason.
    pub kept: Vec<Kept>,
    /// Requests that would be cut off.
    pub cut_off: u32,
}

impl Preview {
    /// What would come back in all.
    pub fn bytes(&self) -> u64 {
        self.goes.iter().filter_map(|one| one.expected_bytes).sum()
    }
}

/// What cleaning all AI resources up would do: idle models go, busy ones only when forced, pinned ones never.
pub fn clean_up(models: &[Model], force: bool) -> Preview {
    let mut preview = Preview::default();
    for model in models {
        let keep = match model.state {
            ModelState::Unloaded | ModelState::Failed => continue,
            ModelState::Draining | ModelState::Unloading => Some("is being unloaded already".to_owned()),
            ModelState::Stuck => Some("its process cannot be ended".to_owned()),
            _ if model.pinned => Some("pinned".to_owned()),
            _ if force => None,
            ModelState::Loading | ModelState::Waiting => Some("is being loaded".to_owned()),
            ModelState::Ready => match in_use(model) {
                nobody if nobody.is_empty() => None,
                users => Some(users),
            },
        };
        match keep {
            Some(reason) => preview.kept.push(Kept { model: model.id.clone(), reason }),
            None => {
                preview.cut_off += model.in_flight;
                preview.goes.push(expected(model));
            }
        }
    }
    preview
}

/// What reinitialising all loaded models would do: each ready one drains, goes, and is loaded again.
pub fn reinitialise(models: &[Model]) -> Preview {
    let ready = || models.iter().filter(|model| model.state == ModelState::Ready);
    Preview {
        goes: ready().map(expected).collect(),
        kept: Vec::new(),
        cut_off: ready().map(|model| model.in_flight).sum(),
    }
}

fn expected(model: &Model) -> Expected {
    let bytes = held(model);
    Expected { model: model.id.clone(), expected_bytes: (bytes > 0).then_some(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use proptest::prelude::*;

    fn house() -> Vec<Model> {
        let idle = example::ready("idle", 33 << 20);
        let busy = Model { in_flight: 2, ..example::ready("busy", 1 << 30) };
        let pinned = Model { pinned: true, ..example::ready("pinned", 10 << 20) };
        vec![busy, idle, pinned, example::unloaded("other")]
    }

    #[test]
    fn a_clean_up_takes_idle_models_and_says_why_it_keeps_the_rest() {
        let preview = clean_up(&house(), false);
        assert_eq!(preview.bytes(), 33 << 20);
        assert_eq!(preview.goes.len(), 1);
        let kept: Vec<_> = preview.kept.iter().map(|k| (k.model.as_str(), k.reason.as_str())).collect();
        assert_eq!(kept, [("busy", "2 requests"), ("pinned", "pinned")]);
        assert_eq!(preview.cut_off, 0);
    }

    #[test]
    fn force_takes_busy_models_too_but_never_pinned_ones() {
        let preview = clean_up(&house(), true);
        assert_eq!(preview.bytes(), (33 << 20) + (1 << 30));
        assert_eq!(preview.cut_off, 2);
        assert_eq!(preview.kept.len(), 1);
    }

    #[test]
    fn a_reinitialise_takes_every_ready_model_and_no_other() {
        let preview = reinitialise(&house());
        assert_eq!(preview.goes.len(), 3);
        assert_eq!(preview.cut_off, 2);
    }

    proptest! {
        #[test]
        fn every_loaded_model_is_named_exactly_once(
            states in prop::collection::vec((0_usize..8, any::<bool>(), 0_u32..3), 0..10),
            force in any::<bool>(),
        ) {
            use ModelState::*;
            let all = [Unloaded, Waiting, Loading, Ready, Draining, Unloading, Failed, Stuck];
            let models: Vec<_> = states.iter().enumerate().map(|(n, (state, pinned, in_flight))| Model {
                state: all[*state], pinned: *pinned, in_flight: *in_flight, ..example::ready(&format!("m{n}"), 1)
            }).collect();
            let preview = clean_up(&models, force);
            let named = preview.goes.len() + preview.kept.len();
            let loaded = models.iter().filter(|m| !matches!(m.state, Unloaded | Failed)).count();
            prop_assert_eq!(named, loaded);
        }
    }
}
