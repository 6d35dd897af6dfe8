//! The tokens of callbacks: signed anew on every try, off the async threads, and on no more than half of the processors, so that
//! deliveries of other profiles do not wait for RSA (contract §6).

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
use prometheus::Histogram;
use tokio::sync::{mpsc, oneshot};

use crate::job::Job;

/// After this the keys are read again. Short against the day for which a key is published before it is used.
const FRESH: Duration = Duration::from_secs(60);

/// Tokens that one thread signs one after the other.
const BATCH: usize = 32;

/// Signs callbacks. Clones share the keys.
#[derive(Clone, Debug)]
pub(crate) struct Callbacks {
    db: Db,
    vault: Vault,
    keys: Arc<Mutex<Option<(Instant, KeyRing)>>>,
    /// Whoever reads the keys is alone: the others want the same, and each would make a first key of its own.
    reading: Arc<tokio::sync::Mutex<()>>,
    desk: Desk,
}

impl Callbacks {
    pub(crate) fn new(db: Db, vault: Vault, issuer: &str, seconds: &Histogram) -> Self {
        Self { db, vault, keys: Arc::default(), reading: Arc::default(), desk: Desk::new(issuer, seconds) }
    }

    /// The token of a try.
    ///
    /// # Errors
    /// When there is no key: the database is away, or the key cannot be opened.
    pub(crate) async fn token(&self, job: &Job, body: Bytes, now: DateTime<Utc>) -> Result<String> {
        let signer = self.signer(now).await?;
        // The event of a run's end is correlated by the run.
        let subject = job.event.correlation_id.clone().unwrap_or_default();
        self.desk.sign(signer, Text { subject, delivery: job.held.id.to_string(), body, now }).await
    }

    async fn signer(&self, now: DateTime<Utc>) -> Result<Arc<Signer>> {
        if let Some(signer) = self.known(now) {
            return Ok(signer);
        }
        let _alone = self.reading.lock().await;
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

/// What is signed.
#[derive(Clone, Debug)]
struct Text {
    subject: String,
    delivery: String,
    body: Bytes,
    now: DateTime<Utc>,
}

/// A token that somebody waits for.
#[derive(Debug)]
struct Asked {
    signer: Arc<Signer>,
    text: Text,
    token: oneshot::Sender<Option<String>>,
}

/// Where signing is done: what waits is signed in batches, each on a blocking thread, and told one by one. So a thread that
/// signs need not be waited for between two signatures. Ends with its last clone.
#[derive(Clone, Debug)]
struct Desk(mpsc::Sender<Asked>);

impl Desk {
    fn new(issuer: &str, seconds: &Histogram) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let (desk, waiting) = mpsc::channel(BATCH);
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        for _place in 0..(processors / 2).max(1) {
            tokio::spawn(work_off(Arc::clone(&waiting), issuer.into(), seconds.clone()));
        }
        Self(desk)
    }

    /// Signs when it is its turn.
    async fn sign(&self, signer: Arc<Signer>, text: Text) -> Result<String> {
        let (token, signed) = oneshot::channel();
        let gone = |_| Error::Database("nobody signs any more".into());
        self.0.send(Asked { signer, text, token }).await.map_err(|_closed| gone(()))?;
        let token = signed.await.map_err(|_dropped| gone(()))?;
        token.ok_or_else(|| Error::Database("a token cannot be signed".into()))
    }
}

/// One of the places.
async fn work_off(
    waiting: Arc<tokio::sync::Mutex<mpsc::Receiver<Asked>>>,
    issuer: Arc<str>,
    seconds: Histogram,
) {
    loop {
        let mut batch = Vec::new();
        if waiting.lock().await.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        let (issuer, seconds) = (Arc::clone(&issuer), seconds.clone());
        let signing = tokio::task::spawn_blocking(move || {
            for Asked { signer, text, token } in batch {
                let began = Instant::now();
                let Text { subject, delivery, body, now } = &text;
                let claims = Claims { issuer: &issuer, subject, delivery, body, now: *now };
                let signed = signer.sign(&claims);
                seconds.observe(began.elapsed().as_secs_f64());
                // Whoever asked may have gone.
                let _gone = token.send(signed);
            }
        });
        // Those of a batch that broke are told by their channels.
        let _broken = signing.await;
    }
}

#[cfg(test)]
mod tests {
    use hookyard_chassis::metrics::Registry;
    use hookyard_domain::signing_key;
    use tokio::task::JoinSet;

    use super::*;
    use crate::metrics::Metrics;

    const SIGNED: usize = 200;

    /// One async thread: were the tokens signed there, it would come to nothing else until all of them are.
    #[tokio::test(flavor = "current_thread")]
    async fn who_does_not_sign_does_not_wait_for_those_who_do() {
        let metrics = Metrics::register(&Registry::new("test").unwrap()).unwrap();
        let signer = Arc::new(signing_key::generate().unwrap().signer().unwrap());
        let desk = Desk::new("https://hooks.example.com", &metrics.signing());
        let mut signing = JoinSet::new();
        for _ in 0..SIGNED {
            let (desk, signer) = (desk.clone(), Arc::clone(&signer));
            let text = Text {
                subject: "arun_1".to_owned(),
                delivery: "dlv_1".to_owned(),
                body: Bytes::from_static(b"{}"),
                now: DateTime::UNIX_EPOCH,
            };
            signing.spawn(async move { desk.sign(signer, text).await });
        }
        let (mut done, mut turns) = (0, 0);
        while done < SIGNED {
            tokio::select! {
                biased;
                Some(token) = signing.join_next() => {
                    assert_eq!(token.unwrap().unwrap().matches('.').count(), 2);
                    done += 1;
                }
                () = tokio::time::sleep(Duration::from_micros(200)) => turns += 1,
            }
        }
        assert_eq!(metrics.signing().get_sample_count(), SIGNED as u64);
        assert!(SIGNED / 20 <= turns, "others had {turns} turns meanwhile");
    }
}
