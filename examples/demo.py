#!/usr/bin/env python3
"""An election from start to end: three workers and a stranger on an etcd.

The workers may be of any language: what they take and print is told in examples/c/worker.c. Each leader resigns, each
is killed, one is frozen, and all give way to a candidate of another make (etcdctl). In the end the demo adds up what
every process believed while it ran: at no instant may two have led.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from typing import Callable, NamedTuple, TypeVar

TTL_S = 2
SERVICE, ELECTION = "demo", "billing"
KEYS = f"_ld/{SERVICE}/{ELECTION}"
STRANGER = "etcdctl"
MS, SECOND = 1_000_000, 1_000_000_000
T = TypeVar("T")
C = TypeVar("C", bound="Child")


class Failed(Exception):
    """The demo didn't show what it is to show."""


class Claim(NamedTuple):
    """From start to end, both included, `who` believed to lead; nanoseconds on CLOCK_BOOTTIME."""

    who: str
    token: int
    start_ns: int
    end_ns: int


class Term(NamedTuple):
    """Somebody was elected."""

    who: str
    token: int
    time_ns: int


class Row(NamedTuple):
    """A term in the table of all terms."""

    term: Term
    claim: Claim
    ended_by: str


def overlap_ns(claims: Iterable[Claim]) -> int:
    """For how long more than one was leading. The ends of a claim belong to it, so the shortest overlap is 1 ns."""
    total, covered_to, counted_to = 0, None, None
    for claim in sorted(claims, key=lambda claim: claim.start_ns):
        if covered_to is not None:
            start = claim.start_ns if counted_to is None else max(claim.start_ns, counted_to + 1)
            end = min(claim.end_ns, covered_to)
            if end >= start:
                total += end - start + 1
                counted_to = end
        covered_to = claim.end_ns if covered_to is None else max(covered_to, claim.end_ns)
    return total


def problems(terms: list[Term], claims: list[Claim]) -> list[str]:
    """What is wrong with the terms that were announced, given what everybody believed; nothing, if all is well."""
    found = []
    for term in terms:
        if not any((claim.who, claim.token) == (term.who, term.token) for claim in claims):
            found.append(f"{term.who} was elected with token {term.token} but never led")
    for claim in claims:
        if claim.end_ns < claim.start_ns:
            found.append(f"the claim of {claim.who} with token {claim.token} ends before it starts")
        if not any((claim.who, claim.token) == (term.who, term.token) for term in terms):
            found.append(f"{claim.who} led with token {claim.token} but was never elected")
    in_order = sorted(claims, key=lambda claim: claim.start_ns)
    for former, latter in zip(in_order, in_order[1:]):
        if latter.token <= former.token:
            found.append(f"token {latter.token} of {latter.who} follows token {former.token} of {former.who}")
    return found


def verdict(terms: list[Term], claims: list[Claim], hand_over_ms: float, take_over_s: float) -> tuple[str, int]:
    """The last line, and the exit status."""
    overlap = overlap_ns(claims)
    wrong = problems(terms, claims)
    if not terms:
        wrong.insert(0, "nobody ever led")
    if overlap:
        wrong.insert(0, f"overlap {overlap / MS:.6f} ms")
    if wrong:
        return f"demo: failed: {'; '.join(wrong)}", 1
    return (
        f"demo: ok, {len(terms)} leaders, hand-over {hand_over_ms:.2f} ms, "
        f"take-over after kill {take_over_s:.2f} s, overlap 0 ms"
    ), 0


def table(rows: list[Row], start_ns: int) -> list[str]:
    """The terms in their order, each with the time until its successor was elected."""
    cells = [("at", "leader", "token", "led for", "until it", "next after")]
    for row, successor in zip(rows, [*rows[1:], None]):
        gap = duration(successor.term.time_ns - row.claim.end_ns) if successor else ""
        led = duration(row.claim.end_ns - row.claim.start_ns)
        at = f"{(row.term.time_ns - start_ns) / SECOND:.2f} s"
        cells.append((at, row.term.who, str(row.term.token), led, row.ended_by, gap))
    widths = [max(len(cell) for cell in column) for column in zip(*cells)]
    to_the_left = (False, True, False, False, True, False)
    return [
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width) for cell, width, left in zip(line, widths, to_the_left)
        ).rstrip()
        for line in cells
    ]


def duration(ns: int) -> str:
    return f"{ns / SECOND:.2f} s " if ns >= SECOND else f"{ns / MS:.2f} ms"


def now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def tell(text: str) -> None:
    print(text, flush=True)


class News:
    """Lets the demo wait for what the threads that read its children hear."""

    def __init__(self) -> None:
        self.changed = threading.Condition()

    def wait(self, look: Callable[[], T | None], what: str, within_s: float = 10) -> T:
        """What `look` finds, as soon as it finds something."""
        until = time.monotonic() + within_s
        with self.changed:
            while True:
                found = look()
                if found is not None:
                    return found
                left = until - time.monotonic()
                if left <= 0:
                    raise Failed(f"{what}: not within {within_s:g} s")
                self.changed.wait(left)


class Child:
    """A process that ends with the demo, and the lines that it prints."""

    def __init__(self, news: News, who: str, command: list[str]) -> None:
        self.news, self.who = news, who
        self.lines: list[tuple[int, str]] = []
        self.ended = False
        # A session of its own: Ctrl-C is the demo's to deal with. setpriv: should the demo be killed, so is this.
        command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            time_ns = now_ns()
            with self.news.changed:
                self.heard(time_ns, line.rstrip("\n"))
                self.news.changed.notify_all()
        with self.news.changed:
            self.ended = True
            self.news.changed.notify_all()

    def heard(self, time_ns: int, line: str) -> None:
        self.lines.append((time_ns, line))

    def end(self, signal_number: int, within_s: float = 10) -> int:
        """Sends a signal and waits for the end; the exit status."""
        self.process.send_signal(signal_number)
        try:
            status: int = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.who} does not end within {within_s:g} s of signal {signal_number}") from None
        self.news.wait(lambda: self.ended or None, f"the end of what {self.who} prints")
        return status

    def kill(self) -> None:
        """The end, whatever state it is in."""
        self.process.kill()
        self.process.wait()


def first_line_ns(child: Child) -> int | None:
    """When it said something for the first time."""
    if child.lines:
        return child.lines[0][0]
    if child.ended:
        raise Failed(f"{child.who} ended by itself, with status {child.process.wait()}")
    return None


def parsed(line: str) -> dict[str, str]:
    """A line of a worker: its first word as `kind`, then KEY=VALUE."""
    kind, _, rest = line.partition(" ")
    said = {"kind": kind}
    while rest:
        key, _, rest = rest.partition("=")
        # The last one on the line is the only one that may hold spaces.
        value, _, rest = (rest, "", "") if key in ("message", "value") else rest.partition(" ")
        said[key] = value
    return said


class Worker(Child):
    """A process of one of the example workers."""

    def __init__(self, demo: Demo, who: str, number: int) -> None:
        self.demo = demo
        self.said: list[dict[str, str]] = []
        self.claims_path = os.path.join(demo.folder, f"claims-{number}-{who}")
        command = [*demo.commands[who], "--endpoints", demo.endpoint, "--service", SERVICE]
        command += ["--election", ELECTION, "--value", who, "--ttl", f"{TTL_S}s", "--claims", self.claims_path]
        super().__init__(demo.news, who, command)

    def heard(self, time_ns: int, line: str) -> None:
        said = parsed(line)
        self.said.append(said)
        token = int(said.get("token", 0))
        is_elected = said["kind"] == "event" and said["state"] == "LEADER"
        if is_elected and not any(term.token == token for term in self.demo.terms):
            self.demo.terms.append(Term(self.who, token, int(said["time_ns"])))

    def order(self, command: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"{self.who} ended by itself, with status {self.process.wait()}") from None

    def answer(self, command: str) -> dict[str, str]:
        """Gives a command and waits for the line that begins with the same word."""
        start = len(self.said)
        self.order(command)
        return self.wait_for(start, command)

    def wait_for(self, start: int, kind: str, **fields: str) -> dict[str, str]:
        """A line of this kind, with these fields, after the first `start` lines."""

        def look() -> dict[str, str] | None:
            for said in self.said[start:]:
                if said["kind"] == kind and fields.items() <= said.items():
                    return said
            self.check_alive()
            return None

        return self.news.wait(look, f"{self.who} says {kind}")

    def check_alive(self) -> None:
        if self.ended:
            raise Failed(f"{self.who} ended by itself, with status {self.process.wait()}")

    def is_closed(self) -> bool | None:
        """Whether its latest campaign is over."""
        self.check_alive()
        states = [said["state"] for said in self.said if said["kind"] == "event"]
        return states[-1] == "CLOSED" or None

    def claims(self) -> list[Claim]:
        """What it was told by its own asking. To be read when it has ended."""
        with open(self.claims_path) as lines:
            rows = [line.split() for line in lines]
        return [Claim(self.who, int(token), int(start), int(end)) for start, end, token in rows]


class Demo:
    """The stage and the acts."""

    def __init__(self, endpoint: str, commands: dict[str, list[str]], etcdctl_program: str, folder: str) -> None:
        self.endpoint, self.folder = endpoint, folder
        self.commands, self.etcdctl_program = commands, etcdctl_program
        self.news = News()
        self.children: list[Child] = []
        self.terms: list[Term] = []
        self.ends: dict[int, str] = {}
        self.started = 0
        self.started_ns = now_ns()
        self.workers: dict[str, Worker] = {}
        self.stranger_claims: list[Claim] = []

    def run(self) -> tuple[str, int]:
        self.open_the_stage()
        hand_overs = [self.resign() for _ in self.commands]
        take_overs = [self.kill_the_leader() for _ in self.commands]
        self.freeze_the_leader()
        self.let_a_stranger_in()
        claims = self.end_all()
        line, status = verdict(self.terms, claims, statistics.median(hand_overs) / MS, max(take_overs))
        if status == 0:
            self.show(claims)
        return line, status

    def show(self, claims: list[Claim]) -> None:
        """All terms at a glance."""
        of_token = {claim.token: claim for claim in claims}
        rows = [Row(term, of_token[term.token], self.ends[term.token]) for term in self.terms]
        tell("\n" + "\n".join(table(rows, self.started_ns)) + "\n")

    # The acts.

    def open_the_stage(self) -> None:
        version = subprocess.run(self.etcdctl("version"), capture_output=True, text=True, check=True).stdout
        tell(f"etcd at {self.endpoint}, {version.splitlines()[0]}")
        for place, who in enumerate(self.commands, start=1):
            self.start(who)
            self.wait_for_queue(place)
        leader = self.next_leader(0)
        tell(f"{', '.join(self.commands)} stand for election (ttl {TTL_S} s)")
        tell(f"  {leader.who} leads with token {leader.token}")

    def resign(self) -> int:
        """The leader resigns and joins the queue's end again; how long the hand-over took, in ns."""
        former, heir = self.queue()[:2]
        said, leader = self.hand_over(former, heir)
        took_ns = leader.time_ns - int(said["start_ns"])
        tell(f"{former} resigns\n  {leader.who} leads with token {leader.token} after {took_ns / MS:.2f} ms")
        self.stand_again(former)
        return took_ns

    def hand_over(self, former: str, heir: str) -> tuple[dict[str, str], Term]:
        """The leader resigns, and a worker follows it."""
        count = len(self.terms)
        self.ends_by("resigned")
        said = self.obeyed(former, "resign")
        return said, self.next_leader(count, heir)

    def kill_the_leader(self) -> float:
        former, heir = self.queue()[:2]
        count, killed_ns = len(self.terms), now_ns()
        self.ends_by("was killed (kill -9)")
        self.workers[former].end(signal.SIGKILL)
        tell(f"{former} is killed with kill -9")
        leader = self.next_leader(count, heir)
        took_s = (leader.time_ns - killed_ns) / SECOND
        tell(f"  {leader.who} leads with token {leader.token} after {took_s:.2f} s")
        self.start(former)
        self.wait_for_queue(len(self.commands))
        tell(f"  {former} is back, at the end of the queue")
        return took_s

    def freeze_the_leader(self) -> None:
        """A leader that is stopped for longer than its ttl must find that it leads no more, whatever it last knew."""
        former, heir = self.queue()[:2]
        frozen, count, frozen_ns = self.workers[former], len(self.terms), now_ns()
        said = len(frozen.said)
        self.ends_by("was frozen (kill -STOP)")
        frozen.process.send_signal(signal.SIGSTOP)
        tell(f"{former} is frozen with kill -STOP")
        leader = self.next_leader(count, heir)
        tell(f"  {leader.who} leads with token {leader.token} after {(leader.time_ns - frozen_ns) / SECOND:.2f} s")
        frozen.process.send_signal(signal.SIGCONT)
        lost = frozen.wait_for(said, "event", state="ERROR")
        self.wait_for_queue(len(self.commands))
        tell(f"  {former} wakes up, finds out ({lost['reason']}), and joins again")

    def let_a_stranger_in(self) -> None:
        """A candidate of Go's concurrency package waits for its turn, leads, and gives way, like everybody else."""
        stranger = self.keep(Child(self.news, STRANGER, self.etcdctl("elect", KEYS, STRANGER)))
        self.wait_for_queue(len(self.commands) + 1)
        tell(f"a stranger, `{STRANGER} elect`, joins the queue: {', '.join(self.queue())}")
        while (queue := self.queue())[1] != STRANGER:
            former, heir = queue[:2]
            _, leader = self.hand_over(former, heir)
            tell(f"  {former} resigns, {leader.who} leads with token {leader.token}")
            self.stand_again(former)
        former = queue[0]
        self.ends_by("resigned")
        self.obeyed(former, "resign")
        # It prints its key and value when, by its own lights, it leads.
        elected_ns = self.news.wait(lambda: first_line_ns(stranger), f"{STRANGER} leads")
        token = self.candidates()[0][1]
        self.terms.append(Term(STRANGER, token, elected_ns))
        tell(f"  {former} resigns, {STRANGER} leads with token {token}")
        self.stand_again(former)
        heir, count, end_ns = self.queue()[1], len(self.terms), now_ns()
        self.ends_by("was told to go (SIGINT)")
        status = stranger.end(signal.SIGINT)
        self.stranger_claims.append(Claim(STRANGER, token, elected_ns, end_ns))
        if status != 0:
            raise Failed(f"{STRANGER} ended with status {status}")
        leader = self.next_leader(count, heir)
        took_ms = (leader.time_ns - end_ns) / MS
        tell(f"  {STRANGER} is told to go, {leader.who} leads with token {leader.token} after {took_ms:.2f} ms")

    def end_all(self) -> list[Claim]:
        """Ends the workers, the leader last, and looks what they believed."""
        self.ends_by("was told to go (SIGTERM)")
        for who in reversed(self.queue()):
            status = self.workers[who].end(signal.SIGTERM)
            if status != 0:
                raise Failed(f"{who} ended with status {status}")
        left = subprocess.run(
            self.etcdctl("get", "--prefix", "--keys-only", KEYS + "/"),
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.split()
        if left:
            raise Failed(f"keys were left behind: {', '.join(left)}")
        tell("all resign and leave nothing behind")
        claims = [claim for child in self.children if isinstance(child, Worker) for claim in child.claims()]
        return claims + self.stranger_claims

    # What they are made of.

    def keep(self, child: C) -> C:
        self.children.append(child)
        return child

    def etcdctl(self, *arguments: str) -> list[str]:
        return [self.etcdctl_program, "--endpoints", self.endpoint, *arguments]

    def start(self, who: str) -> None:
        self.started += 1
        self.workers[who] = self.keep(Worker(self, who, self.started))

    def ends_by(self, what: str) -> None:
        """Notes why the latest term ends."""
        self.ends[self.terms[-1].token] = what

    def stand_again(self, who: str) -> None:
        """Back into the queue after resigning, at its end."""
        worker, count = self.workers[who], len(self.queue())
        self.news.wait(worker.is_closed, f"{who} is out of the election")
        self.obeyed(who, "campaign")
        self.wait_for_queue(count + 1)

    def obeyed(self, who: str, command: str) -> dict[str, str]:
        """A worker's answer to a command, which must be OK."""
        said = self.workers[who].answer(command)
        if said["code"] != "OK":
            raise Failed(f"{who}: {command}: {said['code']}")
        return said

    def candidates(self) -> list[tuple[str, int]]:
        """Who stands in etcd, with their tokens, as a worker reads it."""
        alive = [who for who, worker in self.workers.items() if not worker.ended]
        if not alive:
            raise Failed(f"all workers ended by themselves: {', '.join(self.workers)}")
        who, worker = alive[0], self.workers[alive[0]]
        start = len(worker.said)
        self.obeyed(who, "candidates")
        with self.news.changed:
            rows = [said for said in worker.said[start:] if said["kind"] == "candidate"]
        return [(row["value"], int(row["token"])) for row in rows]

    def queue(self) -> list[str]:
        return [who for who, _ in self.candidates()]

    def wait_for_queue(self, length: int) -> None:
        until = time.monotonic() + 10
        while len(self.queue()) != length:
            if time.monotonic() > until:
                raise Failed(f"{length} candidates expected, there are {', '.join(self.queue()) or 'none'}")
            time.sleep(0.02)

    def next_leader(self, count: int, heir: str | None = None) -> Term:
        """The term after the first `count`; it must be the heir's."""
        within_s = TTL_S + 8

        def look() -> Term | None:
            return self.terms[count] if len(self.terms) > count else None

        leader = self.news.wait(look, "a leader is missing", within_s)
        if heir and leader.who != heir:
            raise Failed(f"{leader.who} leads, but {heir} was next")
        if leader.who in self.workers:
            # It acts, too: on a busy machine a term might be over before its work has noticed it.
            self.workers[leader.who].wait_for(0, "claim", token=str(leader.token))
        return leader

    def kill_all(self) -> None:
        for child in reversed(self.children):
            child.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--worker", required=True, action="append", metavar="NAME=COMMAND", help="one of the workers")
    parser.add_argument("--etcdctl", default="etcdctl", help="etcd's own client, as the candidate of another make")
    parser.add_argument("--endpoint", default=os.environ.get("ETCD_ENDPOINTS"), help="an etcd to run on, http://…")
    arguments = parser.parse_args()
    if not arguments.endpoint:
        parser.error("set --endpoint, or the variable ETCD_ENDPOINTS")
    commands = {name: shlex.split(command) for name, _, command in (w.partition("=") for w in arguments.worker)}
    if len(commands) < 2 or not all(commands.values()):
        parser.error("set --worker NAME=COMMAND at least twice, with different names")
    etcdctl = shutil.which(arguments.etcdctl)
    if not etcdctl:
        parser.error(f"no program {arguments.etcdctl}")
    ends: list[int] = []

    def end(number: int, _: object) -> None:
        ends.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)

    folder = tempfile.mkdtemp(prefix="tenure-demo-")
    demo = Demo(arguments.endpoint, commands, etcdctl, folder)
    try:
        line, status = demo.run()
    except (Failed, OSError, subprocess.SubprocessError) as failure:
        line, status = f"demo: failed: {failure}", 1
    except (KeyboardInterrupt, RuntimeError):
        # In the middle of a wait, threading makes a RuntimeError of it: the lock is free at that moment.
        if not ends:
            raise
        line, status = "demo: failed: interrupted", 128 + ends[0]
    finally:
        demo.kill_all()
        shutil.rmtree(folder, ignore_errors=True)
    tell(line)
    return status


if __name__ == "__main__":
    sys.exit(main())
