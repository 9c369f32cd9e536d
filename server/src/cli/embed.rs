//! `innkeeper embed`: texts into vectors.

use protocol::ModelId;
use serde::Deserialize;
use serde_json::json;

use super::{
    Remote,
    client::{Client, read},
    output::Output,
    trouble::Trouble,
};

/// Turns texts into vectors: one line of JSON a text, or its first numbers when a person watches.
///
/// Example: innkeeper embed minilm "a cat" "a kitten"
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which model.
    model: ModelId,
    /// The texts.
    #[arg(required = true, value_name = "TEXT")]
    texts: Vec<String>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Deserialize)]
struct Embeddings {
    data: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    embedding: Vec<f32>,
}

/// Does it.
pub(crate) fn run(arguments: &Arguments, out: &mut Output) -> Result<(), Trouble> {
    let body = json!({ "model": arguments.model, "input": arguments.texts, "encoding_format": "float" });
    let answer = Client::new(&arguments.remote).ask("/v1/embeddings", &body)?;
    if out.json {
        return out.value(&answer);
    }
    for one in read::<Embeddings>(&answer)?.data {
        if out.out_is_terminal {
            out.line(&short(&one.embedding))?;
        } else {
            out.value_line(&one.embedding)?;
        }
    }
    Ok(())
}

fn short(vector: &[f32]) -> String {
    let first: Vec<_> = vector.iter().take(6).map(|number| format!("{number:+.4}")).collect();
    let more = if vector.len() > first.len() { " ..." } else { "" };
    format!("{}{more} ({} numbers)", first.join(" "), vector.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_sees_the_beginning_and_the_length() {
        assert_eq!(short(&[0.5, -0.25]), "+0.5000 -0.2500 (2 numbers)");
        assert!(short(&[0.0; 384]).ends_with("... (384 numbers)"));
    }
}
