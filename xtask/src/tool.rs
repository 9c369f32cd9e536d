//! Calls to other programs: what is called is a value, a failure names the command and what mends it.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    io::ErrorKind,
    os::fd::AsFd,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// A program to be called.
#[derive(Debug)]
pub(crate) struct Tool {
    command: Command,
    mend: Option<String>,
}

impl Tool {
    /// By name or path.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self { command, mend: None }
    }

    /// With these arguments.
    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// In this folder.
    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// With this variable.
    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Without this variable.
    pub(crate) fn without_env(mut self, name: OsString) -> Self {
        self.command.env_remove(name);
        self
    }

    /// What a person does when it fails: a sentence, best with a command.
    pub(crate) fn mend(mut self, words: impl Into<String>) -> Self {
        self.mend = Some(words.into());
        self
    }

    /// With its words on stderr: stdout belongs to whatever comes after it.
    pub(crate) fn on_stderr(mut self) -> Result<Self> {
        self.command.stdout(std::io::stderr().as_fd().try_clone_to_owned()?);
        Ok(self)
    }

    /// Runs it before everybody's eyes.
    pub(crate) fn run(mut self) -> Result<()> {
        let status = self.command.status();
        let status = self.started(status)?;
        if status.success() { Ok(()) } else { self.failed(&status.to_string()) }
    }

    /// Runs it and returns what it says; its complaints are shown only if it fails.
    pub(crate) fn capture(mut self) -> Result<String> {
        let output = self.command.output();
        let output = self.started(output)?;
        if output.status.success() {
            return String::from_utf8(output.stdout)
                .with_context(|| format!("{self} does not answer in UTF-8"));
        }
        let [said, complained] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        self.failed(&format!("{}\n{}\n{}", output.status, said.trim_end(), complained.trim_end()))
    }

    /// Runs it and returns what it says; its complaints are shown as they come.
    pub(crate) fn answer(mut self) -> Result<String> {
        self.command.stderr(Stdio::inherit());
        let output = self.command.output();
        let output = self.started(output)?;
        if !output.status.success() {
            return self.failed(&output.status.to_string());
        }
        String::from_utf8(output.stdout).with_context(|| format!("{self} does not answer in UTF-8"))
    }

    /// Becomes that program; returns only what went wrong.
    #[cfg(unix)]
    pub(crate) fn become_it(mut self) -> anyhow::Error {
        use std::os::unix::process::CommandExt;
        self.command.stdin(Stdio::inherit());
        let error = self.command.exec();
        anyhow::Error::new(error).context(format!("cannot start {self}"))
    }

    fn started<T>(&self, result: std::io::Result<T>) -> Result<T> {
        result.map_err(|error| {
            let what = match error.kind() {
                ErrorKind::NotFound => format!("{} is not installed", self.program()),
                _ => format!("cannot start {self}: {error}"),
            };
            match &self.mend {
                Some(mend) => anyhow::anyhow!("{what}. {mend}"),
                None => anyhow::anyhow!(what),
            }
        })
    }

    fn failed<T>(&self, how: &str) -> Result<T> {
        match &self.mend {
            Some(mend) => bail!("`{self}` failed: {how}\n{mend}"),
            None => bail!("`{self}` failed: {how}"),
        }
    }

    fn program(&self) -> String {
        self.command.get_program().to_string_lossy().into_owned()
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Path::new(self.command.get_program()).file_name().unwrap_or_default();
        f.write_str(&name.to_string_lossy())?;
        for arg in self.command.get_args() {
            write!(f, " {}", arg.to_string_lossy())?;
        }
        Ok(())
    }
}

/// Where a program lies, looked for along `PATH`.
pub(crate) fn which(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_what_mends_it() {
        let error = Tool::new("no-such-program-here").mend("Install it.").run().unwrap_err().to_string();
        assert_eq!(error, "no-such-program-here is not installed. Install it.");
    }

    #[test]
    fn a_failure_shows_the_command_its_complaint_and_the_way_out() {
        let error = Tool::new("sh")
            .args(["-c", "echo no room >&2; exit 3"])
            .mend("Make room.")
            .capture()
            .unwrap_err();
        let words = error.to_string();
        assert!(words.starts_with("`sh -c "), "{words}");
        assert!(words.contains("no room") && words.ends_with("Make room."), "{words}");
    }

    #[test]
    fn what_a_tool_says_is_returned() {
        assert_eq!(Tool::new("echo").args(["yes"]).capture().unwrap(), "yes\n");
        assert!(which("sh").is_some() && which("no-such-program-here").is_none());
    }
}
