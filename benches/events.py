#!/usr/bin/env python3
"""Measures how late an event is when it is read from an iterator, in the form of benches/tenure.c: events N.

events.py ENDPOINTS
"""

from __future__ import annotations

import sys
import time

import tenure


def main() -> None:
    service = tenure.Service(endpoints=sys.argv[1], service="bench")
    for line in sys.stdin:
        command, count = line.split()
        assert command == "events"
        late = []
        for _ in range(int(count)):
            observer = service.observe("nobody")
            first = next(iter(observer))
            late.append(time.clock_gettime_ns(time.CLOCK_BOOTTIME) - first.time_ns)
            observer.close()
        print("ok", *late, flush=True)
    service.close()


if __name__ == "__main__":
    main()
