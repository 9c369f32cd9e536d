//! Who may: stands before every route. Host must be a name this server listens as (against DNS rebinding); whatever
//! changes something must come from our own page, or from a program on this machine, or with a token.
//!
//! The order of questions is Go's `CrossOriginProtection` with one clause more: a request that carries neither
//! Sec-Fetch-Site nor Origin comes from a program, and a program elsewhere needs a token.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use protocol::{Code, Problem};
use sha2::{Digest, Sha256};

use crate::answer::Answer;

/// Where a request came from; put into each request by the accept loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Who may.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    bound: IpAddr,
    allow_hosts: Vec<String>,
    allow_origins: Vec<String>,
    token_digests: Vec<[u8; 32]>,
}

impl Guard {
    /// A guard for a server bound to `bound`. Hosts are compared without their port, tokens by their SHA-256.
    pub(crate) fn new(
        bound: IpAddr,
        allow_hosts: &[String],
        allow_origins: &[String],
        tokens: &[String],
    ) -> Self {
        Self {
            bound,
            allow_hosts: allow_hosts.iter().map(|h| h.to_ascii_lowercase()).collect(),
            allow_origins: allow_origins
                .iter()
                .map(|o| o.trim_end_matches('/').to_ascii_lowercase())
                .collect(),
            token_digests: tokens.iter().map(|t| Sha256::digest(t.as_bytes()).into()).collect(),
        }
    }

    fn judge(&self, method: &Method, headers: &HeaderMap, peer: IpAddr) -> Result<(), Problem> {
        let host = text(headers, header::HOST.as_str()).unwrap_or_default().to_ascii_lowercase();
        if !self.knows_host(&host) {
            return Err(forbidden(
                format!(
                    "This server does not answer to the name `{}`.",
                    host.chars().take(80).collect::<String>()
                ),
                "Use http://127.0.0.1 or http://localhost with the port, or add the name to `[guard] allow_hosts`.",
            ));
        }
        let has_token = self.has_token(headers);
        if !peer.to_canonical().is_loopback() && !has_token {
            return Err(Problem::new(
                Code::Unauthorized,
                "A request from another machine needs a token.",
                "Send `Authorization: Bearer TOKEN` with a token from tokens.toml in the data folder.",
            ));
        }
        if matches!(*method, Method::GET | Method::HEAD) || has_token {
            return Ok(());
        }
        self.judge_origin(headers, &host)
    }

    fn judge_origin(&self, headers: &HeaderMap, host: &str) -> Result<(), Problem> {
        let elsewhere = |what: &str| {
            forbidden(
                format!(
                    "A page of another origin ({}) may not do this.",
                    what.chars().take(80).collect::<String>()
                ),
                "Use the page of this server itself, or add the origin to `[guard] allow_origins`.",
            )
        };
        let origin = text(headers, "origin").map(|o| o.to_ascii_lowercase());
        if origin.as_ref().is_some_and(|o| self.allow_origins.contains(o)) {
            return Ok(());
        }
        match (text(headers, "sec-fetch-site"), origin) {
            (Some("same-origin" | "none"), _) => Ok(()),
            (Some(site), _) => Err(elsewhere(site)),
            (None, Some(origin))
                if origin == format!("http://{host}") || origin == format!("https://{host}") =>
            {
                Ok(())
            }
            (None, Some(origin)) => Err(elsewhere(&origin)),
            (None, None) => Ok(()),
        }
    }

    fn knows_host(&self, host: &str) -> bool {
        let name = bare_host(host);
        if matches!(name, "localhost" | "127.0.0.1" | "::1") || self.allow_hosts.iter().any(|h| h == name) {
            return true;
        }
        // Bound to one address, that address is a name of ours. Bound to all, only the configured names are.
        !self.bound.is_unspecified() && name.parse() == Ok(self.bound)
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let Some(token) =
            text(headers, header::AUTHORIZATION.as_str()).and_then(|v| v.strip_prefix("Bearer "))
        else {
            return false;
        };
        let digest: [u8; 32] = Sha256::digest(token.trim().as_bytes()).into();
        // Digests are compared, not tokens, and every byte of each, so that time tells nothing.
        self.token_digests.iter().fold(false, |found, known| {
            found | (known.iter().zip(&digest).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0)
        })
    }
}

/// The middleware.
pub(crate) async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().map_or(IpAddr::from([127, 0, 0, 1]), |peer| peer.0.ip());
    match guard.judge(request.method(), request.headers(), peer) {
        Ok(()) => next.run(request).await,
        Err(problem) => Answer::for_path(request.uri().path()).problem(&problem).into_response(),
    }
}

/// A host without its port and without the brackets of an IPv6 address.
fn bare_host(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn forbidden(message: String, hint: &str) -> Problem {
    Problem::new(Code::Forbidden, message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn guard() -> Guard {
        Guard::new(HERE, &["inn.example".into()], &["https://pane.example".into()], &["secret".into()])
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse::<header::HeaderName>().unwrap(), v.parse().unwrap())).collect()
    }

    fn allowed(method: Method, peer: &str, pairs: &[(&str, &str)]) -> bool {
        guard().judge(&method, &headers(pairs), peer.parse().unwrap()).is_ok()
    }

    #[test]
    fn a_rebound_name_is_refused_on_reads_too() {
        for host in [
            "evil.example",
            "evil.example:7878",
            "127.0.0.1.evil.example",
            "localhost.evil.example:1",
            "10.0.0.1",
            "",
        ] {
            assert!(!allowed(Method::GET, "127.0.0.1", &[("host", host)]), "{host}");
        }
        for host in ["127.0.0.1:7878", "localhost", "LOCALHOST:1", "[::1]:7878", "inn.example:80"] {
            assert!(allowed(Method::GET, "127.0.0.1", &[("host", host)]), "{host}");
        }
    }

    #[test]
    fn only_our_own_page_may_change_something() {
        let host = ("host", "localhost:7878");
        for (pair, may) in [
            (("sec-fetch-site", "same-origin"), true),
            (("sec-fetch-site", "none"), true),
            (("sec-fetch-site", "same-site"), false),
            (("sec-fetch-site", "cross-site"), false),
            (("origin", "http://localhost:7878"), true),
            (("origin", "http://localhost:9999"), false),
            (("origin", "null"), false),
            (("origin", "https://pane.example"), true),
            (("x-nothing", "1"), true),
        ] {
            assert_eq!(allowed(Method::POST, "127.0.0.1", &[host, pair]), may, "{pair:?}");
        }
    }

    #[test]
    fn another_machine_needs_a_token_for_everything() {
        let host = ("host", "inn.example");
        assert!(!allowed(Method::GET, "192.0.2.7", &[host]));
        assert!(!allowed(Method::POST, "192.0.2.7", &[host, ("authorization", "Bearer wrong")]));
        assert!(allowed(Method::POST, "192.0.2.7", &[host, ("authorization", "Bearer secret")]));
    }

    #[test]
    fn a_local_program_without_browser_headers_may() {
        assert!(allowed(Method::POST, "127.0.0.1", &[("host", "127.0.0.1:7878")]));
        assert!(allowed(Method::POST, "::1", &[("host", "[::1]:7878")]));
    }
}
