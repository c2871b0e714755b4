"""Calls of the library: arguments in, errors out, and waits that Ctrl-C interrupts."""

from __future__ import annotations

import math
import os
import sys
import threading
from ctypes import POINTER, byref, c_void_p
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from ._abi import ErrorStruct
from ._codes import EXCEPTIONS, Code, InvalidArgumentError
from ._errors import TenureError
from ._library import library

if TYPE_CHECKING:
    from typing_extensions import TypeAlias

T = TypeVar("T")
ErrorPointer = POINTER(ErrorStruct)

# What fits into the int32_t of milliseconds that the library takes: 24 days.
MAX_TIMEOUT_S = (2**31 - 1) // 1000


class Handle:
    """Owns a handle of the library. Being one object, it is freed by whoever lets go of it last, on any thread. It exists
    before the library writes the handle into `out`, so that none is lost to a Ctrl-C right after the call."""

    __slots__ = ("_free", "out")

    def __init__(self, free: Callable[[int | None], None]) -> None:
        self.out = c_void_p()
        self._free = free

    @property
    def pointer(self) -> int | None:
        """What to give to the library."""
        return self.out.value

    def __del__(self) -> None:
        self._free(self.out.value)


def taken(code: int, error: Any) -> TenureError:
    """The exception for a code and what the library says about it, which is freed."""
    if not error:
        return EXCEPTIONS.get(code, TenureError)(f"code {code}")
    details = error.contents
    message = details.message.decode("utf-8", "replace")
    kind = EXCEPTIONS.get(code)
    if kind is not None:
        exception = kind(message)
    else:
        exception = TenureError(message)
        exception.code = Code(code)
        exception.name = details.name.decode()
        exception.retryable = details.is_retriable
    library.tenure_error_free(error)
    return exception


def call(function: Callable[..., int], *arguments: Any) -> None:
    """Calls a function whose last argument is `tenure_error **err`, and raises what it answers."""
    error = ErrorPointer()
    code = function(*arguments, byref(error))
    if code != Code.OK:
        raise taken(code, error)


def interruptible(work: Callable[[], T], abandoned: threading.Event | None = None) -> T:
    """Does work that waits inside the library so that Ctrl-C, or another signal's handler that raises, ends the wait.

    Python runs signal handlers on the main thread only, and not while that is inside a C function; so another thread
    does the work, and the main one waits for it in a way that Python can interrupt. Then `abandoned` is set; the work
    ends by itself, and what it returns is dropped.
    """
    # At the end of the interpreter no other thread runs any more.
    if sys.is_finalizing() or threading.current_thread() is not threading.main_thread():
        return work()
    results: list[T] = []
    failures: list[BaseException] = []
    done = threading.Lock()
    done.acquire()

    def run() -> None:
        try:
            results.append(work())
        except BaseException as failure:  # noqa: BLE001 whatever it is, it is the main thread's
            failures.append(failure)

    try:
        if not _is_handed_over(run, done):
            return work()  # better uninterruptible than not at all
        done.acquire()
    finally:
        if abandoned is not None:
            abandoned.set()
    if failures:
        try:
            raise failures[0]
        finally:
            failures.clear()  # no cycle of the exception and this frame
    return results[0]


# A piece of work for a helper thread, and a lock to release when it is done.
Inbox: TypeAlias = "SimpleQueue[tuple[Callable[[], None], threading.Lock]]"

# Where helper threads that have nothing to do wait for work. One is enough but for those that were abandoned at theirs.
_idle: list[Inbox] = []


def _is_handed_over(run: Callable[[], None], done: threading.Lock) -> bool:
    """Whether a helper runs this now; False: the system has no thread left."""
    try:
        inbox = _idle.pop()
    except IndexError:
        inbox = SimpleQueue()
        try:
            threading.Thread(target=_help, args=(inbox,), name="tenure-calls", daemon=True).start()
        except RuntimeError:
            return False
    inbox.put((run, done))
    return True


def _help(inbox: Inbox) -> None:
    while True:
        run, done = inbox.get()
        run()
        # First, so that the next wait finds it; and nothing of the last one is kept.
        _idle.append(inbox)
        done.release()
        del run, done


# A child has none of its parent's threads.
os.register_at_fork(after_in_child=_idle.clear)


def wait(function: Callable[..., int], *arguments: Any) -> None:
    """Like `call`, for a function that may wait."""
    interruptible(lambda: call(function, *arguments))


def milliseconds(timeout: float | None) -> int:
    """A timeout as the library takes it: -1 is the default of the call."""
    if timeout is None:
        return -1
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout must be a number of seconds or None, not {type(timeout).__name__}")
    if not 0 <= timeout <= MAX_TIMEOUT_S:  # also false for a NaN
        raise InvalidArgumentError(
            f"argument `timeout`: {timeout} is not between 0 and {MAX_TIMEOUT_S} seconds; None waits as long as the "
            "call does by default"
        )
    return math.ceil(timeout * 1000)


def text(value: object, argument: str, refusal: type[TenureError]) -> bytes:
    """A string for C, which ends at the first NUL: so none may be inside."""
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a str, not {type(value).__name__}")
    if "\0" in value:
        raise refusal(f"argument `{argument}`: a NUL character is inside")
    # A lone surrogate becomes bytes that are no UTF-8, which the library refuses and says where.
    return value.encode("utf-8", "surrogatepass")


def value_bytes(value: object) -> bytes:
    """What a candidate announces."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"value must be bytes or a str, not {type(value).__name__}")
