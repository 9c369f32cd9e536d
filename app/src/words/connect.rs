//! How a program reaches this server: lines that work as they are pasted.

/// A question by curl, from a shell.
pub fn curl(base_url: &str, model: &str) -> String {
    let token = if needs_token(base_url) { "  -H \"Authorization: Bearer YOUR_TOKEN\" \\\n" } else { "" };
    format!(
        "curl {base_url}/v1/chat/completions \\\n  -H \"Content-Type: application/json\" \\\n{token}  \
         -d '{{\"model\": \"{model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Say hello.\"}}], \"max_tokens\": 100}}'"
    )
}

/// The same by OpenAI's Python package.
pub fn python(base_url: &str, model: &str) -> String {
    let key = if needs_token(base_url) { "YOUR_TOKEN" } else { "none" };
    format!(
        "# pip install openai\nfrom openai import OpenAI\n\nclient = OpenAI(base_url=\"{base_url}/v1\", api_key=\"{key}\")\n\
         answer = client.chat.completions.create(\n    model=\"{model}\",\n    messages=[{{\"role\": \"user\", \"content\": \
         \"Say hello.\"}}],\n    max_tokens=100,\n)\nprint(answer.choices[0].message.content)"
    )
}

/// Programs on this very machine need no token.
fn needs_token(base_url: &str) -> bool {
    let host = base_url.split("://").nth(1).unwrap_or_default();
    !["127.", "localhost", "[::1]"].iter().any(|loopback| host.starts_with(loopback))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_of_the_curl_line_is_json() {
        let line = curl("http://127.0.0.1:7878", "smollm2");
        let body = line.split('\'').nth(1).unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["model"], "smollm2");
        assert!(line.starts_with("curl http://127.0.0.1:7878/v1/chat/completions \\\n"));
    }

    #[test]
    fn only_other_machines_need_a_token() {
        for (url, token) in [
            ("http://127.0.0.1:1", false),
            ("http://localhost:1", false),
            ("http://[::1]:1", false),
            ("http://192.168.1.9:1", true),
        ] {
            assert_eq!(curl(url, "m").contains("YOUR_TOKEN"), token, "{url}");
            assert_eq!(python(url, "m").contains("YOUR_TOKEN"), token, "{url}");
        }
    }
}
