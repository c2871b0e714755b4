//! The one table of error codes, and the error type.
//!
//! The enum, the C header, the docs page and the bindings are made from this table. Numbers are for ever: add at the
//! end, never change or reuse one (`tests/golden/codes.txt` holds them to it).

use crate::store::{Failure, StoreError};

macro_rules! codes {
    ($($(#[doc = $meaning:literal])+ $variant:ident = $number:literal, $name:literal, $text:literal, $retriable:literal;)+) => {
        /// What went wrong, or why a candidacy ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(i32)]
        pub enum Code {
            $($(#[doc = $meaning])+ $variant = $number,)+
        }

        impl Code {
            /// Every code, by number.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)+];

            /// The name without prefix, as in the C header: `NO_LEADER`.
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)+ }
            }

            /// A short text, for messages.
            pub fn text(self) -> &'static str {
                match self { $(Code::$variant => $text,)+ }
            }

            /// Whether the same call may succeed later with nothing changed by the caller.
            pub fn is_retriable(self) -> bool {
                match self { $(Code::$variant => $retriable,)+ }
            }

            /// What it means and what to do.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$variant => concat!($($meaning),+),)+ }
            }
        }
    };
}

codes! {
    /// Success.
    Ok = 0, "OK", "success", false;
    /// An argument is out of its range; the message names it.
    InvalidArgument = 1, "INVALID_ARGUMENT", "invalid argument", false;
    /// A pointer that must not be NULL is.
    NullPointer = 2, "NULL_POINTER", "a required pointer is NULL", false;
    /// The handle was freed, is of another type, or never came from this library.
    InvalidHandle = 3, "INVALID_HANDLE", "not a live handle of this type", false;
    /// The call would wait for the thread that makes it: close or free of a service inside one of its callbacks.
    WrongThread = 4, "WRONG_THREAD", "not allowed inside a callback of this service", false;
    /// The handle was made before fork() and belongs to the parent process. Open a service of your own in the child.
    Forked = 5, "FORKED", "the handle belongs to the parent process", false;
    /// A defect in the library was caught. Leadership held through the handle is given up. Please report it.
    Panic = 6, "PANIC", "internal defect", false;
    /// No option has this name; the message lists near ones.
    UnknownOption = 7, "UNKNOWN_OPTION", "unknown option", false;
    /// The option's value is outside its documented range, or it contradicts another option.
    InvalidValue = 8, "INVALID_VALUE", "invalid option value", false;
    /// An election, service or environment name is not UTF-8, too long, or holds what a key can't.
    InvalidName = 9, "INVALID_NAME", "invalid name", false;
    /// The service, campaign or observer is closed, or closing.
    Closed = 10, "CLOSED", "closed", false;
    /// This service already stands in this election. Wait for that campaign's CLOSED event.
    CampaignInProgress = 11, "CAMPAIGN_IN_PROGRESS", "campaign in progress", true;
    /// The election has no leader.
    NoLeader = 12, "NO_LEADER", "no leader", true;
    /// This campaign does not lead.
    NotLeader = 13, "NOT_LEADER", "not the leader", false;
    /// Not confirmed within the time given. Leadership is given up; the library goes on removing the key until etcd
    /// confirms it or the lease's time to live is over. Calling again waits on.
    Pending = 14, "PENDING", "not confirmed yet", true;
    /// Nothing happened within the time given.
    Timeout = 15, "TIMEOUT", "timed out", true;
    /// No etcd endpoint could be reached, or none answered; the message names each one's reason.
    Unavailable = 16, "UNAVAILABLE", "etcd is unavailable", true;
    /// etcd refuses the user name or password.
    AuthenticationFailed = 17, "AUTHENTICATION_FAILED", "authentication failed", false;
    /// The user may not do this under this prefix.
    PermissionDenied = 18, "PERMISSION_DENIED", "permission denied", false;
    /// A certificate is wrong, expired or not trusted; the message says which side and why.
    Tls = 19, "TLS", "TLS failed", false;
    /// The lease could not be renewed before the deadline: etcd was out of reach for too long or refused the renewal, or
    /// the process slept.
    SessionExpired = 20, "SESSION_EXPIRED", "session expired", true;
    /// Somebody revoked the session's lease, or it expired at etcd before our deadline.
    LeaseRevoked = 21, "LEASE_REVOKED", "lease revoked", true;
    /// Somebody deleted the candidate's key, or took it over.
    KeyDeleted = 22, "KEY_DELETED", "candidate key deleted", true;
    /// The endpoints answer for another cluster, or for one that was restored from an older state. Tokens of before
    /// and after can't be compared.
    ClusterChanged = 23, "CLUSTER_CHANGED", "another cluster answers", true;
    /// Keys of another election are nested below this election's prefix, so that both would block each other. Choose
    /// another name.
    NameCollision = 24, "NAME_COLLISION", "another election is nested below this one", false;
    /// The value is larger than the library (1 MiB) or the server accepts.
    ValueTooLarge = 25, "VALUE_TOO_LARGE", "value too large", false;
    /// etcd's space quota is used up (alarm NOSPACE): it takes no new keys until an operator makes room.
    NoSpace = 26, "NO_SPACE", "etcd's space quota is used up", true;
    /// etcd refused the request for a reason given in the message.
    Refused = 27, "REFUSED", "etcd refused the request", false;
    /// The campaign was not elected within its `wait_limit` and has withdrawn.
    WaitLimit = 28, "WAIT_LIMIT", "not elected within the wait limit", true;
    /// The call does not fit the service's event delivery (option `events`).
    WrongMode = 29, "WRONG_MODE", "does not fit the event delivery mode", false;
    /// The operating system refused a thread or a descriptor.
    System = 30, "SYSTEM", "refused by the operating system", true;
    /// An invariant inside the library did not hold. Leadership is given up. Please report it.
    Internal = 31, "INTERNAL", "internal error", false;
}

impl Code {
    /// The code of this number, if there is one.
    pub fn from_number(number: i32) -> Option<Code> {
        Code::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// The number.
    pub fn number(self) -> i32 {
        self as i32
    }
}

/// An error: a code, and a sentence that names the thing, the reason and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    code: Code,
    message: String,
}

impl Error {
    /// An error of this code; `message` stands alone, without the code's text.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error { code, message: message.into() }
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the same call may succeed later with nothing changed by the caller.
    pub fn is_retriable(&self) -> bool {
        self.code.is_retriable()
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        Error::new(code, code.text())
    }
}

impl From<&StoreError> for Error {
    fn from(error: &StoreError) -> Self {
        let code = match error.failure {
            Failure::NotSent | Failure::Unknown | Failure::NoLeader => Code::Unavailable,
            Failure::Tls => Code::Tls,
            Failure::LeaseNotFound => Code::LeaseRevoked,
            Failure::Unauthenticated => Code::AuthenticationFailed,
            Failure::PermissionDenied => Code::PermissionDenied,
            Failure::NoSpace => Code::NoSpace,
            Failure::TooLarge => Code::ValueTooLarge,
            Failure::LeaseExists | Failure::Compacted | Failure::TooManyOps | Failure::Canceled | Failure::Refused => {
                Code::Refused
            }
        };
        Error::new(code, error.message.clone())
    }
}
