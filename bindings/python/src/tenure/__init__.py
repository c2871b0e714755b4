"""Leader election on etcd.

    import tenure

    with tenure.Service(endpoints="memory://trial", service="billing") as service:
        with service.campaign("shard-7") as campaign:
            campaign.wait_for_leadership(timeout=30)
            while campaign.is_leader():
                work(fencing_token=campaign.token)

See docs/python.md for the whole package, and docs/errors.md and docs/options.md for what its names mean.
"""

from ._codes import (
    AuthenticationFailedError,
    CampaignInProgressError,
    ClosedError,
    ClusterChangedError,
    Code,
    ForkedError,
    InternalError,
    InvalidArgumentError,
    InvalidHandleError,
    InvalidNameError,
    InvalidValueError,
    KeyDeletedError,
    LeaseRevokedError,
    NameCollisionError,
    NoLeaderError,
    NoSpaceError,
    NotLeaderError,
    NullPointerError,
    PanicError,
    PendingError,
    PermissionDeniedError,
    RefusedError,
    SessionExpiredError,
    SystemError,
    TimeoutError,
    TlsError,
    UnavailableError,
    UnknownOptionError,
    ValueTooLargeError,
    WaitLimitError,
    WrongModeError,
    WrongThreadError,
)
from ._errors import TenureError
from ._events import Candidate, Observation, State, Status
from ._library import library_path, library_version
from .campaign import Campaign
from .observer import Observer
from .service import Service

__version__ = "0.1.0"

__all__ = [
    "AuthenticationFailedError",
    "Campaign",
    "CampaignInProgressError",
    "Candidate",
    "ClosedError",
    "ClusterChangedError",
    "Code",
    "ForkedError",
    "InternalError",
    "InvalidArgumentError",
    "InvalidHandleError",
    "InvalidNameError",
    "InvalidValueError",
    "KeyDeletedError",
    "LeaseRevokedError",
    "NameCollisionError",
    "NoLeaderError",
    "NoSpaceError",
    "NotLeaderError",
    "NullPointerError",
    "Observation",
    "Observer",
    "PanicError",
    "PendingError",
    "PermissionDeniedError",
    "RefusedError",
    "Service",
    "SessionExpiredError",
    "State",
    "Status",
    "SystemError",
    "TenureError",
    "TimeoutError",
    "TlsError",
    "UnavailableError",
    "UnknownOptionError",
    "ValueTooLargeError",
    "WaitLimitError",
    "WrongModeError",
    "WrongThreadError",
    "library_path",
    "library_version",
]
