//! Files of the Hugging Face hub, over HTTPS. What the hub says of a file (its size and SHA-256) is what must come.
//!
//! The hub's own crate keeps a cache of its own, cannot be cancelled and checks no digest; this needs none of the first
//! and both of the others.

use std::{
    env,
    io::{self, Read},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::Duration,
};

use ureq::{
    Agent, Body,
    http::{HeaderMap, Response, StatusCode},
    tls::{RootCerts, TlsConfig},
};

use super::{
    Job, PullStage,
    files::{From, Part, Pin, bring},
    workshop::Workshop,
};
use crate::{StoreError, names::gguf_stem};

/// Read at a time.
const CHUNK: usize = 256 << 10;
/// Between two looks at whether it was cancelled.
const LOOK: Duration = Duration::from_millis(200);
/// Redirects that are followed on the way to the bytes: the hub sends to its store of large files once.
const REDIRECTS: u32 = 4;
/// Names that a repository may have had: what the hub says of a file is asked for again at the new one.
const RENAMES: usize = 2;
/// The largest file that is believed in; also the end of a connection that never ends.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A file, or a whole repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    owner: String,
    repository: String,
    /// In the repository; empty: all of it.
    pub(super) path: String,
}

impl Place {
    /// Reads what follows `hf:`, checked letter by letter, since it becomes an address.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (name, path) = text.split_once(':').map_or((text, None), |(name, path)| (name, Some(path)));
        let (owner, repository) = name.split_once('/')?;
        let word = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        let good = |path: &str| gguf_stem(path).is_some() && path.split('/').all(word);
        (word(owner) && word(repository) && path.is_none_or(good)).then(|| Self {
            owner: owner.to_owned(),
            repository: repository.to_owned(),
            path: path.unwrap_or_default().to_owned(),
        })
    }

    /// What it is called.
    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    /// Another file of the same repository.
    pub(super) fn with(&self, path: String) -> Self {
        Self { path, ..self.clone() }
    }

    fn words(&self) -> String {
        format!("hf:{}/{}:{}", self.owner, self.repository, self.path)
    }
}

/// The hub, as this machine reaches it.
#[derive(Debug)]
pub(super) struct Hub {
    endpoint: String,
    /// For what is not public.
    token: Option<String>,
    /// Without a byte for so long, it is given up.
    stall: Duration,
}

impl Hub {
    /// With the variables that the hub's own tools know.
    pub(super) fn from_env() -> Self {
        let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            endpoint: set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned()),
            token: set("HF_TOKEN"),
            stall: Duration::from_secs(60),
        }
    }

    /// Brings all parts, one after the other.
    pub(super) fn fetch(
        &self,
        parts: &[Part],
        workshop: &Workshop,
        job: &mut Job<'_>,
    ) -> Result<(), StoreError> {
        let agent = self.agent();
        let mut found = Vec::new();
        for part in parts {
            let From::Hub(place) = &part.from else { continue };
            job.cancel.check()?;
            found.push((place, part, self.facts(&agent, place)?));
        }
        let total = found.iter().filter_map(|(.., facts)| facts.size_bytes).fold(0, u64::saturating_add);
        workshop.need(total)?;
        let mut done = 0;
        for (place, part, facts) in found {
            job.cancel.check()?;
            let body = self.open(&agent, place)?;
            let pin =
                facts.sha256.zip(facts.size_bytes).map(|(sha256, size_bytes)| Pin { size_bytes, sha256 });
            let part = Part { pin, ..part.clone() };
            let mut incoming = Incoming::start(body, self.stall)?;
            done += bring(
                &mut incoming,
                &place.words(),
                &part,
                workshop,
                job,
                (PullStage::Fetching, done, total),
            )?;
        }
        Ok(())
    }

    fn agent(&self) -> Agent {
        let answer = Duration::from_secs(30);
        Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(answer))
            .timeout_recv_body(Some(LONGEST))
            // The thread that reads a silent line ends too, after the one who has given it up.
            .timeout_per_read(Some(self.stall.saturating_mul(2)))
            .max_redirects(REDIRECTS)
            .build()
            .new_agent()
    }

    /// What the hub says of a file, before it is asked for. What it sends elsewhere without a digest is refused: nobody
    /// could tell whether the bytes are the right ones.
    fn facts(&self, agent: &Agent, place: &Place) -> Result<Facts, StoreError> {
        let mut address = self.address(place);
        for _ in 0..=RENAMES {
            let asked =
                agent.head(&address).config().max_redirects(0).max_redirects_will_error(false).build();
            let answer = good(place, self.with_token(asked).call())?;
            let facts = Facts::read(answer.headers());
            if facts.sha256.is_some() || !answer.status().is_redirection() {
                return Ok(facts);
            }
            // A repository that was renamed: the hub itself knows the file under another name.
            match self.on_the_hub(answer.headers()) {
                Some(other) => address = other,
                None => break,
            }
        }
        Err(StoreError::Hub {
            what: place.words(),
            said: "it sends elsewhere and does not say what the file must be".to_owned(),
            help: "Look up the repository's present name on its page, and use that.",
        })
    }

    /// Where a redirect leads, if that is on the hub: the token may go there, and what is said there is the hub's word.
    fn on_the_hub(&self, headers: &HeaderMap) -> Option<String> {
        let to = headers.get("location")?.to_str().ok()?;
        let hub = self.endpoint.trim_end_matches('/');
        if to.starts_with('/') && !to.starts_with("//") {
            let host_at = hub.find("://")? + 3;
            let host_end = hub[host_at..].find('/').map_or(hub.len(), |end| host_at + end);
            return Some(format!("{}{to}", &hub[..host_end]));
        }
        to.strip_prefix(hub)?.starts_with('/').then(|| to.to_owned())
    }

    fn open(&self, agent: &Agent, place: &Place) -> Result<Body, StoreError> {
        // A redirect to another host leaves the token behind: that is how this client is made.
        Ok(good(place, self.with_token(agent.get(self.address(place))).call())?.into_body())
    }

    fn with_token<T>(&self, request: ureq::RequestBuilder<T>) -> ureq::RequestBuilder<T> {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn address(&self, place: &Place) -> String {
        let Place { owner, repository, path } = place;
        format!("{}/{owner}/{repository}/resolve/main/{path}", self.endpoint.trim_end_matches('/'))
    }
}

/// What is known of a file before it comes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    size_bytes: Option<u64>,
    /// In hexadecimal digits; small files have another kind of digest.
    sha256: Option<String>,
}

impl Facts {
    fn read(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        let digest = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        Self {
            size_bytes: text("x-linked-size").and_then(|size| size.parse().ok()),
            sha256: text("x-linked-etag")
                .map(|tag| tag.trim_matches('"').to_ascii_lowercase())
                .filter(|tag| digest(tag)),
        }
    }
}

/// An answer that carries the file, or leads to it.
fn good(place: &Place, answer: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, StoreError> {
    let refused = |said: String, help| Err(StoreError::Hub { what: place.words(), said, help });
    match answer {
        Ok(answer) if answer.status().is_success() || answer.status().is_redirection() => Ok(answer),
        Ok(answer) if matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => refused(
            format!("it answered {}", answer.status()),
            "If the name is right, the model asks for its licence to be accepted: do that on its page, and give your \
             token in HF_TOKEN.",
        ),
        Ok(answer) if answer.status() == StatusCode::NOT_FOUND => refused(
            "there is no such file".to_owned(),
            "Look at the repository's list of files; letters' case counts.",
        ),
        Ok(answer) => refused(format!("it answered {}", answer.status()), "Try again later."),
        Err(error) => {
            refused(error.to_string(), "Is this machine connected? A mirror's address goes into HF_ENDPOINT.")
        }
    }
}

/// A body that a thread reads, so that a silent line can be left: a wait is told as `Interrupted` several times a
/// second, and as `TimedOut` in the end.
struct Incoming {
    chunks: Receiver<io::Result<Vec<u8>>>,
    chunk: io::Cursor<Vec<u8>>,
    silent: Duration,
    stall: Duration,
}

impl Incoming {
    fn start(body: Body, stall: Duration) -> Result<Self, StoreError> {
        let (send, chunks) = sync_channel(2);
        let read = move || {
            let mut body = body.into_reader();
            loop {
                let mut chunk = vec![0; CHUNK];
                let read = body.read(&mut chunk).map(|read| {
                    chunk.truncate(read);
                    chunk
                });
                let last = !matches!(&read, Ok(chunk) if !chunk.is_empty());
                if send.send(read).is_err() || last {
                    break;
                }
            }
        };
        thread::Builder::new()
            .name("hub".to_owned())
            .spawn(read)
            .map_err(StoreError::io("read", "the hub"))?;
        Ok(Self { chunks, chunk: io::Cursor::default(), silent: Duration::ZERO, stall })
    }
}

impl Read for Incoming {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.chunk.read(into)?;
        if read > 0 {
            return Ok(read);
        }
        match self.chunks.recv_timeout(LOOK) {
            Ok(chunk) => {
                self.silent = Duration::ZERO;
                self.chunk = io::Cursor::new(chunk?);
                self.chunk.read(into)
            }
            Err(RecvTimeoutError::Timeout) => {
                self.silent += LOOK;
                Err(if self.silent < self.stall {
                    io::ErrorKind::Interrupted.into()
                } else {
                    let seconds = self.stall.as_secs();
                    io::Error::new(io::ErrorKind::TimedOut, format!("nothing came for {seconds} seconds"))
                })
            }
            // The thread has told the end before it went.
            Err(RecvTimeoutError::Disconnected) => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests;
