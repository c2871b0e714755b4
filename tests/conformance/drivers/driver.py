"""The conformance driver for Python: requests come as JSON lines on standard input, answers and events go as JSON lines
to standard output. tests/conformance/README.md describes both. No logic beyond naming what the package has.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from typing import Any, Callable

import tenure

Json = dict[str, Any]

# What a name stands for. The lock is held while an object is made, so that a callback finds the one that it is called
# for.
objects: dict[str, Any] = {}
objects_lock = threading.RLock()
output_lock = threading.Lock()


def write_line(line: Json) -> None:
    with output_lock:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def to_bytes(text: str) -> bytes:
    """Bytes travel as text: each byte is the character of that number."""
    return text.encode("latin-1")


def from_bytes(value: bytes) -> str:
    return value.decode("latin-1")


def to_text(text: str | None) -> str | None:
    """A str of the program; what is no UTF-8 comes into it as file names do."""
    return None if text is None else to_bytes(text).decode("utf-8", "surrogateescape")


def options_of(request: Json) -> Json:
    return {str(to_text(name)): to_text(value) for name, value in request["options"]}


def seconds(request: Json) -> float | None:
    timeout = request.get("timeout_ms")
    return None if timeout is None else timeout / 1000


def candidate(found: tenure.Candidate) -> Json:
    value, key = from_bytes(found.value), from_bytes(found.key)
    return {"value": value, "token": found.token, "key": key, "lease": found.lease}


class Listener:
    """Writes events, and performs what is to be called inside: at the first event of a state, or at an observer's."""

    def __init__(self, request: Json) -> None:
        self.handle: str = request["handle"]
        self.inside: dict[str, list[Json]] = dict(request.get("inside", {}))

    def status(self, status: tenure.Status) -> None:
        write_line({
            "event": "status", "handle": self.handle, "sequence": status.sequence, "time_ns": status.time_ns, "election": status.election,
            "state": status.state.name, "reason": status.reason.name, "message": status.message,
            "at_risk": status.at_risk, "value": from_bytes(status.value), "token": status.token,
            "revision": status.revision, "deadline_ns": status.deadline_ns, "cluster": status.cluster_id != 0,
        })  # fmt: skip
        self.perform(status.state.name)

    def observation(self, seen: tenure.Observation) -> None:
        write_line({
            "event": "observation", "handle": self.handle, "sequence": seen.sequence, "time_ns": seen.time_ns, "election": seen.election,
            "leader": seen.leader and candidate(seen.leader), "connected": seen.connected, "closed": seen.closed,
            "reason": seen.reason.name, "message": seen.message, "revision": seen.revision,
            "cluster": seen.cluster_id != 0,
        })  # fmt: skip
        self.perform("OBSERVED")

    def perform(self, state: str) -> None:
        for request in self.inside.pop(state, []):
            perform(request)

    def read(self, events: Any, tell: Callable[[Any], None]) -> None:
        """Where nothing is to be called inside a callback, events are read by iterating."""

        def work() -> None:
            for event in events:
                tell(event)

        # Not a daemon as the thread of callbacks is, which may be the one that starts it: all is read to the end.
        threading.Thread(target=work, daemon=False).start()


def do_open(request: Json) -> None:
    service = tenure.Service(**options_of(request))
    objects[request["handle"]] = service


def do_campaign(request: Json) -> None:
    options = options_of(request)
    if "value" in request:
        options["value"] = to_bytes(request["value"])
    listener = Listener(request)
    on_status = listener.status if listener.inside else None
    with objects_lock:
        service: tenure.Service = objects[request["service"]]
        campaign = service.campaign(to_text(request.get("election")), on_status=on_status, **options)
        objects[request["handle"]] = campaign
    if on_status is None:
        listener.read(campaign, listener.status)


def do_observe(request: Json) -> None:
    listener = Listener(request)
    on_change = listener.observation if listener.inside else None
    with objects_lock:
        service: tenure.Service = objects[request["service"]]
        observer = service.observe(to_text(request.get("election")), on_change=on_change)
        objects[request["handle"]] = observer
    if on_change is None:
        listener.read(observer, listener.observation)


def do_leader(request: Json) -> Json:
    service: tenure.Service = objects[request["service"]]
    return candidate(service.leader(to_text(request.get("election")), seconds(request)))


def do_candidates(request: Json) -> list[Json]:
    service: tenure.Service = objects[request["service"]]
    return [candidate(one) for one in service.candidates(to_text(request.get("election")), seconds(request))]


def campaign_of(request: Json) -> tenure.Campaign:
    with objects_lock:
        campaign: tenure.Campaign = objects[request["handle"]]
    return campaign


def do_close(request: Json) -> None:
    named = objects[request["handle"]]
    if isinstance(named, tenure.Observer):
        named.close()
    else:
        named.close(seconds(request))


def do_fork(request: Json) -> int:
    """The requests are answered by a child process; then this one is, by how the child ended."""
    child = os.fork()
    if child == 0:
        for one in request["requests"]:
            perform(one)
        os._exit(0)
    return os.waitpid(child, 0)[1]


CALLS: dict[str, Callable[[Json], Any]] = {
    "open": do_open,
    "campaign": do_campaign,
    "observe": do_observe,
    "leader": do_leader,
    "candidates": do_candidates,
    "close": do_close,
    "fork": do_fork,
    "wait_leader": lambda request: campaign_of(request).wait_for_leadership(seconds(request)),
    "proclaim": lambda request: campaign_of(request).proclaim(to_bytes(request["value"]), seconds(request)),
    "resign": lambda request: campaign_of(request).resign(seconds(request)),
    "resign_leader": lambda request: campaign_of(request).resign_leader(seconds(request)),
    "is_leader": lambda request: campaign_of(request).is_leader(),
    "remaining": lambda request: round(campaign_of(request).remaining() * 1000),
    "token": lambda request: campaign_of(request).token,
    "state": lambda request: campaign_of(request).state.name,
}


def perform(request: Json) -> None:
    call = CALLS[request["call"]]
    line: Json = {"id": request["id"]}
    try:
        line["value"] = call(request)
    except tenure.TenureError as error:
        line.update({"error": error.name, "retriable": error.retryable, "message": error.message})
    write_line(line)


def main() -> None:
    logging.getLogger("tenure").addHandler(logging.NullHandler())
    # Objects live as long as anything refers to them, here their readers: they are closed, not let go.
    write_line({"hello": "Python", "lacks": ["freed handles", "letting go"]})
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("beside"):
            threading.Thread(target=perform, args=(request,), daemon=False).start()
        else:
            perform(request)


if __name__ == "__main__":
    main()
