//! When credentials were last used: noted in memory with each request, written once a minute.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use hookyard_domain::{credential::store, db::Db, id::CredentialId};

/// What was used since the last write.
#[derive(Debug, Default)]
pub(crate) struct Usage(Mutex<HashMap<CredentialId, DateTime<Utc>>>);

impl Usage {
    /// Notes that a credential was used now.
    pub(crate) fn note(&self, credential: CredentialId, now: DateTime<Utc>) {
        // A map that a panic left behind is still a map of notes.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(credential, now);
    }

    /// Writes the notes. When the database is away they are lost: the next use brings new ones.
    pub(crate) async fn write(&self, db: &Db) {
        let noted = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if noted.is_empty() {
            return;
        }
        // In order, so that two gateways lock the rows one way.
        let mut used: Vec<_> = noted.into_iter().collect();
        used.sort_unstable_by_key(|(id, _)| *id);
        if let Err(error) = db.once(move |conn| store::touch(conn, &used)).await {
            tracing::debug!(error = error.chain(), "the last use of credentials was not written");
        }
    }
}
