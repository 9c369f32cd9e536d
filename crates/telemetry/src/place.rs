//! Where we run, as far as it decides what a GPU's driver can say of processes.

use std::{fs, path::Path};

/// The number of the first process-id namespace (PROC_PID_INIT_INO in the kernel's include/linux/proc_ns.h).
const FIRST_NAMESPACE: &str = "pid:[4026531836]";

/// A kind of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The machine itself, or a container that shares its process ids.
    Machine,
    /// A container with process ids of its own: the driver names processes by the host's.
    Container,
    /// Linux under Windows: the driver stands in Windows.
    Wsl,
}

impl Place {
    /// Where this process runs.
    pub(crate) fn here(proc: &Path) -> Self {
        let kernel = fs::read_to_string(proc.join("sys/kernel/osrelease")).unwrap_or_default();
        if kernel.to_ascii_lowercase().contains("microsoft") {
            return Self::Wsl;
        }
        match fs::read_link(proc.join("self/ns/pid")) {
            Ok(namespace) if namespace.as_os_str() != FIRST_NAMESPACE => Self::Container,
            _ => Self::Machine,
        }
    }

    /// Why nothing is known of what processes hold on an NVIDIA GPU here; `None`: the driver says it.
    pub(crate) fn note(self) -> Option<&'static str> {
        match self {
            Self::Machine => None,
            Self::Container => Some(
                "What models hold on this GPU is not known: its driver names processes by the host's ids, which this \
                 container does not see (start it with `--pid=host`).",
            ),
            Self::Wsl => {
                Some("What models hold on this GPU is not known: under WSL its driver does not say it.")
            }
        }
    }

    /// What to do where the driver's library is missing.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::Machine => {
                "Models run on the CPU. With an NVIDIA GPU, install its driver; it is found within a minute."
            }
            Self::Container => {
                "Models run on the CPU. A container sees an NVIDIA GPU when it is started with `--gpus all` (NVIDIA \
                 Container Toolkit)."
            }
            Self::Wsl => {
                "Models run on the CPU. Under WSL the NVIDIA driver is installed in Windows; its library then stands \
                 in /usr/lib/wsl/lib."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn proc(kernel: &str, namespace: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("sys/kernel")).unwrap();
        fs::write(root.path().join("sys/kernel/osrelease"), kernel).unwrap();
        fs::create_dir_all(root.path().join("self/ns")).unwrap();
        symlink(namespace, root.path().join("self/ns/pid")).unwrap();
        root
    }

    #[test]
    fn machines_containers_and_wsl_are_told_apart() {
        let here = |kernel, namespace| Place::here(proc(kernel, namespace).path());
        assert_eq!(here("6.8.0-45-generic\n", FIRST_NAMESPACE), Place::Machine);
        assert_eq!(here("6.8.0-45-generic\n", "pid:[4026532281]"), Place::Container);
        assert_eq!(here("5.15.153.1-microsoft-standard-WSL2\n", FIRST_NAMESPACE), Place::Wsl);
        assert_eq!(Place::here(Path::new("/nowhere")), Place::Machine);
    }
}
