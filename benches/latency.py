#!/usr/bin/env python3
"""How long an event takes from the engine to Python: to an iterator, a callback and an `async for`.

    TENURE_LIBRARY=target/release/libtenure.so PYTHONPATH=bindings/python/src benches/latency.py [N]

The engine can't be asked when it had an event, so this measures from a call that makes it tell one at once, an observer's
end on the in-process store, to where Python has it. The same with the C functions alone, on one thread, is what of that is
not the package's: the call, the engine's thread, and being woken by it.
"""

from __future__ import annotations

import asyncio
import ctypes
import queue
import sys
import time
from collections.abc import Iterator
from typing import Callable

import tenure
from tenure._abi import EventStruct
from tenure._calls import call
from tenure._library import library
from tenure._options import ServiceOptions, service_options

OPTIONS: ServiceOptions = {"endpoints": "memory://latency", "service": "latency", "log_level": "off"}


def report(name: str, samples_ns: list[int]) -> None:
    ordered = sorted(samples_ns)
    p50, p99 = (ordered[int(len(ordered) * part)] / 1000 for part in (0.5, 0.99))
    print(f"{name:<28} p50 {p50:7.1f} us   p99 {p99:7.1f} us   n {len(ordered)}")


def observers(service: tenure.Service, count: int) -> Iterator[tenure.Observer]:
    """Observers that have told what they found."""
    for _ in range(count):
        observer = service.observe("x")
        observer.next_observation(10)
        yield observer


def by_iterator(service: tenure.Service, count: int) -> list[int]:
    samples = []
    for observer in observers(service, count):
        start = time.perf_counter_ns()
        observer.close()
        observer.next_observation(10)
        samples.append(time.perf_counter_ns() - start)
    return samples


def by_callback(service: tenure.Service, count: int) -> list[int]:
    samples = []
    ends: queue.SimpleQueue[int] = queue.SimpleQueue()
    for _ in range(count):
        observer = service.observe("x", on_change=lambda _: ends.put(time.perf_counter_ns()))
        ends.get(timeout=10)
        start = time.perf_counter_ns()
        observer.close()
        samples.append(ends.get(timeout=10) - start)
    return samples


def by_event_loop(service: tenure.Service, count: int) -> list[int]:
    async def measure() -> list[int]:
        samples = []
        for _ in range(count):
            observer = service.observe("x")
            observations = observer.__aiter__()
            await observations.__anext__()
            start = time.perf_counter_ns()
            observer.close()
            await observations.__anext__()
            samples.append(time.perf_counter_ns() - start)
        return samples

    return asyncio.run(measure())


def by_c_alone(_: tenure.Service, count: int) -> list[int]:
    made, service = service_options(OPTIONS), ctypes.c_void_p()
    call(library.tenure_service_open, made.pointer, ctypes.byref(service))
    event, observer = ctypes.POINTER(EventStruct)(), ctypes.c_void_p()

    def next_event() -> None:
        call(library.tenure_service_next_event, service, 10_000, ctypes.byref(event))

    samples = []
    for _number in range(count):
        call(library.tenure_service_observe, service, b"x", None, None, None, ctypes.byref(observer))
        next_event()
        library.tenure_event_free(event)
        start = time.perf_counter_ns()
        call(library.tenure_observer_close, observer)
        next_event()
        samples.append(time.perf_counter_ns() - start)
        library.tenure_event_free(event)
        library.tenure_observer_free(observer)
    library.tenure_service_free(service)
    return samples


def main() -> None:
    count = int(sys.argv[1]) if sys.argv[1:] else 5000
    ways: dict[str, Callable[[tenure.Service, int], list[int]]] = {
        "iterator": by_iterator,
        "callback": by_callback,
        "async for": by_event_loop,
        "C functions alone": by_c_alone,
    }
    with tenure.Service(**OPTIONS) as service:
        for name, measure in ways.items():
            measure(service, 100)
            report(name, measure(service, count))


if __name__ == "__main__":
    main()
