//! The way to the broker, in the hands of a test.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A road to the broker that can be closed.
pub(super) struct Road {
    /// Where it begins.
    pub(super) url: String,
    port: u16,
    silent: Arc<AtomicBool>,
    traffic: tokio::sync::Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Road {
    pub(super) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
        let silent = Arc::<AtomicBool>::default();
        Self { url, port, traffic: Some(tokio::spawn(carry(listener, Arc::clone(&silent)))).into(), silent }
    }

    /// Breaks every connection and refuses new ones.
    pub(super) async fn close(&self) {
        if let Some(traffic) = self.traffic.lock().await.take() {
            traffic.abort();
            let _ = traffic.await;
        }
    }

    /// Leaves the connections open and carries nothing from the broker any more.
    pub(super) fn silence(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }

    pub(super) async fn reopen(&self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.silent.store(false, Ordering::Relaxed);
        *self.traffic.lock().await = Some(tokio::spawn(carry(listener, Arc::clone(&self.silent))));
    }
}

async fn carry(listener: TcpListener, silent: Arc<AtomicBool>) {
    // Dropped with this future, and all connections with it.
    let mut connections = JoinSet::new();
    while let Ok((ours, _)) = listener.accept().await {
        let silent = Arc::clone(&silent);
        connections.spawn(async move {
            let broker = TcpStream::connect("127.0.0.1:5672").await.unwrap();
            let ((mut from_us, mut to_us), (mut from_broker, mut to_broker)) =
                (ours.into_split(), broker.into_split());
            let there = async { tokio::io::copy(&mut from_us, &mut to_broker).await.map(drop) };
            let back = async {
                let mut bytes = vec![0; 64 * 1024];
                loop {
                    let count = from_broker.read(&mut bytes).await?;
                    if silent.load(Ordering::Relaxed) {
                        std::future::pending::<()>().await;
                    }
                    if count == 0 {
                        return std::io::Result::Ok(());
                    }
                    to_us.write_all(&bytes[..count]).await?;
                }
            };
            // Either side that ends takes the other with it.
            let _ = tokio::select! {
                there = there => there,
                back = back => back,
            };
        });
    }
}
