#!/usr/bin/env python3
"""Tells who leads, without taking part.

    observer.py --endpoints http://127.0.0.1:2379 --service shop --election billing [--changes 10]

One line for each change: `leader token=... value=...` or `nobody`, with the revision at which it was so. While etcd is
out of reach the line says so, and names the last leader known. With --changes it ends after so many lines, else by
Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import tenure


def describe(observation: tenure.Observation) -> str:
    who = "nobody"
    if observation.leader:
        value = observation.leader.value.decode("utf-8", "replace")
        who = f"leader token={observation.leader.token} value={value}"
    distance = "" if observation.connected else f" (etcd is out of reach: {observation.message})"
    return f"revision={observation.revision} {who}{distance}"


async def watch(service: tenure.Service, election: str, changes: int) -> None:
    """The service's own thread waits for etcd; the event loop is free for other work."""
    with service.observe(election) as observer:
        async for observation in observer:
            if observation.closed:
                return
            print(describe(observation), flush=True)
            changes -= 1
            if changes == 0:
                return


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--endpoints", default="http://127.0.0.1:2379")
    parser.add_argument("--service", default="worker")
    parser.add_argument("--election", default="default")
    parser.add_argument("--changes", type=int, default=0, help="end after so many; 0: never")
    given = parser.parse_args()
    try:
        with tenure.Service(endpoints=given.endpoints, service=given.service) as service:
            asyncio.run(watch(service, given.election, given.changes))
    except tenure.TenureError as error:
        print(f"observer: {error.name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
