"""Unread events of one campaign or observer, between the pulling thread and whoever reads them.

Like the library's own mailbox, it is bounded by dropping what a newer event made useless, so a program that never reads
costs a few events, and reads the truth when it does. Neither a campaign's last event is ever dropped, nor the loss of a
term whose beginning was read.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Callable, Generic, TypeVar

from ._calls import Handle, milliseconds
from ._codes import ClosedError, ForkedError, TimeoutError, WrongModeError, WrongThreadError
from ._events import Observation, State, Status
from ._library import library

if TYPE_CHECKING:
    import asyncio

# Unread statuses kept: a loss that must be heard, and the last ones.
KEPT = 4

E = TypeVar("E", Status, Observation)


class Mailbox(Generic[E]):
    """Events on their way. With a callback they go there, and nothing is to be read."""

    def __init__(self, callback: Callable[[E], object] | None) -> None:
        self.callback: Callable[[E], object] | None = callback
        #: The thread that puts events in; it can't wait for them.
        self.puller: threading.Thread | None = None
        #: Keeps a campaign or observer alive that may be heard by its callback only.
        self.owner: object = None
        self._pid = os.getpid()
        # Reentrant: a signal's handler may read from it while the main thread does.
        self._lock = threading.RLock()
        self._unread: deque[E] = deque()
        # Called once each, when there is something to read.
        self._wakers: list[Callable[[], object]] = []
        # What a reader gets when all is read and nothing more will come.
        self._end: Exception | None = None

    def put(self, event: E) -> None:
        """A new event; on the pulling thread."""
        if self.callback is not None:
            self.callback(event)
            if event.closed:
                self.end(ClosedError(f"election `{event.election}`: its last event was told"))
            return
        with self._lock:
            self._make_room(event)
            self._unread.append(event)
            if event.closed:
                self._end = ClosedError(f"election `{event.election}`: its last event was read")
        self._wake()

    def end(self, reason: Exception) -> None:
        """Nothing more will come, if that isn't known yet."""
        with self._lock:
            self._end = self._end or reason
        self._wake()

    def take(self, timeout: float | None) -> E:
        """The next event, waiting for at most so many seconds; `None`: for ever."""
        milliseconds(timeout)
        until = None if timeout is None else monotonic() + timeout
        while True:
            woken = threading.Lock()
            woken.acquire()
            event = self._take_or_wake(woken.release)
            if event is not None:
                return event
            try:
                if timeout != 0:
                    self._check_thread()
                left = -1 if until is None else max(until - monotonic(), 0)
                if not woken.acquire(timeout=left):
                    raise TimeoutError(f"no event within {timeout} s")
            finally:
                self._forget(woken.release)

    async def take_async(self) -> E:
        """The next event, on the running event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        while True:
            woken = loop.create_future()
            wake = _waker(loop, woken)
            event = self._take_or_wake(wake)
            if event is not None:
                return event
            try:
                self._check_thread()
                await woken
            finally:
                self._forget(wake)

    def __iter__(self) -> Iterator[E]:
        """Events as they come, to the last one."""
        while True:
            try:
                event = self.take(None)
            except ClosedError:
                return
            yield event
            if event.closed:
                return

    async def __aiter__(self) -> AsyncIterator[E]:
        """Events as they come, to the last one, on asyncio."""
        while True:
            try:
                event = await self.take_async()
            except ClosedError:
                return
            yield event
            if event.closed:
                return

    def _check_thread(self) -> None:
        if threading.current_thread() is self.puller:
            raise WrongThreadError(
                "nothing is to be read yet, and inside a callback of this service waiting for it would never end"
            )

    def _take_or_wake(self, wake: Callable[[], object]) -> E | None:
        """The next event; without one, `wake` is called when there may be one."""
        if self._pid != os.getpid():
            # Not even the lock may be touched: a thread of the parent may have held it.
            raise ForkedError("these events belong to the parent process of a fork; open a service in the child")
        if self.callback is not None:
            raise WrongModeError("events go to the callback that was given; without one they can be read")
        with self._lock:
            while self._unread:
                event = self._unread.popleft()
                if self._is_true(event):
                    return event
            if self._end is not None:
                # A new one each time: an exception that is raised twice grows its traceback.
                raise type(self._end)(str(self._end))
            self._wakers.append(wake)
            return None

    def _wake(self) -> None:
        with self._lock:
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    def _forget(self, wake: Callable[[], object]) -> None:
        with self._lock:
            if wake in self._wakers:
                self._wakers.remove(wake)

    def _make_room(self, event: E) -> None:
        """Drops what `event` makes useless."""
        raise NotImplementedError

    def _is_true(self, event: E) -> bool:
        """Whether an event may still be told."""
        return True


class StatusMailbox(Mailbox[Status]):
    """Of a campaign."""

    #: Its handle.
    campaign: Handle | None = None

    def _make_room(self, event: Status) -> None:
        unread = self._unread
        if event.state != State.LEADER:
            # A term that ended before its beginning was read is not told.
            for former in [former for former in unread if former.state == State.LEADER]:
                unread.remove(former)
        elif unread and unread[-1].state == State.LEADER:
            unread.pop()
        # The first may be the loss of a term that was read; those after it are of terms that never were.
        while len(unread) >= KEPT:
            del unread[1]

    def _is_true(self, event: Status) -> bool:
        if event.state != State.LEADER or self.campaign is None:
            return True
        return bool(library.tenure_campaign_token(self.campaign.pointer) == event.token)


class ObservationMailbox(Mailbox[Observation]):
    """Of an observer: the newest is all that counts."""

    def _make_room(self, event: Observation) -> None:
        self._unread.clear()


def _waker(loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None]) -> Callable[[], None]:
    def finish() -> None:
        if not woken.done():
            woken.set_result(None)

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(finish)
        except RuntimeError:
            pass  # the loop is closed, so nobody waits any more

    return wake
