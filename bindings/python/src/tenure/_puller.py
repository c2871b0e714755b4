"""The one thread of a service that pulls its events, and what happens to services when the interpreter ends.

The library's own threads never call into Python: such a call aborts the process if the interpreter is ending.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import os
import sys
import threading
from ctypes import POINTER, byref
from time import monotonic
from typing import Any

from ._abi import (
    EVENT_CAMPAIGN,
    EVENT_LOG,
    EVENT_OBSERVER,
    LEVEL_DEBUG,
    LEVEL_ERROR,
    LEVEL_INFO,
    LEVEL_WARN,
    EventStruct,
)
from ._calls import ErrorPointer, Handle, taken
from ._codes import Code, PendingError, WrongThreadError
from ._events import checked, observation, status, text
from ._library import library
from ._mailbox import Mailbox

log = logging.getLogger("tenure")

LOG_LEVELS = {
    LEVEL_ERROR: logging.ERROR,
    LEVEL_WARN: logging.WARNING,
    LEVEL_INFO: logging.INFO,
    LEVEL_DEBUG: logging.DEBUG,
}

# How long the end of the interpreter may wait for services that nobody closed: etcd answers in milliseconds, if at all.
EXIT_S = 1.0

# As long as the library can wait.
LONGEST_MS = 2**31 - 1

# How long the last events of a closed service may take from the library to here.
GRACE_S = 0.25

# Of services that may have left something at etcd.
_open_pullers: set[Puller] = set()
_ended = threading.Event()
# Whose end `multiprocessing` tells of.
_ending_pid = 0


def wanted_log_level() -> str:
    """The option `log_level` that the logger's level asks for."""
    level = log.getEffectiveLevel()
    names = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warn", logging.ERROR: "error"}
    return next((name for limit, name in names.items() if level <= limit), "off")


class Puller:
    """Pulls the events of a service and hands them to mailboxes. Knows nothing of the service but its handle, so that a
    service that nobody refers to can end."""

    def __init__(self, service: Handle) -> None:
        self.service = service
        self.pid = os.getpid()
        self._numbers = itertools.count(1)
        # By the user_data that their events carry: that is known before the first of them may come, a handle isn't.
        self._mailboxes: dict[int, Mailbox[Any]] = {}
        self._thread = threading.Thread(target=self._run, name="tenure-events", daemon=True)
        # What the end of the interpreter waits for: a thread can't be joined while it is being started.
        self._done = threading.Event()
        # First, since a Ctrl-C may come when the thread runs already.
        _open_pullers.add(self)
        try:
            self._thread.start()
        except RuntimeError:
            _open_pullers.discard(self)
            self._done.set()
            raise
        _end_with_multiprocessing()

    def add(self, mailbox: Mailbox[Any]) -> int:
        """The user_data that leads events to this mailbox, until its last one."""
        number = next(self._numbers)
        mailbox.puller = self._thread
        self._mailboxes[number] = mailbox
        return number

    def remove(self, number: int) -> None:
        """Takes a mailbox back that no event will come for."""
        self._mailboxes.pop(number, None)

    def keep(self, number: int, owner: object) -> None:
        """Keeps the owner of a callback alive until its last event, which may have been told already."""
        mailbox = self._mailboxes.get(number)
        if mailbox is not None:
            mailbox.owner = owner
            if number not in self._mailboxes:
                mailbox.owner = None

    def check_thread(self, call: str) -> None:
        """Refuses a call that would wait for the callback that makes it."""
        if self.pid == os.getpid() and threading.current_thread() is self._thread:
            raise WrongThreadError(f"{call}: inside a callback of this service it would wait for itself")

    def finish(self, timeout: float) -> None:
        """After the service closed: waits for callbacks, so that none runs any more. At the end of the interpreter none
        does."""
        if self.pid == os.getpid() and not sys.is_finalizing():
            self._thread.join(max(timeout, GRACE_S))
            if self._thread.is_alive():
                raise PendingError("close: a callback has not returned yet")

    def _run(self) -> None:
        try:
            self._pull()
        finally:
            self._done.set()

    def _pull(self) -> None:
        event, error = POINTER(EventStruct)(), ErrorPointer()
        while True:
            code = library.tenure_service_next_event(self.service.pointer, -1, byref(event), byref(error))
            if code != Code.OK:
                break
            try:
                self._deliver(checked(event))
            except BaseException:  # noqa: BLE001 a callback's; the next event is to come all the same
                _tell_failure()
            finally:
                library.tenure_event_free(event)
        reason = taken(code, error)
        for number, mailbox in list(self._mailboxes.items()):
            self.remove(number)
            mailbox.end(reason)
            mailbox.owner = None
        if code != Code.FORKED:
            # Until etcd has confirmed it, here, where nobody waits: freeing the handle waits for that, too. After a failure
            # it begins here, as who can't be told of a loss must not lead.
            library.tenure_service_close(self.service.pointer, LONGEST_MS, None)
        _open_pullers.discard(self)
        if code not in (Code.CLOSED, Code.FORKED):
            log.error("events can't be read any more: %s", reason)

    def _deliver(self, event: EventStruct) -> None:
        if event.kind == EVENT_LOG:
            log.log(LOG_LEVELS.get(event.level, logging.ERROR), "%s", text(event.message))
            return
        mailbox = self._mailboxes.get(event.user_data or 0)
        if mailbox is None or event.kind not in (EVENT_CAMPAIGN, EVENT_OBSERVER):
            return  # of a kind that a newer library has
        told = status(event) if event.kind == EVENT_CAMPAIGN else observation(event)
        try:
            mailbox.put(told)
        finally:
            if told.closed:
                self.remove(event.user_data)
                mailbox.owner = None


def _tell_failure() -> None:
    """Tells of the exception at hand, which is a callback's, or of what handles or filters log lines."""
    try:
        log.exception("a callback failed")
    except BaseException:  # noqa: BLE001 the same handler again: as Python tells of what ends a thread
        with contextlib.suppress(BaseException):  # a program's own hook; nobody is left to be told
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))


def free_service(pointer: int | None) -> None:
    """Frees a service that is closed for certain, which takes no time: the pulling thread holds the handle until then. The
    end of the interpreter is the exception, and there nothing is left to be waited for or freed."""
    if not _ended.is_set():
        library.tenure_service_free(pointer)


def _close_all() -> None:
    """At exit: leadership ends, and whoever is next doesn't have to wait for the lease's end."""
    _ended.set()
    until = monotonic() + EXIT_S
    mine = [puller for puller in list(_open_pullers) if puller.pid == os.getpid()]
    for timeout in (0.0, EXIT_S):
        for puller in mine:
            left = max(min(until - monotonic(), timeout), 0)
            library.tenure_service_close(puller.service.pointer, int(left * 1000), None)
    for puller in mine:
        puller._done.wait(max(until - monotonic(), 0))


atexit.register(_close_all)


def _end_with_multiprocessing() -> None:
    """A child of `multiprocessing` that was forked ends without what is registered with `atexit`."""
    global _ending_pid
    process, util = (sys.modules.get(f"multiprocessing.{name}") for name in ("process", "util"))
    if process is None or util is None or process.parent_process() is None or _ending_pid == os.getpid():
        return
    _ending_pid = os.getpid()
    # Of those below 0 it thinks only after it has waited for children of its own.
    util.Finalize(None, _close_all, exitpriority=0)
