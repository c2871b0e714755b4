//! The addresses of a cluster's members, as users write them.

use tonic::transport::Uri;

use crate::store::{Failure, StoreError};

/// A member's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// With its scheme: what errors say and what is connected to.
    pub(super) url: String,
    pub(super) tls: bool,
}

/// Reads all addresses; `tls_options` says whether any TLS option is set.
pub(super) fn parse_all(texts: &[String], tls_options: bool) -> Result<Vec<Endpoint>, StoreError> {
    if texts.is_empty() {
        return Err(refused("no endpoints are given".to_owned()));
    }
    texts.iter().map(|text| parse(text.trim(), tls_options)).collect()
}

fn parse(text: &str, tls_options: bool) -> Result<Endpoint, StoreError> {
    // Checked first, and without quoting the text, so that no error ever shows a password.
    if text.contains('@') {
        return Err(refused("an endpoint holds a user name: set username and password as options".to_owned()));
    }
    if let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) {
        return unix(text, path, tls_options);
    }
    let url = match text.split_once("://") {
        Some(("http", _)) if tls_options => {
            return Err(refused(format!(
                "endpoint {text:?} is http, but ca_file, cert_file, key_file or server_name is set: use https"
            )));
        }
        Some(("http" | "https", _)) => text.to_owned(),
        Some((scheme, _)) => {
            return Err(refused(format!("endpoint {text:?}: scheme {scheme:?} is none of http, https, unix")));
        }
        None if tls_options => format!("https://{text}"),
        None => format!("http://{text}"),
    };
    let uri: Uri = url.parse().map_err(|error| refused(format!("endpoint {text:?}: {error}")))?;
    if uri.host().is_none_or(str::is_empty) || uri.port_u16().is_none() {
        return Err(refused(format!("endpoint {text:?} is not HOST:PORT")));
    }
    if uri.path() != "/" && !uri.path().is_empty() || uri.query().is_some() {
        return Err(refused(format!("endpoint {text:?} has a path: it must end after the port")));
    }
    Ok(Endpoint { url: url.trim_end_matches('/').to_owned(), tls: uri.scheme_str() == Some("https") })
}

fn unix(text: &str, path: &str, tls_options: bool) -> Result<Endpoint, StoreError> {
    if path.is_empty() {
        return Err(refused(format!("endpoint {text:?} names no socket")));
    }
    if tls_options {
        return Err(refused(format!("endpoint {text:?}: TLS on a unix socket is not supported")));
    }
    Ok(Endpoint { url: format!("unix://{path}"), tls: false })
}

fn refused(message: String) -> StoreError {
    StoreError::new(Failure::Refused, message)
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
