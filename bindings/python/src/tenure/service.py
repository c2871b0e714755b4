"""A connection to one etcd cluster, with a namespace for elections and a session."""

from __future__ import annotations

import os
import warnings
import weakref
from ctypes import POINTER, byref
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable

from ._abi import CandidatesStruct, CandidateStruct
from ._calls import Handle, call, interruptible, milliseconds, text
from ._codes import ForkedError, InvalidNameError, SystemError
from ._errors import TenureError
from ._events import Candidate, Observation, Status, candidate
from ._library import library
from ._mailbox import ObservationMailbox, StatusMailbox
from ._options import CampaignOptions, ServiceOptions, campaign_options, service_options
from ._puller import Puller, free_service, log, wanted_log_level
from .campaign import Campaign
from .observer import Observer

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack


# How long closing waits for a callback, where no other time is given.
CALLBACK_S = 5.0


class Service:
    """A connection to one etcd cluster, with a namespace for elections and a session. One per process is normal.

    Keyword arguments are the options of docs/options.md, by the same names; one of `service` and `prefix` is needed::

        with tenure.Service(endpoints="http://127.0.0.1:2379", service="billing") as service:
            with service.campaign("shard-7") as campaign:
                campaign.wait_for_leadership()
                while campaign.is_leader():
                    work(campaign.token)

    Opening waits for etcd for at most `dial_timeout`, and raises `UnavailableError`, `AuthenticationFailedError`,
    `TlsError`, `PermissionDeniedError`; `InvalidValueError` and `UnknownOptionError` for bad options.

    As a context manager it closes at the end. Every method may be called from every thread at any time.
    """

    def __init__(self, **options: Unpack[ServiceOptions]) -> None:
        self._name = str(options.get("service") or options.get("prefix"))
        self._pid = os.getpid()
        self._is_closed = False
        made = service_options({"log_level": wanted_log_level(), **_given(options)})
        handle = interruptible(lambda: _opened(made))
        try:
            self._puller = Puller(handle)
        except RuntimeError as failure:
            raise SystemError(f"no thread for events: {failure}") from None
        self._campaigns: weakref.WeakValueDictionary[str, Campaign] = weakref.WeakValueDictionary()

    def campaign(
        self,
        election: str | None = None,
        *,
        on_status: Callable[[Status], object] | None = None,
        **options: Unpack[CampaignOptions],
    ) -> Campaign:
        """Stands for election, and returns at once; the first status is always FOLLOWER. No name, or "", is `default`.

        `on_status` gets the statuses, one at a time and in order, on one thread of this service, the first maybe before
        this returns; otherwise they are to be read from the campaign. Further arguments are the options of
        docs/options.md: `value`, `rejoin`, `at_risk`, `step_down_margin`, `wait_limit`.

        Raises `InvalidNameError`, `InvalidValueError`, `CampaignInProgressError` while an earlier campaign of this
        service for the same election isn't closed, `ClosedError`.
        """
        name = _election(election)
        made = campaign_options(_given(options))
        mailbox = StatusMailbox(_callback(on_status, "on_status"))
        handle = mailbox.campaign = Handle(library.tenure_campaign_free)
        # First, so that a Ctrl-C right after the call leaves no candidacy without an object.
        campaign = Campaign(self, election or "default", handle, mailbox)
        number = self._puller.add(mailbox)
        try:
            call(
                library.tenure_service_campaign,
                *(self._puller.service.pointer, name, made.pointer, None, number, None, byref(handle.out)),
            )
        except BaseException:
            self._puller.remove(number)
            raise
        self._campaigns[campaign.election] = campaign
        if on_status is not None:
            self._puller.keep(number, campaign)
        return campaign

    def observe(
        self, election: str | None = None, *, on_change: Callable[[Observation], object] | None = None
    ) -> Observer:
        """Watches who leads an election, without taking part; the first observation tells the state found. No name, or
        "", is `default`.

        `on_change` gets the observations, one at a time and in order, on one thread of this service, the first maybe
        before this returns; otherwise they are to be read from the observer.

        Raises `InvalidNameError`, `ClosedError`.
        """
        name = _election(election)
        mailbox = ObservationMailbox(_callback(on_change, "on_change"))
        handle = Handle(library.tenure_observer_free)
        number = self._puller.add(mailbox)
        try:
            pointer = self._puller.service.pointer
            call(library.tenure_service_observe, pointer, name, None, number, None, byref(handle.out))
        except BaseException:
            self._puller.remove(number)
            raise
        observer = Observer(self, election or "default", handle, mailbox)
        if on_change is not None:
            self._puller.keep(number, observer)
        return observer

    def leader(self, election: str | None = None, timeout: float | None = None) -> Candidate:
        """Who leads an election now, read linearizably from etcd; waits for at most `timeout` seconds, None: the
        service's `call_timeout`. No name, or "", is `default`.

        Raises `NoLeaderError`, `InvalidNameError`, `NameCollisionError`, `TimeoutError`, `UnavailableError`,
        `PermissionDeniedError`, `ClosedError` and others.
        """
        name, timeout_ms = _election(election), milliseconds(timeout)

        def work() -> Candidate:
            out = POINTER(CandidateStruct)()
            call(library.tenure_service_leader, self._puller.service.pointer, name, timeout_ms, byref(out))
            try:
                return candidate(out)
            finally:
                library.tenure_candidate_free(out)

        return interruptible(work)

    def candidates(self, election: str | None = None, timeout: float | None = None) -> list[Candidate]:
        """All candidates of an election in their order, the leader first; none is no error. As `leader` otherwise."""
        name, timeout_ms = _election(election), milliseconds(timeout)

        def work() -> list[Candidate]:
            out = POINTER(CandidatesStruct)()
            call(library.tenure_service_candidates, self._puller.service.pointer, name, timeout_ms, byref(out))
            try:
                return [candidate(out.contents.items[i]) for i in range(out.contents.count)]
            finally:
                library.tenure_candidates_free(out)

        return interruptible(work)

    def resign(self, election: str | None = None, timeout: float | None = None) -> None:
        """Withdraws this service's campaign from an election as `Campaign.resign` does; without one, does nothing."""
        _election(election)
        milliseconds(timeout)
        campaign = self._campaigns.get(election or "default")
        if campaign is not None:
            campaign.resign(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Leadership ends at once, every candidacy is withdrawn, every campaign and observer gets its last event, the
        session ends. Waits for etcd to confirm, for at most `timeout` seconds; None: the service's `call_timeout`, and
        then 5 s for a callback that hasn't returned; 0: doesn't wait. When it returns, no callback runs any more.
        Closing twice is fine.

        Raises `PendingError` when it isn't confirmed yet; the library goes on by itself, and calling again waits on.
        `WrongThreadError` inside a callback of this service.
        """
        timeout_ms = milliseconds(timeout)
        self._puller.check_thread("close")
        start = monotonic()

        def work() -> None:
            # Not before a thread does it: a Ctrl-C until then changes nothing.
            self._is_closed = True
            call(library.tenure_service_close, self._puller.service.pointer, timeout_ms)

        interruptible(work)
        self._puller.finish(CALLBACK_S if timeout is None else timeout - (monotonic() - start))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except ForkedError:
            pass  # a child of a fork has nothing to close
        except TenureError as error:
            if failure is None:
                raise
            log.warning("service `%s`: %s", self._name, error)

    def __del__(self) -> None:
        # Partly made ones, when opening failed, have nothing to close.
        puller = getattr(self, "_puller", None)
        if puller is None or self._is_closed or self._pid != os.getpid():
            return
        # What is left is done by the library and the pulling thread, which ends when it has the last event. First, since
        # warnings may be errors.
        library.tenure_service_close(puller.service.pointer, 0, None)
        warnings.warn(f"{self!r} was not closed; it closes", ResourceWarning, stacklevel=1)

    def __repr__(self) -> str:
        return f"<tenure.Service {self._name!r}>"


def _opened(options: Handle) -> Handle:
    handle = Handle(free_service)
    call(library.tenure_service_open, options.pointer, byref(handle.out))
    return handle


def _given(options: Any) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _election(election: str | None) -> bytes | None:
    return None if election is None else text(election, "election", InvalidNameError)


def _callback(function: Any, argument: str) -> Any:
    if function is not None and not callable(function):
        raise TypeError(f"{argument} must be callable, not {type(function).__name__}")
    return function
