//! A setting that is kept is also applied: one step, one at a time, to its end even if whoever asked has gone meanwhile.

use app::ports::Own;
use axum::{
    Form, Json,
    extract::{State, rejection::FormRejection},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use manager::{Defaults, Note};
use protocol::{Code, EventKind, Model, ModelId, Problem, Settings};

use crate::{answer::Answer, compose::House, config::Config, relay};

/// The form of POST /manage/set: a model, and one or more of what it may have of its own.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wishes {
    model: String,
    idle_timeout: Option<String>,
    pinned: Option<String>,
    weight: Option<String>,
}

/// POST /manage/set: several settings of one model, all or none.
pub(crate) async fn set(
    State(house): State<House>,
    headers: HeaderMap,
    form: Result<Form<Wishes>, FormRejection>,
) -> Response {
    let by = app::caller(&headers);
    let changed = async {
        let (model, values) = wished(form)?;
        house.change_of_model(model, values, by).await
    };
    match changed.await {
        Ok(model) => Json(model).into_response(),
        Err(problem) => Answer::Ours.problem(&problem),
    }
}

fn wished(form: Result<Form<Wishes>, FormRejection>) -> Result<(ModelId, Vec<(Own, String)>), Problem> {
    let hint = "Send model, and at least one of idle_timeout, pinned, weight.";
    let bad = |why: String| Problem::new(Code::BadArgument, why, hint);
    let Form(Wishes { model, idle_timeout, pinned, weight }) =
        form.map_err(|error| bad(error.body_text()))?;
    let id = model.trim().parse().map_err(|error: protocol::BadModelId| bad(error.to_string()))?;
    let given = [(Own::IdleTimeout, idle_timeout), (Own::Pinned, pinned), (Own::Weight, weight)];
    let values: Vec<(Own, String)> =
        given.into_iter().filter_map(|(own, value)| Some((own, value?.trim().to_owned()))).collect();
    if values.is_empty() {
        return Err(bad("Nothing was given to change.".to_owned()));
    }
    Ok((id, values))
}

impl House {
    /// Settings of the whole house.
    pub(crate) async fn change(
        &self,
        values: Vec<(String, String)>,
        by: String,
    ) -> Result<Settings, Problem> {
        let house = self.clone();
        let step = async move {
            let _turn = house.settings().turn().await;
            let config = house.keep(values.clone()).await?;
            house.desk().set_defaults(house.defaults(&config)).await;
            for (key, value) in &values {
                house.desk().note(changed(format!("{key} = {value}"), by.clone())).await;
            }
            Ok(house.settings().settings())
        };
        self.tasks().spawn(step).await.unwrap_or_else(|_| Err(relay::lost()))
    }

    /// Settings of one model, all or none. A name that nobody knows is refused before anything is written.
    pub(crate) async fn change_of_model(
        &self,
        model: ModelId,
        values: Vec<(Own, String)>,
        by: String,
    ) -> Result<Model, Problem> {
        let house = self.clone();
        let step = async move {
            let _turn = house.settings().turn().await;
            let mut shown = house.find(&model).await?;
            let id = shown.id.clone();
            let (owns, kept): (Vec<Own>, _) =
                values.into_iter().map(|(own, value)| (own, (own.key(&id), value))).unzip();
            let now = house.keep(kept).await?.of_model(&id);
            for own in owns {
                let (id, by) = (id.clone(), by.clone());
                shown = match own {
                    Own::IdleTimeout => house.desk().set_idle_timeout(id, now.idle_timeout, by).await,
                    Own::Pinned => house.desk().pin(id, now.pinned, by).await,
                    Own::Weight => house.desk().set_weight(id, now.weight, by).await,
                }?;
            }
            Ok(shown)
        };
        self.tasks().spawn(step).await.unwrap_or_else(|_| Err(relay::lost()))
    }

    /// Writes and syncs a file.
    async fn keep(&self, values: Vec<(String, String)>) -> Result<Config, Problem> {
        let house = self.clone();
        tokio::task::spawn_blocking(move || house.settings().save(&values))
            .await
            .unwrap_or_else(|_| Err(relay::lost()))
    }

    fn defaults(&self, config: &Config) -> Defaults {
        let total = self.desk().snapshot().host.as_ref().map_or(0, |host| host.memory_total_bytes);
        Defaults {
            idle_timeout: Some(config.idle_timeout),
            session_timeout: Some(config.session_timeout),
            after_last_session: Some(config.after_last_session),
            ram_limit_bytes: Some(config.ram_limit.of(total)),
            reserve_bytes: Some(config.reserve.of(total)),
            gpu_limit: Some(config.gpu_limit.of_gpus()),
        }
    }
}

fn changed(reason: String, by: String) -> Note {
    Note {
        kind: EventKind::Settings,
        model: None,
        reason,
        by,
        bytes_before: None,
        bytes_after: None,
        detail: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        path::Path,
        sync::OnceLock,
        time::{Duration, SystemTime},
    };

    use protocol::IdleTimeout;
    use tokio::time::timeout;

    use super::*;
    use crate::{
        compose,
        config::{Layers, Source},
    };

    /// A house with one model, whose file is none.
    async fn house(data_dir: &Path, flags: &[(&str, &str)]) -> House {
        let taken = compose::take_over(data_dir).await.unwrap();
        let path = data_dir.join("models/one.gguf");
        fs::write(&path, "not a model").unwrap();
        File::options().write(true).open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let mut layers = Layers::defaults();
        for (key, value) in flags {
            layers.set(Source::Flag, key, value).unwrap();
        }
        compose::compose(layers, data_dir, taken, ([127, 0, 0, 1], 0).into(), &OnceLock::new()).await.unwrap()
    }

    fn one() -> ModelId {
        "one".parse().unwrap()
    }

    fn form(fields: &str) -> Result<(ModelId, Vec<(Own, String)>), Problem> {
        wished(Ok(Form(serde_json::from_str(fields).unwrap())))
    }

    async fn set(house: &House, fields: &str) -> Result<Model, Problem> {
        let (model, values) = form(fields)?;
        house.change_of_model(model, values, "a test".to_owned()).await
    }

    #[tokio::test]
    async fn of_several_values_of_a_model_all_are_taken_or_none_is() {
        let dir = tempfile::tempdir().unwrap();
        let house = house(dir.path(), &[("models.one.weight", "2")]).await;
        for (fields, code) in [
            (r#"{"model":"one","idle_timeout":"7m","weight":"3"}"#, Code::Conflict),
            (r#"{"model":"one","idle_timeout":"7m","pinned":"perhaps"}"#, Code::BadArgument),
            (r#"{"model":"other","idle_timeout":"7m","pinned":"true"}"#, Code::UnknownModel),
        ] {
            assert_eq!(set(&house, fields).await.unwrap_err().code, code, "{fields}");
            let model = house.find(&one()).await.unwrap();
            assert_eq!(
                (model.idle_timeout_seconds, model.pinned),
                (IdleTimeout::After { ms: 900_000 }, false),
                "{fields}"
            );
            assert!(!dir.path().join("settings.toml").exists(), "{fields}");
        }
        let model = set(&house, r#"{"model":"one","idle_timeout":" 7m","pinned":"true"}"#).await.unwrap();
        assert_eq!((model.idle_timeout_seconds, model.pinned), (IdleTimeout::After { ms: 420_000 }, true));
        let kept = house.settings().settings().of_model("one").cloned().unwrap();
        assert_eq!(
            (kept.idle_timeout.unwrap().value, kept.pinned.unwrap().value),
            ("7m".into(), "true".into())
        );
        assert!(house.close(Duration::from_secs(5)).await.is_ok());
    }

    #[test]
    fn a_form_without_a_value_is_told_what_to_send() {
        assert!(form(r#"{"model":"one"}"#).unwrap_err().hint.contains("idle_timeout"));
        assert_eq!(form(r#"{"model":"a/b","weight":"1"}"#).unwrap_err().code, Code::BadArgument);
        assert!(serde_json::from_str::<Wishes>(r#"{"model":"one","wait":"1"}"#).is_err(), "a misspelt name");
    }

    /// What two requests at once must not do: keep one's value last and apply the other's last.
    #[tokio::test]
    async fn while_one_change_is_kept_and_applied_no_other_one_is_begun() {
        let dir = tempfile::tempdir().unwrap();
        let house = house(dir.path(), &[]).await;
        let turn = house.settings().turn().await;
        let by = || "a test".to_owned();
        let mut of_house = Box::pin(house.change(vec![("idle_timeout".to_owned(), "2m".to_owned())], by()));
        let mut of_model =
            Box::pin(house.change_of_model(one(), vec![(Own::Pinned, "true".to_owned())], by()));
        // Each takes a few milliseconds where nobody has the turn.
        let early = timeout(Duration::from_millis(500), async {
            tokio::select! {
                changed = &mut of_house => drop(changed),
                changed = &mut of_model => drop(changed),
            }
        });
        assert!(early.await.is_err(), "a change did not wait for its turn");
        assert!(!dir.path().join("settings.toml").exists(), "a change was kept before its turn");
        drop(turn);
        let (settings, model) = tokio::join!(of_house, of_model);
        assert_eq!(settings.unwrap().idle_timeout.value, "2m");
        assert!(model.unwrap().pinned);
        assert!(house.close(Duration::from_secs(5)).await.is_ok());
    }
}
