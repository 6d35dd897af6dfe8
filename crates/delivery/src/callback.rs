//! The tokens of callbacks: signed anew on every try, off the async threads, and a few at a time, so that deliveries of other
//! profiles do not wait for RSA (contract §6).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use hookyard_domain::{
    Error, Result,
    db::Db,
    signing_key::{Claims, KeyRing, Signer, store},
    vault::Vault,
};
use tokio::sync::Semaphore;

use crate::job::Job;

/// After this the keys are read again. Short against the day for which a key is published before it is used.
const FRESH: Duration = Duration::from_secs(60);

/// Signs callbacks. Clones share the keys.
#[derive(Clone, Debug)]
pub(crate) struct Callbacks {
    db: Db,
    vault: Vault,
    /// Where this installation is found.
    issuer: Arc<str>,
    keys: Arc<Mutex<Option<(Instant, KeyRing)>>>,
    /// Signatures made at the same time.
    places: Arc<Semaphore>,
}

impl Callbacks {
    pub(crate) fn new(db: Db, vault: Vault, issuer: &str) -> Self {
        let places = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            db,
            vault,
            issuer: issuer.into(),
            keys: Arc::default(),
            places: Arc::new(Semaphore::new(places)),
        }
    }

    /// The token of a try.
    ///
    /// # Errors
    /// When there is no key: the database is away, or the key cannot be opened.
    pub(crate) async fn token(&self, job: &Job, body: Bytes, now: DateTime<Utc>) -> Result<String> {
        let signer = self.signer(now).await?;
        let (issuer, delivery) = (Arc::clone(&self.issuer), job.held.id.to_string());
        // The event of a run's end is correlated by the run.
        let subject = job.event.correlation_id.clone().unwrap_or_default();
        let _place = self.places.acquire().await.map_err(|closed| Error::Database(Box::new(closed)))?;
        let signed = tokio::task::spawn_blocking(move || {
            let claims = Claims { issuer: &issuer, subject: &subject, delivery: &delivery, body: &body, now };
            signer.sign(&claims)
        });
        let token = signed.await.map_err(|panicked| Error::Database(Box::new(panicked)))?;
        token.ok_or_else(|| Error::Database("a token cannot be signed".into()))
    }

    async fn signer(&self, now: DateTime<Utc>) -> Result<Arc<Signer>> {
        if let Some(signer) = self.known(now) {
            return Ok(signer);
        }
        let ring = store::ring(&self.db, &self.vault, now).await?;
        let signer = ring.in_use(now);
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), ring));
        signer.ok_or(Error::NotFound { what: "signing key" })
    }

    fn known(&self, now: DateTime<Utc>) -> Option<Arc<Signer>> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let (read, ring) = keys.as_ref()?;
        (read.elapsed() < FRESH).then(|| ring.in_use(now)).flatten()
    }
}
