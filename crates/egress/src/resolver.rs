//! Names become addresses here, and here they are judged: the client connects to nothing but what this returns, so
//! that there is no moment between the check and the use in which a name could change its answer.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;
use tower::Service;

use crate::address::{Guard, Reason};

/// How many lookups of the system's resolver run at once. Each holds a thread of tokio's blocking pool (512 threads,
/// shared with the database), for as long as the slowest name server likes and even when nobody waits any more.
const MAX_LOOKUPS: usize = 64;

/// The addresses of a name, when they are known. An empty list is a failed lookup.
pub type Answer = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Where names are looked up. The default asks the operating system; tests bring name servers that lie.
pub trait Resolver: Send + Sync + 'static {
    /// Looks up every address of `name`, which is never a literal address.
    fn resolve(&self, name: &str) -> Answer;
}

/// The resolver of the operating system: hosts file, search domains and all.
pub(crate) struct SystemResolver {
    permits: Arc<Semaphore>,
}

impl SystemResolver {
    pub(crate) fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
    }
}

impl Resolver for SystemResolver {
    fn resolve(&self, name: &str) -> Answer {
        let name = name.to_owned();
        let permits = Arc::clone(&self.permits);
        Box::pin(async move {
            let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
            let lookup = move || {
                // The permit belongs to the thread, not to the caller, who may have given up long ago.
                let _permit = permit;
                (name.as_str(), 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect())
            };
            tokio::task::spawn_blocking(lookup).await.map_err(io::Error::other)?
        })
    }
}

/// Any resolver, with the guard behind it.
#[derive(Clone)]
pub(crate) struct GuardedResolver {
    pub(crate) inner: Arc<dyn Resolver>,
    pub(crate) guard: Guard,
}

impl std::fmt::Debug for GuardedResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardedResolver").field("guard", &self.guard).finish_non_exhaustive()
    }
}

/// What a name that passed the guard leads to. Port 0 stands for "the port of the URL".
type Passed = Result<std::vec::IntoIter<SocketAddr>, Box<dyn Error + Send + Sync>>;

impl GuardedResolver {
    fn judged(&self, name: &str) -> impl Future<Output = Passed> + Send + use<> {
        let (answer, guard, name) = (self.inner.resolve(name), self.guard.clone(), name.to_owned());
        async move {
            let addresses = answer.await.map_err(LookupFailed)?;
            if addresses.is_empty() {
                return Err(LookupFailed(io::Error::new(io::ErrorKind::NotFound, "no address")).into());
            }
            // One bad address spoils the name: filtering would let a prepared answer steer which one is taken.
            if let Some((ip, reason)) = addresses.iter().find_map(|ip| Some((ip, guard.verdict(*ip)?))) {
                tracing::debug!(name, %ip, %reason, "name resolves to a forbidden address");
                return Err(ForbiddenAnswer(reason).into());
            }
            let addresses: Vec<SocketAddr> = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(addresses.into_iter())
        }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let judged = self.judged(name.as_str());
        Box::pin(async move { Ok(Box::new(judged.await?) as Addrs) })
    }
}

impl Service<dns::Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Passed> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: dns::Name) -> Self::Future {
        Box::pin(self.judged(name.as_str()))
    }
}

/// Any resolver, without a guard: for the names that the operator gave.
pub(crate) struct OpenResolver(pub(crate) Arc<dyn Resolver>);

impl Resolve for OpenResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let answer = self.0.resolve(name.as_str());
        Box::pin(async move {
            let addresses: Addrs =
                Box::new(answer.await.map_err(LookupFailed)?.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

/// The name has no address, or nobody could say.
#[derive(Debug, thiserror::Error)]
#[error("the name cannot be resolved")]
pub(crate) struct LookupFailed(#[source] pub(crate) io::Error);

/// The name has an address that the guard refuses. Which one is not said: a tenant could map our network with it.
#[derive(Debug, thiserror::Error)]
#[error("the name resolves to a forbidden address ({0})")]
pub(crate) struct ForbiddenAnswer(pub(crate) Reason);
