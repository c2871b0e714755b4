#!/usr/bin/env python3
"""A worker that acts only while it leads: of all workers of one election, one at a time.

    worker.py --endpoints http://127.0.0.1:2379 --service shop --election billing --value alpha
    worker.py --endpoints memory://trial --service shop --for 3      (no server; it elects itself)

It does what examples/c/worker.c does, and says the same: one line for each thing that happens, `name key=value ...`,
times in nanoseconds on CLOCK_BOOTTIME:

    event time_ns= sequence= state= reason= token= at_risk= deadline_ns= message=    what the library tells
    claim start_ns= end_ns= token=           it has been leading for this long, as seen by asking all the time
    resign start_ns= time_ns= code=          an answer to the command `resign`
    candidate place= token= value=           answers to the command `candidates`, and then
    candidates time_ns= code= count=
    campaign time_ns= code=                  an answer to the command `campaign`

Commands are lines on stdin: resign, campaign (stand again after resigning), candidates, quit. SIGTERM and SIGINT are as
good as quit: it withdraws, so that the next one leads at once, and ends with status 0.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Callable

import tenure

if TYPE_CHECKING:
    from typing_extensions import Self

# One line of the claims file. A power of two, so that no line crosses a page: kill -9 can't tear one.
CLAIM_BYTES = 64
# PIPE_BUF: so much is written to a pipe in one piece.
LINE_BYTES = 4096


def now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def say(line: str) -> None:
    """Prints a line by one write, so that lines of several threads don't mix and none is lost in a buffer."""
    # A value may hold anything; a line is a line.
    text = "".join(max(character, " ") for character in line)
    rest = text.encode("utf-8", "replace")[: LINE_BYTES - 1] + b"\n"
    while rest:
        rest = rest[os.write(sys.stdout.fileno(), rest) :]


def complain(what: str, error: tenure.TenureError) -> None:
    print(f"worker: {what}: {error.name}: {error}", file=sys.stderr, flush=True)


def on_status(status: tenure.Status) -> None:
    """Runs on the service's thread for events."""
    say(
        f"event time_ns={now_ns()} sequence={status.sequence} state={status.state.name} reason={status.reason.name} "
        f"token={status.token} at_risk={status.at_risk:d} deadline_ns={status.deadline_ns} message={status.message}"
    )


class Claims:
    """The times for which the worker has been leading, as far as they are proved: from after the first look that said
    so to before the latest one."""

    def __init__(self, path: str | None) -> None:
        # The file keeps them where they outlive this process, however it ends.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = None if path is None else os.open(path, flags, 0o644)
        self._number = -1
        self._token = 0  # 0: none
        self._start_ns = self._end_ns = 0

    def look(self, campaign: tenure.Campaign) -> None:
        """Asks whether it leads, and notes that it may act, only then."""
        before_ns = now_ns()
        token = campaign.token if campaign.is_leader() else 0
        after_ns = now_ns()
        if token != self._token:
            if self._token:
                self._say()
            self._token, self._start_ns, self._end_ns = token, after_ns, after_ns
            if token:
                self._say()
                self._number += 1
                self._store()
        elif token and before_ns > self._end_ns:
            self._end_ns = before_ns
            self._store()

    def _say(self) -> None:
        say(f"claim start_ns={self._start_ns} end_ns={self._end_ns} token={self._token}")

    def _store(self) -> None:
        if self._file is not None:
            line = f"{self._start_ns:20} {self._end_ns:20} {self._token:21}\n"
            os.pwrite(self._file, line.encode(), self._number * CLAIM_BYTES)


class Worker:
    """Stands in one election, works while it leads, and obeys commands."""

    def __init__(self, service: tenure.Service, election: str | None, claims: Claims, poll_us: int) -> None:
        self._service = service
        self._election = election
        self._claims = claims
        self._poll_s = poll_us / 1e6
        self._stop = False
        self._campaign = self._stand()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            # Withdraws, so that the others don't have to wait until the lease is over.
            self._service.close()
        finally:
            self._stop = True
            self._thread.join()

    def obey(self, command: str) -> bool:
        """False: to quit."""
        commands: dict[str, Callable[[], None]] = {
            "resign": self._resign,
            "campaign": self._stand_again,
            "candidates": self._print_candidates,
            "": lambda: None,
        }
        if command == "quit":
            return False
        if command in commands:
            commands[command]()
        else:
            print(
                f"worker: unknown command `{command}`; there are resign, campaign, candidates and quit",
                file=sys.stderr,
                flush=True,
            )
        return True

    def _stand(self) -> tenure.Campaign:
        return self._service.campaign(self._election, on_status=on_status, rejoin=True, at_risk=True)

    def _work(self) -> None:
        while True:
            stop = self._stop
            self._claims.look(self._campaign)
            if stop:
                return
            time.sleep(self._poll_s)

    def _resign(self) -> None:
        start_ns = now_ns()
        code = done("resign", self._campaign.resign)
        say(f"resign start_ns={start_ns} time_ns={now_ns()} code={code}")

    def _stand_again(self) -> None:
        def stand() -> None:
            self._campaign = self._stand()

        code = done("campaign", stand)
        say(f"campaign time_ns={now_ns()} code={code}")

    def _print_candidates(self) -> None:
        candidates: list[tenure.Candidate] = []
        code = done("candidates", lambda: candidates.extend(self._service.candidates(self._election)))
        for place, candidate in enumerate(candidates, 1):
            say(f"candidate place={place} token={candidate.token} value={candidate.value.decode('utf-8', 'replace')}")
        say(f"candidates time_ns={now_ns()} code={code} count={len(candidates)}")


def done(what: str, call: Callable[[], None]) -> str:
    """The name of the code that a call ended with."""
    try:
        call()
    except tenure.TenureError as error:
        complain(what, error)
        return error.name
    return "OK"


def read_commands(commands: queue.SimpleQueue[str]) -> None:
    """Passes on the lines of stdin; a worker without commands goes on working."""
    for line in sys.stdin:
        commands.put(line.rstrip("\n"))


def run(worker: Worker, commands: queue.SimpleQueue[str], for_s: int) -> None:
    """Until a command, a signal or the time says that it is enough."""
    until = time.monotonic() + for_s
    while True:
        try:
            command = commands.get(timeout=max(until - time.monotonic(), 0) if for_s else None)
        except queue.Empty:
            return
        if not worker.obey(command):
            return


def whole(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1_000_000_000:
        raise argparse.ArgumentTypeError(f"`{text}` is not a number from 1 to 1000000000")
    return number


def assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"`{text}` is not NAME=VALUE")
    return name, value


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for option in ("endpoints", "service", "value", "ttl"):
        parser.add_argument(f"--{option}", help="as in docs/options.md")
    parser.add_argument("--election", metavar="NAME")
    parser.add_argument("--option", metavar="NAME=VALUE", type=assignment, action="append", default=[])
    parser.add_argument("--claims", metavar="FILE", help="a file to be made, for the claims")
    parser.add_argument("--poll-us", metavar="N", type=whole, default=200)
    parser.add_argument("--for", metavar="SECONDS", type=whole, default=0, dest="for_s")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    options = {name: getattr(given, name) for name in ("endpoints", "service", "value", "ttl")}
    options.update(given.option)
    commands: queue.SimpleQueue[str] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: commands.put("quit"))
    try:
        claims = Claims(given.claims)
        service = tenure.Service(**{"service": "worker", **{k: v for k, v in options.items() if v is not None}})
        threading.Thread(target=read_commands, args=(commands,), daemon=True).start()
        with service, Worker(service, given.election, claims, given.poll_us) as worker:
            run(worker, commands, given.for_s)
    except tenure.TenureError as error:
        complain("failed", error)
        return 1
    except OSError as error:
        print(f"worker: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
