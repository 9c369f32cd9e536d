//! The official Python SDK, in an environment of its own under the target folder.

use std::{fs, path::PathBuf};

use anyhow::Result;

use crate::{
    places::Places,
    stamp::{self, Stamps},
    tool::Tool,
};

/// Makes the environment when its list of packages changed; returns its Python.
pub(crate) fn python(places: &Places) -> Result<PathBuf> {
    let list = places.end2end().join("clients/requirements.txt");
    let wanted = fs::read(&list)?;
    let venv = places.tools().join("python");
    let python = venv.join("bin/python");
    let digest = stamp::digest([("requirements.txt", wanted.as_slice())]);
    Stamps::in_dir(places.stamps()).unless_fresh("python", &digest, &[&python], || {
        let how = "python3 with venv and pip is needed to test the official SDK: on Debian, `apt-get install python3-venv`.";
        if venv.exists() {
            fs::remove_dir_all(&venv)?;
        }
        Tool::new("python3").args(["-m", "venv"]).args([&venv]).mend(how).run()?;
        Tool::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).args([&list]).mend(how).run()
    })?;
    Ok(python)
}
