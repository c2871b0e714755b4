"""Codes and their exceptions. Generated from the table in src/error.rs by `make header`; see docs/errors.md."""

from __future__ import annotations

import builtins

from ._errors import TenureError
from ._numbers import Numbers


class Code(Numbers):
    """Why a call failed or a candidacy ended. A number that this version doesn't know has the name UNKNOWN."""

    OK = 0
    INVALID_ARGUMENT = 1
    NULL_POINTER = 2
    INVALID_HANDLE = 3
    WRONG_THREAD = 4
    FORKED = 5
    PANIC = 6
    UNKNOWN_OPTION = 7
    INVALID_VALUE = 8
    INVALID_NAME = 9
    CLOSED = 10
    CAMPAIGN_IN_PROGRESS = 11
    NO_LEADER = 12
    NOT_LEADER = 13
    PENDING = 14
    TIMEOUT = 15
    UNAVAILABLE = 16
    AUTHENTICATION_FAILED = 17
    PERMISSION_DENIED = 18
    TLS = 19
    SESSION_EXPIRED = 20
    LEASE_REVOKED = 21
    KEY_DELETED = 22
    CLUSTER_CHANGED = 23
    NAME_COLLISION = 24
    VALUE_TOO_LARGE = 25
    NO_SPACE = 26
    REFUSED = 27
    WAIT_LIMIT = 28
    WRONG_MODE = 29
    SYSTEM = 30
    INTERNAL = 31


class InvalidArgumentError(TenureError):
    """An argument is out of its range; the message names it."""

    code = Code.INVALID_ARGUMENT
    name = "INVALID_ARGUMENT"


class NullPointerError(TenureError):
    """A pointer that must not be NULL is."""

    code = Code.NULL_POINTER
    name = "NULL_POINTER"


class InvalidHandleError(TenureError):
    """The handle was freed, is of another type, or never came from this library."""

    code = Code.INVALID_HANDLE
    name = "INVALID_HANDLE"


class WrongThreadError(TenureError):
    """The call would wait for the thread that makes it: close or free of a service inside one of its callbacks."""

    code = Code.WRONG_THREAD
    name = "WRONG_THREAD"


class ForkedError(TenureError):
    """The handle was made before fork() and belongs to the parent process. Open a service of your own in the child."""

    code = Code.FORKED
    name = "FORKED"


class PanicError(TenureError):
    """A defect in the library was caught. Leadership held through the handle is given up. Please report it."""

    code = Code.PANIC
    name = "PANIC"


class UnknownOptionError(TenureError):
    """No option has this name; the message lists near ones."""

    code = Code.UNKNOWN_OPTION
    name = "UNKNOWN_OPTION"


class InvalidValueError(TenureError):
    """The option's value is outside its documented range, or it contradicts another option."""

    code = Code.INVALID_VALUE
    name = "INVALID_VALUE"


class InvalidNameError(TenureError):
    """An election, service or environment name is not UTF-8, too long, or holds what a key can't."""

    code = Code.INVALID_NAME
    name = "INVALID_NAME"


class ClosedError(TenureError):
    """The service, campaign or observer is closed, or closing."""

    code = Code.CLOSED
    name = "CLOSED"


class CampaignInProgressError(TenureError):
    """This service already stands in this election. Wait for that campaign's CLOSED event."""

    code = Code.CAMPAIGN_IN_PROGRESS
    name = "CAMPAIGN_IN_PROGRESS"
    retryable = True


class NoLeaderError(TenureError):
    """The election has no leader."""

    code = Code.NO_LEADER
    name = "NO_LEADER"
    retryable = True


class NotLeaderError(TenureError):
    """This campaign does not lead."""

    code = Code.NOT_LEADER
    name = "NOT_LEADER"


class PendingError(TenureError):
    """Not confirmed within the time given. Leadership is given up; the library goes on removing the key until etcd
    confirms it or the lease's time to live is over. Calling again waits on."""

    code = Code.PENDING
    name = "PENDING"
    retryable = True


class TimeoutError(TenureError, builtins.TimeoutError):
    """Nothing happened within the time given."""

    code = Code.TIMEOUT
    name = "TIMEOUT"
    retryable = True


class UnavailableError(TenureError):
    """No etcd endpoint could be reached, or none answered; the message names each one's reason."""

    code = Code.UNAVAILABLE
    name = "UNAVAILABLE"
    retryable = True


class AuthenticationFailedError(TenureError):
    """etcd refuses the user name or password."""

    code = Code.AUTHENTICATION_FAILED
    name = "AUTHENTICATION_FAILED"


class PermissionDeniedError(TenureError):
    """The user may not do this under this prefix."""

    code = Code.PERMISSION_DENIED
    name = "PERMISSION_DENIED"


class TlsError(TenureError):
    """A certificate is wrong, expired or not trusted; the message says which side and why."""

    code = Code.TLS
    name = "TLS"


class SessionExpiredError(TenureError):
    """The lease could not be renewed before the deadline: etcd was out of reach for too long or refused the renewal, or
    the process slept."""

    code = Code.SESSION_EXPIRED
    name = "SESSION_EXPIRED"
    retryable = True


class LeaseRevokedError(TenureError):
    """Somebody revoked the session's lease, or it expired at etcd before our deadline."""

    code = Code.LEASE_REVOKED
    name = "LEASE_REVOKED"
    retryable = True


class KeyDeletedError(TenureError):
    """Somebody deleted the candidate's key, or took it over."""

    code = Code.KEY_DELETED
    name = "KEY_DELETED"
    retryable = True


class ClusterChangedError(TenureError):
    """The endpoints answer for another cluster, or for one that was restored from an older state. Tokens of before and
    after can't be compared."""

    code = Code.CLUSTER_CHANGED
    name = "CLUSTER_CHANGED"
    retryable = True


class NameCollisionError(TenureError):
    """Keys of another election are nested below this election's prefix, so that both would block each other. Choose
    another name."""

    code = Code.NAME_COLLISION
    name = "NAME_COLLISION"


class ValueTooLargeError(TenureError):
    """The value is larger than the library (1 MiB) or the server accepts."""

    code = Code.VALUE_TOO_LARGE
    name = "VALUE_TOO_LARGE"


class NoSpaceError(TenureError):
    """etcd's space quota is used up (alarm NOSPACE): it takes no new keys until an operator makes room."""

    code = Code.NO_SPACE
    name = "NO_SPACE"
    retryable = True


class RefusedError(TenureError):
    """etcd refused the request for a reason given in the message."""

    code = Code.REFUSED
    name = "REFUSED"


class WaitLimitError(TenureError):
    """The campaign was not elected within its `wait_limit` and has withdrawn."""

    code = Code.WAIT_LIMIT
    name = "WAIT_LIMIT"
    retryable = True


class WrongModeError(TenureError):
    """The call does not fit the service's event delivery (option `events`)."""

    code = Code.WRONG_MODE
    name = "WRONG_MODE"


class SystemError(TenureError):
    """The operating system refused a thread or a descriptor."""

    code = Code.SYSTEM
    name = "SYSTEM"
    retryable = True


class InternalError(TenureError):
    """An invariant inside the library did not hold. Leadership is given up. Please report it."""

    code = Code.INTERNAL
    name = "INTERNAL"


EXCEPTIONS: dict[int, type[TenureError]] = {
    1: InvalidArgumentError,
    2: NullPointerError,
    3: InvalidHandleError,
    4: WrongThreadError,
    5: ForkedError,
    6: PanicError,
    7: UnknownOptionError,
    8: InvalidValueError,
    9: InvalidNameError,
    10: ClosedError,
    11: CampaignInProgressError,
    12: NoLeaderError,
    13: NotLeaderError,
    14: PendingError,
    15: TimeoutError,
    16: UnavailableError,
    17: AuthenticationFailedError,
    18: PermissionDeniedError,
    19: TlsError,
    20: SessionExpiredError,
    21: LeaseRevokedError,
    22: KeyDeletedError,
    23: ClusterChangedError,
    24: NameCollisionError,
    25: ValueTooLargeError,
    26: NoSpaceError,
    27: RefusedError,
    28: WaitLimitError,
    29: WrongModeError,
    30: SystemError,
    31: InternalError,
}
