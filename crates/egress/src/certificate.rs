//! Client certificates (mTLS): what somebody brings as PEM is one, fits its key, and is valid.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::pool::Pool;

/// The longest chain, in certificates.
pub(crate) const MAX_CHAIN: usize = 5;

/// The longest text of a chain or a key, in bytes.
pub(crate) const MAX_PEM_BYTES: usize = 32 << 10;

/// A chain, the own certificate first, and its key.
pub(crate) type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A client that shows a certificate. Cloning shares its connections.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(crate) pool: Pool,
}

/// What is known of a client certificate that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Until when it is valid.
    pub until: SystemTime,
}

/// Why a client certificate is refused. Texts continue "the client certificate".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// There is no certificate in the text.
    #[error("is not there: PEM with at least one CERTIFICATE is expected")]
    NoCertificate,
    /// A certificate cannot be read.
    #[error("is not one that can be read")]
    Unreadable,
    /// The chain or a text is too long.
    #[error("is too long: a chain has at most {MAX_CHAIN} certificates, a text {MAX_PEM_BYTES} bytes")]
    TooLong,
    /// There is no key that can be used in the text.
    #[error(
        "has no key that can be used: one PRIVATE KEY, not encrypted, is expected (RSA, ECDSA P-256 or P-384, Ed25519)"
    )]
    NoKey,
    /// The key is another certificate's.
    #[error("does not fit the private key")]
    Mismatch,
    /// It is over.
    #[error("has expired")]
    Expired,
    /// Its time has not begun.
    #[error("is not valid yet")]
    NotYet,
    /// It is for servers, or for something else.
    #[error("is not for clients: its extended key usage excludes client authentication")]
    NotForClients,
    /// The TLS library refuses it.
    #[error("cannot be used: {0}")]
    Refused(String),
}

impl Certificate {
    /// Checks a chain and a key, both PEM, the own certificate first.
    ///
    /// # Errors
    /// [`CertificateError`] names the first thing that is wrong.
    pub fn check(chain: &str, key: &str, now: SystemTime) -> Result<Self, CertificateError> {
        let (chain, key) = read(chain, key)?;
        let first = chain.first().ok_or(CertificateError::NoCertificate)?;
        let (_, own) = X509Certificate::from_der(first).map_err(|_| CertificateError::Unreadable)?;
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let (from, until) = (own.validity().not_before.timestamp(), own.validity().not_after.timestamp());
        if until <= now {
            return Err(CertificateError::Expired);
        }
        if now < from {
            return Err(CertificateError::NotYet);
        }
        if let Ok(Some(usage)) = own.extended_key_usage()
            && !(usage.value.client_auth || usage.value.any)
        {
            return Err(CertificateError::NotForClients);
        }
        for certificate in &chain {
            X509Certificate::from_der(certificate).map_err(|_| CertificateError::Unreadable)?;
        }
        let until = UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(until).unwrap_or(0));
        fits(chain, key)?;
        Ok(Self { until })
    }
}

fn fits(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<(), CertificateError> {
    let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
    provider.key_provider.load_private_key(key.clone_key()).map_err(|_| CertificateError::NoKey)?;
    match CertifiedKey::from_der(chain, key, &provider) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(CertificateError::Mismatch),
        Err(error) => Err(CertificateError::Refused(error.to_string())),
    }
}

/// Reads PEM.
pub(crate) fn read(chain: &str, key: &str) -> Result<Pair, CertificateError> {
    if chain.len() > MAX_PEM_BYTES || key.len() > MAX_PEM_BYTES {
        return Err(CertificateError::TooLong);
    }
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| CertificateError::Unreadable)?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate);
    }
    if chain.len() > MAX_CHAIN {
        return Err(CertificateError::TooLong);
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| CertificateError::NoKey)?;
    Ok((chain, key))
}
