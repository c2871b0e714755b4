"""A subscription to who leads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from ._calls import Handle, call
from ._codes import ForkedError
from ._events import Observation
from ._library import library
from ._mailbox import ObservationMailbox

if TYPE_CHECKING:
    from typing_extensions import Self

    from .service import Service


class Observer:
    """Watches who leads an election, without taking part; made by `Service.observe`.

    As a context manager it closes at the end. Observations can be read by iterating, in a ``for`` or an ``async for``;
    the last one says `closed`.
    """

    def __init__(self, service: Service, election: str, handle: Handle, mailbox: ObservationMailbox) -> None:
        self._service = service
        self._election = election
        self._handle = handle
        self._mailbox = mailbox

    @property
    def election(self) -> str:
        """The election's name."""
        return self._election

    @property
    def service(self) -> Service:
        """The service that it was made by."""
        return self._service

    def next_observation(self, timeout: float | None = None) -> Observation:
        """The newest observation that wasn't read, waiting for at most `timeout` seconds; None: for ever.

        Raises `TimeoutError`, `ClosedError` after the last one, `WrongModeError` where observations go to a callback.
        """
        return self._mailbox.take(timeout)

    def close(self) -> None:
        """Ends it, without waiting; its last observation says `closed`. Closing twice is fine."""
        call(library.tenure_observer_close, self._handle.pointer)

    def __iter__(self) -> Iterator[Observation]:
        """Observations as they come; the last one says `closed`."""
        yield from self._mailbox

    async def __aiter__(self) -> AsyncIterator[Observation]:
        """Observations as they come, on asyncio; the last one says `closed`."""
        async for observation in self._mailbox:
            yield observation

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except ForkedError:
            pass  # a child of a fork has nothing to close

    def __repr__(self) -> str:
        return f"<tenure.Observer {self._election!r}>"
