//! The TLS side of the client: the ring provider by name, the system's authorities, and those of one extra file.
//! Nothing is installed for the process, so that a second provider elsewhere in it cannot matter.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::settings::SetupError;

/// The authorities that are trusted.
pub(crate) fn roots(extra_ca_file: Option<&Path>) -> Result<Arc<RootCertStore>, SetupError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    // Systems carry certificates that rustls cannot read; those are nobody's mistake.
    let _counts = roots.add_parsable_certificates(native.certs);
    if let Some(path) = extra_ca_file {
        add_file(&mut roots, path)?;
    }
    if roots.is_empty() {
        tracing::warn!(
            errors = ?native.errors,
            "no certificate authorities found: https receivers will fail until ca-certificates is installed"
        );
    }
    Ok(Arc::new(roots))
}

/// How connections are made: as nobody in particular, or with a client certificate for receivers that ask for one.
pub(crate) fn client_config(
    roots: &Arc<RootCertStore>,
    certificate: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(Arc::clone(roots));
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), SetupError> {
    let unreadable = |source| SetupError::UnreadableCa { path: path.to_owned(), source };
    let mut found = false;
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        roots
            .add(certificate.map_err(unreadable)?)
            .map_err(|source| SetupError::RejectedCa { path: path.to_owned(), source })?;
        found = true;
    }
    if found { Ok(()) } else { Err(SetupError::NoCertificate { path: path.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::CryptoProvider;

    use crate::{Egress, Settings};

    #[test]
    fn a_client_neither_needs_nor_installs_a_provider_of_the_process() {
        Egress::new(&Settings::default()).unwrap();
        assert!(CryptoProvider::get_default().is_none());
    }
}
