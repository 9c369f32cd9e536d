//! `innkeeper completions`: what a shell needs to complete the command line.

use clap_complete::Shell;

use super::{output::Output, trouble::Trouble};

/// Prints a shell's completions.
///
/// Example: innkeeper completions bash > ~/.local/share/bash-completion/completions/innkeeper
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which shell.
    shell: Shell,
}

/// Does it.
pub(crate) fn run(
    arguments: &Arguments,
    mut command: clap::Command,
    out: &mut Output,
) -> Result<(), Trouble> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "innkeeper", &mut script);
    out.piece(&String::from_utf8_lossy(&script))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::tests::pages;

    #[test]
    fn every_shell_gets_its_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let (mut out, page, _) = pages(false);
            let command = clap::Command::new("innkeeper").subcommand(clap::Command::new("frobnicate"));
            run(&Arguments { shell }, command, &mut out).unwrap();
            assert!(page.text().contains("frobnicate"), "{shell}");
        }
    }
}
