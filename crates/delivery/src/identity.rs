//! Who we are to receivers that ask for a client certificate: a client for each consumer that has one, kept while it is used.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use hookyard_domain::{id::SubscriptionId, subscription::Secrets};
use hookyard_egress::{Egress, Identity};

use crate::job::Job;

/// Clients that are kept; each holds connections of its own.
const KEPT: usize = 1_024;

/// The clients. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identities(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<SubscriptionId, Known>,
    uses: u64,
}

#[derive(Debug)]
struct Known {
    /// Those that it was made of: when they have changed, so may the certificate have.
    secrets: Arc<Secrets>,
    identity: Arc<Identity>,
    used: u64,
}

impl Identities {
    /// Who we are to the receiver of a delivery; `None` = nobody in particular.
    ///
    /// # Errors
    /// Why the stored certificate cannot be used, as a sentence.
    pub(crate) fn of(&self, egress: &Egress, job: &Job) -> Result<Option<Arc<Identity>>, String> {
        let Some(certificate) = job.secrets.consumer.as_ref().and_then(|keys| keys.certificate.as_ref())
        else {
            return Ok(None);
        };
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.uses += 1;
        let used = inner.uses;
        if let Some(known) = inner.known.get_mut(&job.hook.id)
            && Arc::ptr_eq(&known.secrets, &job.secrets)
        {
            known.used = used;
            return Ok(Some(Arc::clone(&known.identity)));
        }
        let identity = egress
            .identity(&certificate.chain, &certificate.key)
            .map_err(|error| format!("the client certificate {error}"))?;
        let identity = Arc::new(identity);
        if inner.known.len() >= KEPT
            && let Some(oldest) = inner.known.iter().min_by_key(|(_, known)| known.used).map(|(id, _)| *id)
        {
            inner.known.remove(&oldest);
        }
        let known = Known { secrets: Arc::clone(&job.secrets), identity: Arc::clone(&identity), used };
        inner.known.insert(job.hook.id, known);
        Ok(Some(identity))
    }
}
