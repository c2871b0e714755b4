"""Fixtures, and the last line of the tests."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import tenure
from support import ETCD_ENDPOINTS, Etcd, Place, eventually

# Where a shell started us in the background SIGINT is ignored, and would be by what we start.
signal.signal(signal.SIGINT, signal.default_int_handler)

numbers = itertools.count(1)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The last line that every part of `make test` ends with. What was skipped was not tested."""
    stats = terminalreporter.stats
    passed = len(stats.get("passed", []))
    failed = sum(len(reports) for kind, reports in stats.items() if kind in ("failed", "error", "skipped", "xpassed"))
    terminalreporter._session.config.add_cleanup(lambda: print(f"{passed} passed, {failed} failed"))


@pytest.fixture
def memory() -> str:
    """A store in this process, of nobody else's."""
    return f"memory://test-{next(numbers)}"


@pytest.fixture(params=["memory", "etcd"])
def place(request: pytest.FixtureRequest, memory: str) -> Place:
    """Elections of one test's own, on either store."""
    endpoints = memory if request.param == "memory" else ETCD_ENDPOINTS
    return Place(endpoints=endpoints, prefix=f"python-{os.getpid()}-{next(numbers)}/")


@pytest.fixture
def service(place: Place) -> Iterator[tenure.Service]:
    """A service there."""
    with tenure.Service(**place) as service:
        yield service


def event_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "tenure-events"}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No test leaves a service open."""
    before = event_threads()
    yield
    gc.collect()
    eventually(lambda: event_threads() <= before)


@pytest.fixture
def etcd() -> Iterator[Etcd]:
    etcd = Etcd()
    try:
        yield etcd
    finally:
        etcd.end()
