//! What systemd is told: that the server is ready, that it stops, and that it lives. Without systemd, nothing.
//! Protocol: sd_notify(3), a datagram to the socket that the environment names.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// The line to systemd, if there is one. Clones are the same line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notify {
    socket: Option<Arc<UnixDatagram>>,
    /// It wants to hear of us at least so often.
    watchdog: Option<Duration>,
}

impl Notify {
    /// As the environment says.
    pub(crate) fn from_environment() -> Self {
        let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let Some(name) = read("NOTIFY_SOCKET") else { return Self::default() };
        // Another process's watchdog is not ours to feed.
        let is_ours = read("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = read("WATCHDOG_USEC").and_then(|usec| usec.parse().ok()).filter(|_| is_ours);
        Self::to(&name, watchdog.map(Duration::from_micros)).unwrap_or_else(|error| {
            tracing::warn!("systemd cannot be told anything at {name}: {error}");
            Self::default()
        })
    }

    fn to(name: &str, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // Whoever does not read shall not stop us.
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Some(Arc::new(socket)), watchdog })
    }

    /// It serves.
    pub(crate) fn ready(&self, url: &str) {
        self.say(&format!("READY=1\nSTATUS=Serving {url}"));
    }

    /// It stops.
    pub(crate) fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=Unloading models");
    }

    /// Feeds the watchdog as long as the manager makes samples, which it does once a second while it moves. A runtime that
    /// stands, or a manager that does, is heard of no more, and systemd starts another server.
    pub(crate) async fn feed<T>(self, mut samples: watch::Receiver<T>) {
        let Some(watchdog) = self.watchdog else { return };
        let mut next = Instant::now();
        while samples.changed().await.is_ok() {
            self.say("WATCHDOG=1");
            // Thrice within its patience, so that one word may be late.
            next = next.max(Instant::now()) + watchdog / 3;
            sleep_until(next).await;
        }
    }

    fn say(&self, words: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(words.as_bytes())
        {
            tracing::debug!("systemd does not hear: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(by: &UnixDatagram) -> String {
        let mut words = [0; 200];
        let length = by.recv(&mut words).unwrap();
        String::from_utf8_lossy(&words[..length]).into_owned()
    }

    #[test]
    fn systemd_hears_ready_and_stopping_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let named = format!("innkeeper-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&named).unwrap();
        for (systemd, name) in [
            (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned()),
            (UnixDatagram::bind_addr(&abstract_name).unwrap(), format!("@{named}")),
        ] {
            let notify = Notify::to(&name, None).unwrap();
            notify.ready("http://127.0.0.1:1");
            assert!(heard(&systemd).starts_with("READY=1\n"));
            notify.stopping();
            assert!(heard(&systemd).starts_with("STOPPING=1\n"));
        }
        assert!(Notify::to(folder.path().join("nobody").to_str().unwrap(), None).is_err());
        Notify::default().ready("nobody listens, and that is fine");
    }

    #[tokio::test]
    async fn the_watchdog_is_fed_while_samples_come_and_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let notify = Notify::to(path.to_str().unwrap(), Some(Duration::from_millis(3))).unwrap();
        let (sender, samples) = watch::channel(0);
        let feeding = notify.feed(samples);
        let eating = async move {
            for sample in 1..4 {
                sender.send_replace(sample);
                let systemd = systemd.try_clone().unwrap();
                let word = tokio::task::spawn_blocking(move || heard(&systemd)).await.unwrap();
                assert_eq!(word, "WATCHDOG=1");
            }
            systemd.set_nonblocking(true).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(systemd.recv(&mut [0; 9]).is_err(), "fed without a sample");
        };
        tokio::join!(feeding, eating);
    }
}
