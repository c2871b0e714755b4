#!/usr/bin/env python3
"""Host processes that end in every way there is, many times each, against a real etcd: none crashes or hangs, each ends as
its ending says, and nothing stays at etcd that the ending doesn't allow.

usage: hosts.py --program NAME=COMMAND... [--runs N] [--only PATTERN] [--at-once N]
The address of etcd is in ETCD_ENDPOINTS; nobody else may use it. The last line is "N passed, N failed", endings counted.
"""

from __future__ import annotations

import argparse
import base64
import concurrent.futures
import http.client
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

# A run that takes longer hangs.
LIMIT_S = 120
# What ends abruptly has a lease of 2 s; etcd looks twice a second for leases that are over, and more slowly when busy.
LEASE_S = 6

# Failures of one ending that are shown.
SHOWN = 3

NOTHING = "nothing"
LEASE = "lease"

ABORTED, KILLED, TERMINATED, INTERRUPTED = -signal.SIGABRT, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT
# Rust's allocator says so and aborts; what it adds depends on whether there is memory left to read its environment.
NO_MEMORY_ADDED = (
    r"skipping backtrace printing to avoid potential recursion\n"
    r"|note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n"
)
NO_MEMORY = rf"(memory allocation of \d+ bytes failed\n({NO_MEMORY_ADDED})*)*"


@dataclass(frozen=True)
class Ending:
    """How a run of a program ends: with one of these statuses (negative: by this signal), with this on its standard
    error and nothing else, and with this left at etcd."""

    program: str
    name: str
    statuses: tuple[int, ...] = (0,)
    leaves: str = NOTHING
    error: str = ""
    #: One of so many runs is made; none where fewer are asked for.
    rare: int = 1

    @property
    def title(self) -> str:
        return f"{self.program} {self.name}"


def endings(program: str, statuses: int | tuple[int, ...], leaves: str, names: str, error: str = "") -> list[Ending]:
    one_of = statuses if isinstance(statuses, tuple) else (statuses,)
    return [Ending(program, name, one_of, leaves, error) for name in names.split()]


TERMINATE = r"terminate called after throwing an instance of 'std::\w+'\n  what\(\):  .*\n"
GO_TRACE = r".*\ngoroutine .*"

ENDINGS = [
    *endings("C", 0, NOTHING, "close-return free-return destructor-close atexit-close pthread_exit-main"),
    *endings("C", 0, LEASE, "return exit-amid-callbacks"),
    *endings("C", 3, LEASE, "exit exit-thread exit-opening exit-closing exit-callback exit-anytime"),
    *endings("C", 4, LEASE, "_exit _exit-callback"),
    *endings("C", 5, LEASE, "quick_exit quick_exit-anytime"),
    *endings("C", ABORTED, LEASE, "abort abort-callback abort-anytime"),
    *endings("C", KILLED, LEASE, "kill kill-callback kill-anytime"),
    *endings("C", TERMINATED, LEASE, "sigterm sigterm-anytime"),
    *endings("C", 0, LEASE, "exec fork-daemon fork-left-open"),
    *endings("C", 0, NOTHING, "fork-unused fork-opening fork-following fork-leading fork-callback fork-resigning fork-closing"),
    *endings("C", 0, NOTHING, "sigpipe sigprof sigalrm sigusr1"),
    *endings("C", 0, NOTHING, "few-descriptors no-descriptors-for-a-while"),
    *endings("C", 0, LEASE, "no-descriptors-for-a-term"),
    *endings("C", 0, NOTHING, "few-threads no-threads-to-reconnect"),
    *endings("C", (0, ABORTED), LEASE, "little-memory no-memory-while-leading", NO_MEMORY),
    *endings("C", 0, NOTHING, "callback-blocks close-amid-callbacks"),
    *endings("C", 0, LEASE, "callback-ends-all"),
    *endings("C", 0, NOTHING, "closed-streams changing-environment other-locale small-stack cancelled-thread"),
    Ending("C", "a-thousand-services", rare=1000),
    *endings("plugin", 0, NOTHING, "plugin-closed plugin-closes-on-unloading"),
    # Takes twenty seconds.
    Ending("plugin", "plugin-opens-on-loading", rare=100),
    *endings("plugin", 0, LEASE, "plugin-left-open"),
    *endings("C++", 0, NOTHING, "scope thrown-and-caught static-object thread-local-object thrown-by-callback"),
    *endings("C++", 0, LEASE, "ended-inside-a-callback"),
    *endings("C++", 3, NOTHING, "static-object-exit-in-thread"),
    *endings("C++", ABORTED, LEASE, "thrown-by-main thrown-by-thread thrown-by-callback-to-nobody", TERMINATE),
    *endings("C++", ABORTED, LEASE, "thrown-by-the-function-that-is-told", TERMINATE),
    *endings("C++", ABORTED, LEASE, "terminate", "terminate called without an active exception\n"),
    *endings("Python", 0, NOTHING, "return exit-in-thread daemon-threads-that-wait thread-that-closes-later atexit-order"),
    *endings("Python", 0, NOTHING, "uncaught-in-thread", "Exception in thread .*RuntimeError: a thread's\n"),
    *endings("Python", 1, NOTHING, "uncaught", "Traceback .*RuntimeError: uncaught\n"),
    *endings("Python", 3, NOTHING, "exit"),
    *endings("Python", INTERRUPTED, NOTHING, "sigint", "Traceback .*KeyboardInterrupt\n"),
    *endings("Python", 3, LEASE, "exit-anytime"),
    *endings("Python", 4, LEASE, "os-exit os-exit-in-thread os-exit-anytime"),
    *endings("Python", ABORTED, LEASE, "abort"),
    *endings("Python", KILLED, LEASE, "kill kill-anytime"),
    *endings("Python", TERMINATED, LEASE, "sigterm"),
    *endings("Python", 0, NOTHING, "callback-raises callback-blocks-at-exit callback-calls-everything close-amid-callbacks"),
    *endings("Python", 0, NOTHING, "fork-unused fork-leading fork-following fork-callback fork-opening fork-resigning"),
    *endings("Python", 0, NOTHING, "fork-closing multiprocessing-fork multiprocessing-spawn"),
    *endings("Python", 0, NOTHING, "interrupted-every-ms small-stacks closed-streams few-descriptors few-threads"),
    *endings("Go", 0, NOTHING, "close-return panic-recovered goexit notified commands close-amid-statuses"),
    # By the line it knows that the rate is another than the default one.
    *endings("Go", 0, NOTHING, "profiled", "runtime: cannot set cpu profile rate until previous profile has finished.\n"),
    *endings("Go", 0, NOTHING, "few-descriptors"),
    *endings("Go", 0, LEASE, "return return-anytime exec"),
    *endings("Go", 3, LEASE, "exit exit-anytime"),
    *endings("Go", 1, LEASE, "fatal", r"[\d/]+ [\d:]+ fatal\n"),
    *endings("Go", 2, NOTHING, "panic-after-defer", GO_TRACE),
    *endings("Go", 2, LEASE, "panic panic-in-goroutine sigquit sigabrt", GO_TRACE),
    *endings("Go", KILLED, LEASE, "kill kill-anytime"),
    *endings("Go", TERMINATED, LEASE, "sigterm"),
]  # fmt: skip


class Etcd:
    """What is asked of etcd, by its JSON gateway."""

    def __init__(self, endpoint: str) -> None:
        self.address = endpoint.split("//")[1]
        self.local = threading.local()

    def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        connection = getattr(self.local, "connection", None)
        if connection is None:
            connection = self.local.connection = http.client.HTTPConnection(self.address, timeout=LIMIT_S)
        connection.request("POST", path, json.dumps(body))
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"etcd answers {answer.status} to {path}: {text!r}")
        decoded: dict[str, Any] = json.loads(text)
        return decoded

    def keys(self, prefix: str) -> list[tuple[str, int]]:
        """Keys and their leases."""
        start, end = prefix.encode(), prefix.encode()[:-1] + bytes([prefix.encode()[-1] + 1])
        body = {"key": base64.b64encode(start).decode(), "range_end": base64.b64encode(end).decode()}
        found = self.ask("/v3/kv/range", body).get("kvs", [])
        return [(base64.b64decode(one["key"]).decode(), int(one.get("lease", 0))) for one in found]

    def leases(self) -> list[int]:
        return [int(lease["ID"]) for lease in self.ask("/v3/lease/leases", {}).get("leases", [])]

    def times_of(self, lease: int) -> str:
        """For how long it was granted, and how much of that is left."""
        told = self.ask("/v3/lease/timetolive", {"ID": str(lease)})
        return f"granted for {told.get('grantedTTL', 0)} s, of which {told.get('TTL', 0)} s are left"


@dataclass
class Tally:
    """What came of an ending's runs."""

    runs: int = 0
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    answers: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class Campaign:
    def __init__(self, programs: dict[str, list[str]], etcd: Etcd, runs: int) -> None:
        self.programs, self.etcd, self.runs = programs, etcd, runs
        self.lock = threading.Lock()
        self.is_stopped = False
        self.tallies: dict[Ending, Tally] = defaultdict(Tally)
        self.done = 0

    def once(self, ending: Ending, number: int) -> None:
        """One run of one process."""
        if self.is_stopped:
            return
        environment = f"{ending.program}-{ending.name}-{number}"
        command = [*self.programs[ending.program], ending.name, environment, str(number)]
        began = time.monotonic()
        # A session of its own, so that what it leaves running is found.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "RUST_BACKTRACE": "0"},
        )
        failure = None
        try:
            output, errors = (
                text.decode(errors="replace")
                for text in process.communicate(timeout=LIMIT_S * (1 if ending.rare == 1 else 10))
            )
        except subprocess.TimeoutExpired:
            failure = f"hangs:\n{stacks(process.pid)}"
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = (text.decode(errors="replace") for text in process.communicate())
        took = time.monotonic() - began
        if failure is None and process.returncode not in ending.statuses:
            failure = f"ended with {process.returncode} instead of {' or '.join(map(str, ending.statuses))}"
        if failure is None and not re.fullmatch(ending.error, errors, re.DOTALL):
            failure = "said what it must not"
        left = self.etcd.keys(f"_ld/{environment}/")
        if failure is None and ending.leaves == NOTHING and left:
            failure = f"left {left}"
        if failure is None and any(lease == 0 for _, lease in left):
            failure = f"left a key without a lease: {left}"
        with self.lock:
            tally = self.tallies[ending]
            tally.runs += 1
            tally.slowest_s = max(tally.slowest_s, took)
            for line in output.splitlines()[:5]:
                tally.answers[re.sub(r"\d+", "N", line) if ending.rare == 1 else line] += 1
            if failure is not None:
                tally.failures.append(failure)
                if len(tally.failures) <= SHOWN:
                    said = f"{output[-2000:]}{errors[-4000:]}".rstrip()
                    print(f"FAILED: {ending.title}, run {number}, {failure}\n{said}", flush=True)

    def run(self, chosen: list[Ending], at_once: int) -> None:
        """All runs of these endings, which leave the same; then what is left is looked at."""
        jobs = [
            (ending, number) for number in range(self.runs) for ending in chosen if number < self.runs // ending.rare
        ]
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            for result in concurrent.futures.as_completed([pool.submit(self.once, *job) for job in jobs]):
                result.result()
                self.done += 1
                if self.done % 1000 == 0:
                    failed = sum(len(tally.failures) for tally in self.tallies.values())
                    print(f"{self.done} runs, {failed} failures", flush=True)

    def leftovers(self, wait_s: float) -> list[str]:
        """What is at etcd, when this time has passed or nothing is left."""
        until = time.monotonic() + wait_s
        while True:
            keys, leases = self.etcd.keys("_ld/"), self.etcd.leases()
            if not (keys or leases) or time.monotonic() > until:
                left = [f"lease {lease:x}, {self.etcd.times_of(lease)}," for lease in leases]
                return [f"key {key} with lease {lease:x}" for key, lease in keys] + left
            time.sleep(0.1)


def session_of(pid: str) -> str:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3]
    except OSError:
        return ""


def stacks(leader: int) -> str:
    """Where all threads of a session's processes are."""
    if shutil.which("gdb") is None:
        return "(no gdb to show its stacks)"
    shown = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if session_of(pid) == str(leader):
            command = ["gdb", "-p", pid, "-batch", "-ex", "thread apply all bt 25"]
            text = subprocess.run(command, check=False, capture_output=True, text=True).stdout
            shown.append(f"process {pid}\n{text[-6000:]}")
    return "\n".join(shown)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--only", default="", help="a regular expression: endings whose program and name it finds")
    parser.add_argument("--at-once", type=int, default=8)
    arguments = parser.parse_args()
    programs = {name: shlex.split(command) for name, command in (text.split("=", 1) for text in arguments.program)}
    campaign = Campaign(programs, Etcd(os.environ["ETCD_ENDPOINTS"]), arguments.runs)
    # Ended early, it tells what it has seen.
    signal.signal(signal.SIGTERM, lambda *_: setattr(campaign, "is_stopped", True))
    wanted = [one for one in ENDINGS if re.search(arguments.only, one.title)]
    chosen = [one for one in wanted if one.program in programs and one.rare <= arguments.runs]
    failed = 0
    for leaves, wait_s in ((NOTHING, 0), (LEASE, LEASE_S)):
        campaign.run([one for one in chosen if one.leaves == leaves], arguments.at_once)
        for left in campaign.leftovers(wait_s)[:20]:
            print(f"FAILED: {left} is left by endings that leave {leaves}")
            failed += 1
    for ending in chosen:
        tally = campaign.tallies[ending]
        said = "; ".join(f"{count} x {line}" for line, count in sorted(tally.answers.items())[:8])
        verdict = f"{len(tally.failures)} FAILED" if tally.failures else "ok"
        print(f"{ending.title:36} {tally.runs:5} runs, slowest {tally.slowest_s:5.2f} s, {verdict}  {said}")
    passed = sum(not campaign.tallies[one].failures for one in chosen)
    failed += len(chosen) - passed
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
