"""A candidacy."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING

from ._calls import Handle, call, interruptible, milliseconds, value_bytes, wait
from ._codes import ForkedError, TimeoutError
from ._errors import TenureError
from ._events import State, Status
from ._library import library
from ._mailbox import StatusMailbox
from ._puller import log

if TYPE_CHECKING:
    from typing_extensions import Self

    from .service import Service

# How long a thread stays inside wait_for_leadership after the main one was interrupted there.
ABANDONED_S = 1.0


class Campaign:
    """One candidacy of this process in one election; made by `Service.campaign`.

    As a context manager it resigns at the end. Statuses can be read by iterating, in a ``for`` or an ``async for``; the
    last one is CLOSED. Keep a reference: a campaign that nobody refers to, and that has no callback, withdraws.
    """

    def __init__(self, service: Service, election: str, handle: Handle, mailbox: StatusMailbox) -> None:
        self._service = service
        self._election = election
        self._handle = handle
        self._mailbox = mailbox
        self._pid = os.getpid()
        self._is_withdrawn = False

    @property
    def election(self) -> str:
        """The election's name."""
        return self._election

    @property
    def service(self) -> Service:
        """The service that it was made by."""
        return self._service

    def is_leader(self) -> bool:
        """Whether this process leads the election right now. The one thing to ask before acting as the leader: it
        compares the clock with the time until which leadership is certain, and never waits."""
        return bool(library.tenure_campaign_is_leader(self._handle.pointer))

    def remaining(self) -> float:
        """For how many seconds from now leadership is certain; longer if it is renewed. 0 for who doesn't lead."""
        return float(library.tenure_campaign_remaining_ms(self._handle.pointer) / 1000)

    @property
    def token(self) -> int:
        """The fencing token of the term: greater than every earlier leader's. Pass it along with what you do as the
        leader, so that the receiver can refuse smaller ones. 0 for who doesn't lead."""
        return int(library.tenure_campaign_token(self._handle.pointer))

    @property
    def state(self) -> State:
        """The state now; never LEADER where `is_leader` is false."""
        return State(library.tenure_campaign_state(self._handle.pointer))

    def wait_for_leadership(self, timeout: float | None = None) -> None:
        """Waits until this campaign leads, for at most `timeout` seconds; None: for ever, 0: only looks.

        Raises `TimeoutError`; when the campaign is over, what it ended by: `ClosedError`, `SessionExpiredError`,
        `KeyDeletedError`, `WaitLimitError` and others.
        """
        milliseconds(timeout)
        until = None if timeout is None else monotonic() + timeout
        abandoned = threading.Event()

        def work() -> None:
            while True:
                left = ABANDONED_S if until is None else max(min(until - monotonic(), ABANDONED_S), 0)
                is_last_look = until is not None and left < ABANDONED_S
                try:
                    call(library.tenure_campaign_wait_leader, self._handle.pointer, milliseconds(left))
                    return
                except TimeoutError:
                    if is_last_look:
                        raise TimeoutError(f"election `{self._election}`: not the leader within {timeout} s") from None
                    if abandoned.is_set():
                        return

        interruptible(work, abandoned)

    def proclaim(self, value: bytes | str, timeout: float | None = None) -> None:
        """Changes the announced value during a term, without losing it. Waits for etcd's answer for at most `timeout`
        seconds; None: the service's `call_timeout`.

        Raises `NotLeaderError`, `ValueTooLargeError` above 1 MiB, `PermissionDeniedError`, `NoSpaceError`,
        `ClosedError`; `PendingError` when it isn't confirmed yet and the library goes on trying.
        """
        data = value_bytes(value)
        wait(library.tenure_campaign_proclaim, self._handle.pointer, data, len(data), milliseconds(timeout))

    def resign(self, timeout: float | None = None) -> None:
        """Withdraws from the election, leading or waiting. Leadership ends at once; then waits for etcd to confirm that
        the key is gone, for at most `timeout` seconds; None: the service's `call_timeout`, 0: doesn't wait. Returning
        means confirmed, also when there was nothing to withdraw.

        Raises `PendingError` when it isn't confirmed yet; the library goes on by itself, and calling again waits on.
        """
        timeout_ms = milliseconds(timeout)

        def work() -> None:
            # Not before a thread does it: a Ctrl-C until then changes nothing.
            self._is_withdrawn = True
            call(library.tenure_campaign_resign, self._handle.pointer, timeout_ms)

        interruptible(work)

    def resign_leader(self, timeout: float | None = None) -> None:
        """Like `resign`, for the leader only: who waits or is over gets `NotLeaderError`, and nothing is changed."""
        wait(library.tenure_campaign_resign_leader, self._handle.pointer, milliseconds(timeout))
        self._is_withdrawn = True

    def next_status(self, timeout: float | None = None) -> Status:
        """The next status, waiting for at most `timeout` seconds; None: for ever.

        Raises `TimeoutError`, `ClosedError` after the last one, `WrongModeError` where statuses go to a callback.
        """
        return self._mailbox.take(timeout)

    def __iter__(self) -> Iterator[Status]:
        """Statuses as they come, CLOSED the last."""
        yield from self._mailbox

    async def __aiter__(self) -> AsyncIterator[Status]:
        """Statuses as they come, CLOSED the last, on asyncio."""
        async for status in self._mailbox:
            yield status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.resign()
        except ForkedError:
            pass  # a child of a fork has nothing to withdraw
        except TenureError as error:
            if failure is None:
                raise
            log.warning("election `%s`: %s", self._election, error)

    def __del__(self) -> None:
        # Partly made ones, when making them failed, have no handle.
        handle = getattr(self, "_handle", None)
        if handle is None or self._is_withdrawn or self._pid != os.getpid():
            return
        state = library.tenure_campaign_state(handle.pointer)
        # Withdraws. First, since warnings may be errors.
        library.tenure_campaign_free(handle.pointer)
        if state in (State.FOLLOWER, State.LEADER):
            warnings.warn(f"{self!r} was not resigned; it withdraws", ResourceWarning, stacklevel=1)

    def __repr__(self) -> str:
        return f"<tenure.Campaign {self._election!r}>"
