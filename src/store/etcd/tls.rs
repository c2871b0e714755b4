//! Certificates and keys from files, checked: what is wrong with them would otherwise show only as a refused
//! connection, because the layers below skip what they cannot read.

use std::error::Error;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, TrustAnchor};
use rustls_native_certs::load_native_certs;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::EtcdConfig;
use crate::store::{Failure, StoreError};

/// The authorities that the system trusts. Where they are the environment may say, which is not to be read on the library's
/// thread: another one may be changing it.
pub(super) fn system_authorities() -> Result<Vec<TrustAnchor<'static>>, StoreError> {
    let found = load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(refused(format!("no authorities that the system trusts: set ca_file{why}")));
    }
    Ok(roots.roots)
}

/// Reads the files that the options name.
pub(super) fn client_config(
    config: &EtcdConfig,
    system: &[TrustAnchor<'static>],
) -> Result<ClientTlsConfig, StoreError> {
    let mut tls = ClientTlsConfig::new();
    if let Some(name) = &config.server_name {
        tls = tls.domain_name(name);
    }
    tls = match &config.ca_file {
        Some(file) => tls.ca_certificate(authorities(file)?),
        None => tls.trust_anchors(system.iter().cloned()),
    };
    match (&config.cert_file, &config.key_file) {
        (Some(cert_file), Some(key_file)) => Ok(tls.identity(identity(cert_file, key_file)?)),
        (None, None) => Ok(tls),
        (Some(_), None) => Err(refused("cert_file is set, but key_file is not".to_owned())),
        (None, Some(_)) => Err(refused("key_file is set, but cert_file is not".to_owned())),
    }
}

fn authorities(file: &Path) -> Result<Certificate, StoreError> {
    let pem = read("ca_file", file)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca_file", file, &pem)? {
        roots.add(certificate).map_err(|error| unusable("ca_file", file, &error.to_string()))?;
    }
    Ok(Certificate::from_pem(pem))
}

fn identity(cert_file: &Path, key_file: &Path) -> Result<Identity, StoreError> {
    let certificate = read("cert_file", cert_file)?;
    certificates("cert_file", cert_file, &certificate)?;
    let key = read("key_file", key_file)?;
    PrivateKeyDer::from_pem_slice(&key).map_err(|_| {
        let encrypted = key.windows(9).any(|window| window == b"ENCRYPTED");
        let reason = if encrypted { "the key is encrypted: give it without a password" } else { "no key in PEM form" };
        unusable("key_file", key_file, reason)
    })?;
    Ok(Identity::from_pem(certificate, key))
}

/// What is wrong with options that are fine one by one.
pub(super) fn misfit(config: &EtcdConfig, error: &tonic::transport::Error) -> String {
    let Some(cause) = error.source() else { return error.to_string() };
    match (&config.cert_file, &config.key_file) {
        (Some(cert), Some(key)) if cause.is::<rustls::Error>() => {
            let (cert, key) = (cert.display(), key.display());
            format!("cert_file {cert} and key_file {key} do not belong together ({cause})")
        }
        _ if cause.is::<InvalidDnsNameError>() => format!("server_name, or the host, is not a host name ({cause})"),
        _ => cause.to_string(),
    }
}

fn certificates(option: &str, file: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| unusable(option, file, &error.to_string()))?;
    if found.is_empty() {
        return Err(unusable(option, file, "no certificate in PEM form"));
    }
    Ok(found)
}

fn read(option: &str, file: &Path) -> Result<Vec<u8>, StoreError> {
    std::fs::read(file).map_err(|error| unusable(option, file, &error.to_string()))
}

fn unusable(option: &str, file: &Path, reason: &str) -> StoreError {
    refused(format!("{option} {}: {reason}", file.display()))
}

fn refused(message: String) -> StoreError {
    StoreError::new(Failure::Refused, message)
}
