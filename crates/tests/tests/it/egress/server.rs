//! A receiver made of a socket and a script: whatever it says, and however badly, is up to the test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(super) struct Server {
    pub(super) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Every connection gets the script; connections go on when the test no longer looks at them.
    pub(super) async fn start<S, F>(script: S) -> Self
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let accepting = tokio::spawn(async move {
            while let Ok((socket, _peer)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(script(socket));
            }
        });
        Self { address, accepted, accepting }
    }

    /// Answers every request on every connection with the same bytes.
    pub(super) async fn answering(reply: impl Into<String>) -> Self {
        let reply: Arc<str> = reply.into().into();
        Self::start(move |mut socket| {
            let reply = Arc::clone(&reply);
            async move {
                while request(&mut socket).await.is_some() {
                    if socket.write_all(reply.as_bytes()).await.is_err() {
                        break;
                    }
                }
            }
        })
        .await
    }

    pub(super) fn url(&self) -> String {
        super::at(self.address)
    }

    /// Connections so far.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A reply with a body of a known length.
pub(super) fn reply(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

/// Reads one request, head and body, as text. `None`: the client is gone.
pub(super) async fn request<S: AsyncReadExt + Unpin>(socket: &mut S) -> Option<String> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().expect("a length")) {
                return Some(text.into_owned());
            }
        }
        if socket.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
}
