//! What a failed request means: whether it may have happened, and whether its endpoint is to blame.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError};
use tonic::{Code, ConnectError, Status};

use crate::store::{Failure, StoreError};

/// What the store should do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// The endpoint works.
    Stay,
    /// The endpoint is gone, mute or cut off from its cluster: try another.
    Leave,
    /// The token is refused and nothing was done: get a fresh one and ask again.
    RenewToken,
}

/// A failed request, before it is known at which endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) failure: Failure,
    pub(super) advice: Advice,
    pub(super) reason: String,
}

impl Problem {
    pub(super) fn new(failure: Failure, advice: Advice, reason: impl Into<String>) -> Self {
        Problem { failure, advice, reason: reason.into() }
    }

    /// An answer came, but not one that etcd gives.
    pub(super) fn nonsense(reason: &str) -> Self {
        Problem::new(Failure::Unknown, Advice::Leave, reason)
    }

    /// The stream ended without saying why.
    pub(super) fn stream_ended() -> Self {
        Problem::new(Failure::Unknown, Advice::Leave, "the server ended the stream")
    }

    pub(super) fn lease_gone() -> Self {
        Problem::new(Failure::LeaseNotFound, Advice::Stay, "etcdserver: requested lease not found")
    }

    /// The connection could not be made.
    pub(super) fn not_connected(error: &(dyn Error + 'static)) -> Self {
        if let Some(cause) = chain(error).find_map(|cause| cause.downcast_ref::<TlsError>()) {
            return Problem::new(Failure::Tls, Advice::Leave, tls_reason(cause));
        }
        if is_io(error, io::ErrorKind::UnexpectedEof) {
            let reason = "closed by the server in the TLS handshake, it may be an http endpoint";
            return Problem::new(Failure::Tls, Advice::Leave, reason);
        }
        Problem::new(Failure::NotSent, Advice::Leave, root_cause(error))
    }

    /// The same, for a failure of something that comes before the request itself.
    pub(super) fn before_request(mut self) -> Self {
        if self.failure == Failure::Unknown {
            self.failure = Failure::NotSent;
        }
        self
    }

    pub(super) fn at(&self, endpoint: &str) -> StoreError {
        StoreError::new(self.failure, format!("{endpoint}: {}", self.reason))
    }
}

impl From<etcd_client::Error> for Problem {
    fn from(error: etcd_client::Error) -> Self {
        use etcd_client::Error as E;
        match error {
            E::GRpcStatus(status) => Problem::from(&status),
            E::TransportError(error) => Problem::not_connected(&error),
            // The request side of a stream is closed: the stream has ended.
            E::WatchError(_) | E::LeaseKeepAliveError(_) => Problem::stream_ended(),
            other => Problem::new(Failure::Refused, Advice::Stay, other.to_string()),
        }
    }
}

impl From<&Status> for Problem {
    fn from(status: &Status) -> Self {
        // Only a status that was made on this side has a source.
        let Some(source) = status.source() else {
            let (failure, advice) = sort(status.code(), status.message());
            return Problem::new(failure, advice, status.message());
        };
        if chain(source).any(|cause| cause.is::<ConnectError>()) {
            return Problem::not_connected(source);
        }
        let reason = match chain(source).find_map(|cause| cause.downcast_ref::<TlsError>()) {
            Some(cause) => tls_reason(cause),
            None => format!("the connection broke: {}", root_cause(source)),
        };
        Problem::new(Failure::Unknown, Advice::Leave, reason)
    }
}

/// Whether the server itself gave this error, rather than the way to it.
pub(super) fn is_answer(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.source().is_none())
}

/// Texts of etcd and its gRPC library, the more special ones first. Texts and not codes, because etcd gives most
/// codes more than one meaning, and a watch is refused by text alone.
const TEXTS: &[(&str, Failure, Advice)] = &[
    ("requested lease not found", Failure::LeaseNotFound, Advice::Stay),
    ("lease already exists", Failure::LeaseExists, Advice::Stay),
    ("required revision has been compacted", Failure::Compacted, Advice::Stay),
    ("database space exceeded", Failure::NoSpace, Advice::Stay),
    ("too many operations in txn request", Failure::TooManyOps, Advice::Stay),
    ("request is too large", Failure::TooLarge, Advice::Stay),
    ("received message larger than max", Failure::TooLarge, Advice::Stay),
    ("permission denied", Failure::PermissionDenied, Advice::Stay),
    ("invalid auth token", Failure::Unauthenticated, Advice::RenewToken),
    // Someone changed users or roles. If that happens to the fresh token too, it is no reason to give up.
    ("revision of auth store is old", Failure::NotSent, Advice::RenewToken),
    ("user name is empty", Failure::Unauthenticated, Advice::RenewToken),
    ("invalid user ID or password", Failure::Unauthenticated, Advice::Stay),
    ("user name not found", Failure::Unauthenticated, Advice::Stay),
    ("etcdserver: no leader", Failure::NoLeader, Advice::Leave),
    // The cluster was choosing a leader: no fault of this member's.
    ("leader changed", Failure::Unknown, Advice::Stay),
    ("due to previous leader failure", Failure::Unknown, Advice::Stay),
    ("request timed out", Failure::Unknown, Advice::Leave),
    ("server stopped", Failure::Unknown, Advice::Leave),
    ("not supported for learner", Failure::NotSent, Advice::Leave),
    ("not capable", Failure::NotSent, Advice::Leave),
    ("too many requests", Failure::NotSent, Advice::Stay),
    ("corrupt cluster", Failure::Refused, Advice::Leave),
    // The server did its part: the answer is too large for one of the two sides.
    ("decoded message length too large", Failure::Unknown, Advice::Stay),
    ("send message larger than max", Failure::Unknown, Advice::Stay),
];

/// Sorts an answer by its text, else by its code.
pub(super) fn sort(code: Code, message: &str) -> (Failure, Advice) {
    if let Some((_, failure, advice)) = TEXTS.iter().find(|(text, ..)| message.contains(text)) {
        return (*failure, *advice);
    }
    match code {
        Code::InvalidArgument | Code::FailedPrecondition | Code::NotFound | Code::AlreadyExists | Code::OutOfRange => {
            (Failure::Refused, Advice::Stay)
        }
        // Not an etcd, or one that does not speak this version.
        Code::Unimplemented => (Failure::Refused, Advice::Leave),
        Code::PermissionDenied => (Failure::PermissionDenied, Advice::Stay),
        Code::Unauthenticated => (Failure::Unauthenticated, Advice::RenewToken),
        Code::ResourceExhausted => (Failure::Unknown, Advice::Stay),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => (Failure::Unknown, Advice::Leave),
    }
}

/// Whether an error of this kind is behind it.
pub(super) fn is_io(error: &(dyn Error + 'static), kind: io::ErrorKind) -> bool {
    chain(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|cause| cause.kind() == kind)
}

/// The error, its source, that one's source, and so on.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // `io::Error::source` skips the error that it wraps.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

/// What a person can do about it.
fn tls_reason(error: &TlsError) -> String {
    let advice = match error {
        TlsError::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => "its certificate is signed by no authority that is trusted: set ca_file",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name: set server_name, or use an endpoint that it names"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet: compare the clocks"
            }
            _ => "its certificate is not usable",
        },
        TlsError::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => "it wants a client certificate: set cert_file and key_file",
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => "it does not accept the client certificate: see cert_file and key_file",
            // Up to TLS 1.2 there is no alert of its own for a missing one.
            AlertDescription::HandshakeFailure => {
                "it broke off the TLS handshake, it may want a client certificate: see cert_file and key_file"
            }
            _ => "it broke off the TLS handshake",
        },
        TlsError::InvalidMessage(_) => "it does not speak TLS: is this an http endpoint?",
        _ => "no TLS connection",
    };
    format!("{advice} ({error})")
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
