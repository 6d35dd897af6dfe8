//! Very many subscriptions, put into the database at once: their rows are written as the product would write them, with secrets
//! that open, but by one COPY instead of 100,000 requests.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hookyard_domain::{
    clock::Clock,
    id::{SubscriptionId, TenantId},
    vault::{MasterKey, Vault, columns::SIGNING_SECRET},
    wire::SigningSecret,
};

use super::system::MASTER_KEY;
use crate::cost::psql;

/// The type that all hooks of one tenant want.
pub(crate) const CALL: &str = "crowd.call";

/// Types that hooks of the others want, a hook one of them.
const TYPES: usize = 20;

/// How many there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    /// Tenants, besides the one whose hooks all want [`CALL`].
    pub(crate) tenants: usize,
    /// Hooks of each of those.
    pub(crate) hooks: usize,
    /// Hooks that want [`CALL`].
    pub(crate) called: usize,
}

impl Crowd {
    /// All hooks.
    pub(crate) fn len(self) -> usize {
        self.tenants * self.hooks + self.called
    }

    /// Puts them into the database; `caller` is the tenant whose hooks all want [`CALL`]. Their URLs are at `sink`.
    ///
    /// # Errors
    /// When psql refuses.
    pub(crate) fn insert(self, database: &str, folder: &Path, sink: SocketAddr, caller: &str) -> Result<()> {
        let vault = Vault::new(MasterKey::parse(MASTER_KEY).context("the suite's master key")?, Vec::new());
        let now = Clock::system().now();
        let caller: TenantId = caller.parse().context("the tenant's id")?;
        let (mut tenants, mut hooks) = (String::new(), String::new());
        let mut hook = |tenant: TenantId, event_type: &str| -> Result<()> {
            let id = SubscriptionId::new(now);
            let secret = SigningSecret::generate(&mut rand::rng());
            let sealed = vault.seal(&SIGNING_SECRET.at(id.uuid()), secret.expose().as_bytes());
            let identity = id.uuid().simple();
            writeln!(
                hooks,
                "{}\t{}\t0\thttp://{sink}/e/standard-1234567-abcdef0123456789\t{event_type}\t{event_type}\t\\\\x{identity}\t1\t\\\\x{}\t{now}\t{now}",
                id.uuid(),
                tenant.uuid(),
                hex(&sealed),
            )?;
            Ok(())
        };
        for _ in 0..self.tenants {
            let tenant = TenantId::new(now);
            writeln!(tenants, "{}\tcrowd\t{now}", tenant.uuid())?;
            for at in 0..self.hooks {
                hook(tenant, &format!("crowd.type{}", at % TYPES))?;
            }
        }
        for _ in 0..self.called {
            hook(caller, CALL)?;
        }
        copy(database, folder, "tenants (id, name, created_at)", &tenants)?;
        let columns = "subscriptions (id, tenant_id, kind, url, event_type, pattern, identity, state, signing_secret, created_at, \
                       updated_at)";
        copy(database, folder, columns, &hooks)?;
        Ok(())
    }
}

fn copy(database: &str, folder: &Path, columns: &str, rows: &str) -> Result<()> {
    let file = folder.join("rows.tsv");
    fs::write(&file, rows)?;
    psql(database, &format!("\\copy {columns} from '{}'", file.display()))?;
    fs::remove_file(&file)?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a text cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

/// Waits until so many deliveries of an event have arrived; says how long it took.
///
/// # Errors
/// When they have not in time.
pub(crate) async fn arrived(
    database: &str,
    event: &str,
    expected: usize,
    within: Duration,
) -> Result<Duration> {
    let event: hookyard_domain::id::EventId = event.parse().context("the event's id")?;
    let sql = format!("select count(*) from deliveries where event_id = '{}' and state = 1", event.uuid());
    let began = Instant::now();
    loop {
        let arrived: usize = psql(database, &sql)?.trim().parse()?;
        if arrived >= expected {
            return Ok(began.elapsed());
        }
        ensure!(began.elapsed() < within, "{arrived} of {expected} deliveries arrived within {within:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_counted_and_bytes_are_written_as_postgres_reads_them() {
        assert_eq!(Crowd { tenants: 999, hooks: 90, called: 10_000 }.len(), 99_910);
        assert_eq!(hex(&[0, 15, 255]), "000fff");
    }
}
