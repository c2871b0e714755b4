use super::*;

/// Fault 37: every error text of etcd's rpctypes that a request of ours can meet, and those of the gRPC layer.
#[test]
fn answers_are_sorted_by_text() {
    use Advice::{Leave, RenewToken, Stay};
    use Failure::*;
    for (code, text, failure, advice) in [
        (Code::NotFound, "etcdserver: requested lease not found", LeaseNotFound, Stay),
        (Code::FailedPrecondition, "etcdserver: lease already exists", LeaseExists, Stay),
        (Code::OutOfRange, "etcdserver: too large lease TTL", Refused, Stay),
        (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted", Compacted, Stay),
        (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision", Refused, Stay),
        (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", NoSpace, Stay),
        (Code::ResourceExhausted, "etcdserver: too many requests", NotSent, Stay),
        (Code::ResourceExhausted, "grpc: received message larger than max (3 vs. 2)", TooLarge, Stay),
        (Code::ResourceExhausted, "grpc: trying to send message larger than max (3 vs. 2)", Unknown, Stay),
        (Code::ResourceExhausted, "something else", Unknown, Stay),
        (Code::InvalidArgument, "etcdserver: request is too large", TooLarge, Stay),
        (Code::InvalidArgument, "etcdserver: too many operations in txn request", TooManyOps, Stay),
        (Code::InvalidArgument, "etcdserver: duplicate key given in txn request", Refused, Stay),
        (Code::InvalidArgument, "etcdserver: key is not provided", Refused, Stay),
        (Code::InvalidArgument, "etcdserver: invalid auth management", Refused, Stay),
        (Code::PermissionDenied, "etcdserver: permission denied", PermissionDenied, Stay),
        (Code::PermissionDenied, "by some proxy", PermissionDenied, Stay),
        (Code::InvalidArgument, "etcdserver: user name is empty", Unauthenticated, RenewToken),
        (Code::Unauthenticated, "etcdserver: invalid auth token", Unauthenticated, RenewToken),
        (Code::Unknown, "auth: invalid auth token", Unauthenticated, RenewToken),
        (Code::Unauthenticated, "by some proxy", Unauthenticated, RenewToken),
        (Code::InvalidArgument, "etcdserver: revision of auth store is old", NotSent, RenewToken),
        (
            Code::InvalidArgument,
            "etcdserver: authentication failed, invalid user ID or password",
            Unauthenticated,
            Stay,
        ),
        (Code::FailedPrecondition, "etcdserver: user name not found", Unauthenticated, Stay),
        (Code::FailedPrecondition, "etcdserver: authentication is not enabled", Refused, Stay),
        (Code::Unavailable, "etcdserver: no leader", NoLeader, Leave),
        (Code::Unavailable, "etcdserver: leader changed", Unknown, Stay),
        (Code::Unavailable, "etcdserver: request timed out", Unknown, Leave),
        (Code::Unavailable, "etcdserver: request timed out, possibly due to previous leader failure", Unknown, Stay),
        (Code::Unavailable, "etcdserver: request timed out, possibly due to connection lost", Unknown, Leave),
        (
            Code::Unavailable,
            "etcdserver: request timed out, waiting for the applied index took too long",
            Unknown,
            Leave,
        ),
        (Code::Unavailable, "etcdserver: server stopped", Unknown, Leave),
        (Code::Unavailable, "etcdserver: unhealthy cluster", Unknown, Leave),
        (Code::FailedPrecondition, "etcdserver: not capable", NotSent, Leave),
        (Code::FailedPrecondition, "etcdserver: rpc not supported for learner", NotSent, Leave),
        (Code::Unavailable, "etcdserver: rpc not supported for learner", NotSent, Leave),
        (Code::FailedPrecondition, "etcdserver: cluster ID mismatch", Refused, Stay),
        (Code::DataLoss, "etcdserver: corrupt cluster", Refused, Leave),
        (Code::Unknown, "raft proposal dropped", Unknown, Leave),
        (Code::Unknown, "not a primary lessor", Unknown, Leave),
        (Code::Cancelled, "etcdserver: request canceled", Unknown, Leave),
        (Code::DeadlineExceeded, "context deadline exceeded", Unknown, Leave),
        (Code::Unimplemented, "unknown service etcdserverpb.KV", Refused, Leave),
        (Code::Internal, "transport: what", Unknown, Leave),
        (Code::OutOfRange, "Error, decoded message length too large: found 9 bytes", Unknown, Stay),
    ] {
        assert_eq!(sort(code, text), (failure, advice), "{text}");
    }
}

#[test]
fn a_text_with_its_code_in_front_is_sorted_the_same() {
    let text = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    assert_eq!(sort(Code::InvalidArgument, text), (Failure::PermissionDenied, Advice::Stay));
}

fn local(source: impl Into<Box<dyn Error + Send + Sync>>) -> Status {
    Status::from_error(source.into())
}

fn io(error: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[test]
fn what_was_never_connected_was_not_sent() {
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    let problem = Problem::from(&local(ConnectError(Box::new(refused))));
    assert_eq!((problem.failure, problem.advice), (Failure::NotSent, Advice::Leave));
    assert_eq!(problem.reason, "connection refused");
}

#[test]
fn tls_failures_say_what_to_do() {
    let alert = TlsError::AlertReceived;
    for (error, advice) in [
        (TlsError::InvalidCertificate(CertificateError::UnknownIssuer), "ca_file"),
        (TlsError::InvalidCertificate(CertificateError::NotValidForName), "server_name"),
        (TlsError::InvalidCertificate(CertificateError::Expired), "has expired"),
        (TlsError::InvalidCertificate(CertificateError::NotValidYet), "clocks"),
        (TlsError::InvalidCertificate(CertificateError::BadSignature), "not usable"),
        (alert(AlertDescription::CertificateRequired), "set cert_file and key_file"),
        (alert(AlertDescription::BadCertificate), "see cert_file and key_file"),
        (alert(AlertDescription::HandshakeFailure), "may want a client certificate"),
        (alert(AlertDescription::ProtocolVersion), "broke off"),
        (TlsError::InvalidMessage(rustls::InvalidMessage::InvalidContentType), "is this an http endpoint"),
    ] {
        let shown = error.to_string();
        let problem = Problem::from(&local(ConnectError(Box::new(io(error)))));
        assert_eq!((problem.failure, problem.advice), (Failure::Tls, Advice::Leave), "{shown}");
        assert!(problem.reason.contains(advice) && problem.reason.contains(&shown), "{}", problem.reason);
    }
}

#[test]
fn an_http_endpoint_taken_for_https_is_a_tls_failure() {
    let eof = io::Error::from(io::ErrorKind::UnexpectedEof);
    assert_eq!(Problem::not_connected(&ConnectError(Box::new(eof))).failure, Failure::Tls);
}

#[test]
fn a_connection_that_breaks_leaves_the_outcome_unknown() {
    let broken = local(io(TlsError::AlertReceived(AlertDescription::InternalError)));
    assert_eq!(Problem::from(&broken).failure, Failure::Unknown);
    // Even where its code, given by an answer, would be definite.
    let broken = local(io(io::Error::from(io::ErrorKind::ConnectionReset)));
    let problem = Problem::from(&broken);
    assert_eq!((problem.failure, problem.advice), (Failure::Unknown, Advice::Leave));
    assert_eq!(problem.reason, "the connection broke: connection reset");
}

#[test]
fn before_the_request_nothing_is_unknown() {
    let problem = Problem::from(&Status::unavailable("etcdserver: request timed out")).before_request();
    assert_eq!(problem.failure, Failure::NotSent);
    let problem = Problem::from(&Status::invalid_argument("invalid user ID or password")).before_request();
    assert_eq!(problem.failure, Failure::Unauthenticated);
}

#[test]
fn an_error_names_endpoint_and_reason() {
    let error = Problem::new(Failure::NoLeader, Advice::Leave, "no leader").at("http://a:1");
    assert_eq!((error.failure, error.message.as_str()), (Failure::NoLeader, "http://a:1: no leader"));
}
