//! Talking to a server: plain HTTP, form fields to the management, JSON back.

use std::{io::Read, time::Duration};

use protocol::{Code, Problem};
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::{Agent, Body, RequestBuilder, http::Response};

use super::{Remote, trouble::Trouble};

/// Where a server is looked for unless another is named.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:7878";
/// A machine that does not even take the call by then is not there.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest verb: a load that first waits for room. The server's own deadlines end it earlier.
const LONGEST: Duration = Duration::from_secs(20 * 60);
/// A stream says something at least every ten seconds.
const SILENCE: Duration = Duration::from_secs(60);
/// No answer is longer.
const MOST_BYTES: u64 = 64 << 20;

/// A server that can be asked.
pub(crate) struct Client {
    agent: Agent,
    server: String,
    token: Option<String>,
}

impl Client {
    /// The server that was named, or the one of this machine.
    pub(crate) fn new(remote: &Remote) -> Self {
        // Never through a proxy: it is this machine, or one that was named.
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("innkeeper-cli/", env!("CARGO_PKG_VERSION")))
            .proxy(None)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(LONGEST))
            .build();
        let server = remote.server.as_deref().unwrap_or(DEFAULT_SERVER);
        Self { agent: config.new_agent(), server: base(server), token: remote.token.clone() }
    }

    /// Reads.
    pub(crate) fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Trouble> {
        let request = self.agent.get(self.url(path)).query_pairs(query.iter().copied());
        self.answer(self.signed(request).call())
    }

    /// Does something: form fields.
    pub(crate) fn post(&self, path: &str, form: &[(&str, &str)]) -> Result<Value, Trouble> {
        let request = self.agent.post(self.url(path)).header("accept", "application/json");
        self.answer(self.signed(request).send_form(form.iter().copied()))
    }

    /// Asks a model.
    pub(crate) fn ask(&self, path: &str, body: &Value) -> Result<Value, Trouble> {
        let request = self.agent.post(self.url(path)).content_type("application/json");
        self.answer(self.signed(request).send(body.to_string()))
    }

    /// Asks a model for an answer that comes piece by piece. `session` names the conversation, so that its beginning is
    /// still known the next time.
    pub(crate) fn ask_streaming(
        &self,
        path: &str,
        body: &Value,
        session: &str,
    ) -> Result<impl Read, Trouble> {
        let request = self.agent.post(self.url(path)).content_type("application/json");
        let request = self.signed(request).header("x-innkeeper-session", session);
        let request = request.config().timeout_global(None).timeout_per_read(Some(SILENCE)).build();
        self.stream(request.send(body.to_string()))
    }

    /// Where the server is.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Holds a model for as long as what is returned lives. Waits for its load.
    pub(crate) fn hold(&self, model: &str) -> Result<impl Read + Send + use<>, Trouble> {
        let request = self.agent.post(self.url("/manage/hold")).header("accept", "application/json");
        let request = self.signed(request);
        let request = request.config().timeout_global(None).timeout_per_read(Some(SILENCE)).build();
        self.stream(request.send_form([("model", model)]))
    }

    /// Listens to what happens.
    pub(crate) fn listen(&self, path: &str) -> Result<impl Read, Trouble> {
        let request = self.signed(self.agent.get(self.url(path)));
        let request = request.config().timeout_global(None).timeout_per_read(Some(SILENCE)).build();
        self.stream(request.call())
    }

    /// Whether a server answers at all.
    pub(crate) fn is_there(&self) -> bool {
        let request = self.signed(self.agent.get(self.url("/healthz")));
        let request = request.config().timeout_global(Some(CONNECT)).build();
        request.call().is_ok_and(|response| response.status().is_success())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server)
    }

    fn signed<Kind>(&self, request: RequestBuilder<Kind>) -> RequestBuilder<Kind> {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn answer(&self, sent: Result<Response<Body>, ureq::Error>) -> Result<Value, Trouble> {
        let mut response = sent.map_err(|error| self.lost(&error))?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(MOST_BYTES).read_to_string();
        let text = body.map_err(|error| self.lost(&error))?;
        if (200..300).contains(&status) {
            serde_json::from_str(&text).map_err(|error| self.strange(&error.to_string()))
        } else {
            Err(Trouble::Refused(problem(status, &text)))
        }
    }

    fn stream(&self, sent: Result<Response<Body>, ureq::Error>) -> Result<impl Read + Send + use<>, Trouble> {
        let response = sent.map_err(|error| self.lost(&error))?;
        if response.status().is_success() {
            return Ok(response.into_body().into_reader());
        }
        Err(self.answer(Ok(response)).err().unwrap_or_else(|| self.strange("it refused without an error")))
    }

    fn strange(&self, why: &str) -> Trouble {
        Trouble::Failed(format!("What answers at {} is no Innkeeper: {why}.", self.server))
    }

    fn lost(&self, error: &ureq::Error) -> Trouble {
        use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, UnexpectedEof};
        match error {
            ureq::Error::Io(io)
                if matches!(io.kind(), ConnectionReset | ConnectionAborted | UnexpectedEof) =>
            {
                Trouble::Failed(format!("The connection to {} broke: {io}.", self.server))
            }
            ureq::Error::BadUri(why) => Trouble::Usage(format!("`{}` is no address: {why}.", self.server)),
            ureq::Error::Io(io) => Trouble::Unreachable { server: self.server.clone(), why: io.to_string() },
            other => Trouble::Unreachable { server: self.server.clone(), why: other.to_string() },
        }
    }
}

/// `host:port` is what people write; paths are put behind it.
fn base(server: &str) -> String {
    let server = server.trim().trim_end_matches('/');
    if server.contains("://") { server.to_owned() } else { format!("http://{server}") }
}

/// An answer in the shape that it should have.
pub(crate) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Trouble> {
    T::deserialize(value).map_err(|error| {
        Trouble::Failed(format!("The server's answer cannot be read ({error}). Is it of another version?"))
    })
}

/// The problem in a refusal, in the management's shape or in OpenAI's.
pub(crate) fn problem(status: u16, text: &str) -> Problem {
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    let error = &body["error"];
    let Some(message) = error["message"].as_str() else {
        return Problem::new(
            Code::Internal,
            format!("The server answered with status {status} and no explanation."),
            "Its log says more.",
        );
    };
    let hint = error["hint"].as_str().unwrap_or_default();
    // OpenAI's shape has the hint in the sentence as well.
    let message = message.strip_suffix(hint).map_or(message, str::trim_end);
    Problem {
        code: serde_json::from_value(error["code"].clone()).unwrap_or(Code::Internal),
        message: message.to_owned(),
        hint: hint.to_owned(),
        retry_after_seconds: error["retry_after_seconds"].as_u64(),
        field: error["field"].as_str().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_understood_with_and_without_its_scheme() {
        for text in ["127.0.0.1:7878", "http://127.0.0.1:7878", "http://127.0.0.1:7878/", " 127.0.0.1:7878/ "]
        {
            assert_eq!(base(text), DEFAULT_SERVER);
        }
    }

    #[test]
    fn both_shapes_of_a_refusal_give_the_same_problem() {
        let ours = r#"{"error":{"code":"insufficient_memory","message":"It does not fit.","hint":"Unload x.","retry_after_seconds":3}}"#;
        let openai = r#"{"error":{"code":"insufficient_memory","message":"It does not fit. Unload x.","hint":"Unload x.","type":"server_error","param":null,"retry_after_seconds":3}}"#;
        let expected = Problem::new(Code::InsufficientMemory, "It does not fit.", "Unload x.").retry_after(3);
        assert_eq!(problem(507, ours), expected);
        assert_eq!(problem(507, openai), expected);
    }

    #[test]
    fn a_refusal_without_words_names_its_status() {
        assert!(problem(502, "<html>").message.contains("502"));
    }

    #[test]
    fn a_port_where_nobody_listens_is_unreachable() {
        // Bound and never listened on again: nobody can be there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let remote = Remote { server: Some(format!("127.0.0.1:{port}")), token: None };
        let client = Client::new(&remote);
        assert!(!client.is_there());
        let trouble = client.get("/manage/snapshot", &[]).unwrap_err();
        assert_eq!(trouble.exit_code(), 3, "{trouble}");
    }
}
