#!/usr/bin/env python3
"""Measures Tenure beside etcd's Go package, the server's election RPC and bare requests: `make bench`.

Every program that is measured runs by itself, does one thing when told to, and answers how long it took; so each round can
do one thing with all of them in turn, and a noisy second hurts all alike. Medians are compared, and only within one run.
Whatever makes a measurement worthless ends this program: an error, an election without a leader, two of them.

    bench.py FOLDER    FOLDER: for results.json and chart.svg; the programs are found by the variables in PROGRAMS
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Callable

import chart
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

ENDPOINTS = os.environ.get("ETCD_ENDPOINTS", "")
# How each program is started; PROGRAM_BARE and so on are set by the Makefile.
PROGRAMS = {
    "tenure": "PROGRAM_TENURE",
    "go": "PROGRAM_GO",
    "v3election": "PROGRAM_V3ELECTION",
    "bare": "PROGRAM_BARE",
    "bare_go": "PROGRAM_BARE_GO",
    "event_to_go": "PROGRAM_EVENTS_GO",
    "event_to_python": "PROGRAM_EVENTS_PYTHON",
}
# Where the elections of a program are, up to the number of one.
SHARDS = {"tenure": "_ld/bench/shard-", "go": "_peer/shard-"}
# Values are kept in ns and bytes; what a reader sees is divided by this.
UNITS = {
    "ms": 1e6,
    "us": 1e3,
    "ns": 1.0,
    "s": 1e9,
    "MB": 1e6,
    "bytes": 1.0,
    "threads": 1.0,
    "%": 1.0,
    "elections/s": 1.0,
}


class Invalid(Exception):
    """A measurement that is worth nothing."""


class Program:
    """One program that is measured."""

    def __init__(self, name: str) -> None:
        self.name = name
        command = [*os.environ[PROGRAMS[name]].split(), ENDPOINTS]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def begin(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def end(self) -> list[int]:
        assert self.process.stdout is not None
        words = self.process.stdout.readline().split()
        if not words or words[0] != "ok":
            raise Invalid(f"{self.name}: {' '.join(words) or f'ended with {self.process.wait()}'}")
        return [int(word) for word in words[1:]]

    def ask(self, command: str) -> list[int]:
        self.begin(command)
        return self.end()

    def resident_in_use(self) -> int:
        """Bytes of a program that has stood in an election: with what the first one needs, once for all."""
        self.ask("join 1")
        self.ask("resign")
        return self.ask("status")[0]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def running(*names: str) -> Iterator[list[Program]]:
    programs: list[Program] = []
    try:
        for name in names:
            programs.append(Program(name))
        yield programs
    finally:
        for program in programs:
            program.kill()


class Bench:
    """What was measured: by name and by who did it."""

    def __init__(self, options: argparse.Namespace, tell: Callable[[str, float], None]) -> None:
        self.rounds, self.elections, self.library = options.rounds, options.elections, options.library
        self.tell = tell
        self.samples: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.units: dict[str, str] = {}

    def note(self, name: str, unit: str, who: str, *values: float) -> None:
        self.units[name] = unit
        self.samples[name][who] += values

    def steps(self, what: str, count: int) -> Iterator[int]:
        for step in range(count):
            self.tell(what, step / count)
            yield step

    # Each of these is a phase with programs of its own.

    def latencies(self) -> None:
        warm_up = max(3, self.rounds // 10)
        with running("tenure", "go", "v3election", "bare", "bare_go") as programs:
            tenure, bare = programs[0], programs[3:]
            for step in self.steps("campaign, resign, hand-over", self.rounds + warm_up):
                seen: dict[tuple[str, str], int] = {}
                for program in random.sample(programs, len(programs)):
                    if program in bare:
                        seen["campaign_uncontended", program.name], seen["resign", program.name] = program.ask("txn")
                    else:
                        campaign, resign = program.ask("campaign")
                        seen["campaign_uncontended", program.name], seen["resign", program.name] = campaign, resign
                    seen["handover_10ms", program.name] = program.ask("handover 10")[0]
                if step < warm_up:
                    continue
                for (name, who), value in seen.items():
                    self.note(name, "ms", who, value)
                calls, readings = tenure.ask("is_leader")
                self.note("is_leader", "ns", "tenure", calls / 1000)
                self.note("is_leader", "ns", "limit", readings / 1000)
            for _ in self.steps("hand-over after 250 ms", max(3, self.rounds // 5)):
                for program in random.sample(programs, len(programs)):
                    self.note("handover_250ms", "ms", program.name, program.ask("handover 250")[0])

    def busy(self) -> None:
        rate = 2000
        with running("tenure", "go", "v3election", "bare", "bare_go", "bare_go") as programs:
            *programs, writer = programs
            writer.ask(f"busy {rate}")
            start = time.monotonic()
            for _ in self.steps("hand-over on a busy store", max(3, self.rounds // 3)):
                for program in random.sample(programs, len(programs)):
                    self.note("handover_busy", "ms", program.name, program.ask("handover 10")[0])
            puts = writer.ask("busy 0")[0] / (time.monotonic() - start)
            if puts < 0.8 * rate:
                print(
                    f"the store took {puts:.0f} puts a second instead of {rate}: it was busier than that",
                    file=sys.stderr,
                )

    def chain(self) -> None:
        with running("tenure", "go", "bare", "bare_go") as programs:
            for _ in self.steps("chain of 100 hand-overs", 5):
                for program in random.sample(programs, len(programs)):
                    if program.name.startswith("bare"):
                        times = [program.ask("handover 10")[0] for _ in range(20)]
                        self.note("chain_100", "ms", program.name, sorted(times)[len(times) // 2])
                    else:
                        self.note("chain_100", "ms", program.name, program.ask("chain 101")[0])

    def take_overs(self) -> None:
        for ttl in (2, 5):
            with running("tenure", "go") as followers:
                for _ in self.steps(f"take-over after kill -9, TTL {ttl} s", 5):
                    with running("tenure", "go") as leaders:
                        for leader in leaders:
                            leader.ask(f"lead {ttl}s" if leader.name == "tenure" else f"lead {ttl}")
                        for follower in followers:
                            follower.begin("stand")
                        # Somewhere between two renewals.
                        time.sleep(1 + random.random() * ttl / 3)
                        killed = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
                        for leader in leaders:
                            leader.kill()
                        for follower in followers:
                            self.note(f"crash_failover_ttl{ttl}", "s", follower.name, follower.end()[0] - killed)

    def many(self) -> None:
        count = self.elections
        name = f"join_{count}", f"resign_{count}"
        with running("tenure", "go", "bare", "bare_go", "bare_go") as programs:
            *programs, counter = programs
            for _ in self.steps(f"{count} elections", 5):
                for program in random.sample(programs, len(programs)):
                    joined = program.ask(f"join {count}")[0]
                    where = SHARDS.get(program.name, "_bare/shard-")
                    if (keys := counter.ask(f"keys {where}")[0]) != count:
                        raise Invalid(f"{program.name} leads {count} elections with {keys} keys")
                    resigned = program.ask("resign")[0]
                    if counter.ask(f"keys {where}")[0] != 0:
                        raise Invalid(f"{program.name} has resigned and left keys")
                    self.note(name[0], "elections/s", program.name, count / (joined / 1e9))
                    self.note(name[1], "elections/s", program.name, count / (resigned / 1e9))

    def memory(self) -> None:
        count, idle_s = self.elections, 30
        for name in ("tenure", "go"):
            with running(name, name, "bare_go") as (leader, follower, counter):
                before = [program.resident_in_use() for program in (leader, follower)]
                self.tell(f"memory of {count} elections, {name}", 0)
                leader.ask(f"join {count}")
                self.note("memory_per_election_leader", "bytes", name, (leader.ask("status")[0] - before[0]) / count)
                used = leader.ask("status")[2]
                self.tell(f"{count} idle elections, {name}", 0.2)
                time.sleep(idle_s)
                used = leader.ask("status")[2] - used
                self.note(f"idle_cpu_{count}", "%", name, used / (idle_s * 1e9) * 100)
                follower.ask(f"follow {count}")
                self.wait_keys(counter, SHARDS[name], 2 * count)
                self.note(
                    "memory_per_election_follower", "bytes", name, (follower.ask("status")[0] - before[1]) / count
                )

    @staticmethod
    def wait_keys(counter: Program, where: str, count: int) -> None:
        for _ in range(600):
            if counter.ask(f"keys {where}")[0] == count:
                return
            time.sleep(0.1)
        raise Invalid(f"{where}: there are not {count} keys after a minute")

    def mass_failover(self) -> None:
        count = max(1, self.elections // 5)
        for _ in self.steps(f"mass failover of {count} elections", 5):
            for name in ("tenure", "go"):
                with running(name, name, "bare_go") as (leader, follower, admin):
                    leader.ask(f"join {count}")
                    follower.ask(f"follow {count}")
                    self.wait_keys(admin, SHARDS[name], 2 * count)
                    time.sleep(0.3)
                    start = admin.ask(f"revoke {SHARDS[name]}")[0]
                    self.note(f"mass_failover_{count}", "ms", name, follower.ask(f"elected {count}")[0] - start)
                    follower.ask("resign")

    def events(self) -> None:
        with running("tenure", "event_to_go", "event_to_python") as programs:
            for _ in self.steps("events", 20):
                for program in random.sample(programs, len(programs)):
                    name = "event_to_c" if program.name == "tenure" else program.name
                    self.note(name, "us", "tenure", *program.ask(f"events {max(1, self.rounds // 3)}"))

    def footprint(self) -> None:
        self.note("library_size", "MB", "tenure", self.library.stat().st_size)
        for name in ("tenure", "go"):
            with running(name) as (program,):
                program.ask("lead 60s" if name == "tenure" else "lead 60")
                resident, threads, _ = program.ask("status")
                self.note("rss_connected", "MB", name, resident)
                self.note("threads", "threads", name, threads)

    def results(self) -> list[dict[str, object]]:
        rows = []
        for name, by_who in self.samples.items():
            unit = self.units[name]
            higher = unit == "elections/s"
            row: dict[str, object] = {"name": name, "unit": unit, "better": "higher" if higher else "lower"}
            found = {who: summary(values, UNITS[unit], higher) for who, values in by_who.items()}
            bare = [found.pop(who) for who in ("bare", "bare_go") if who in found]
            if bare:
                found["limit"] = (max if higher else min)(bare, key=lambda value: value["p50"])
            rows.append({**row, **found})
        return rows


def summary(values: list[float], scale: float, higher: bool) -> dict[str, float]:
    """p99 is the bad end: of rates the low one."""
    ordered = sorted(values, reverse=higher)
    middle, end = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {"p50": round(middle / scale, 4), "p99": round(end / scale, 4), "n": len(ordered)}


def table(rows: list[dict[str, object]]) -> Table:
    whole = Table(title="p50 (p99)", box=None)
    for column in ("", "unit", "tenure", "go", "v3election", "limit", "tenure / limit", "tenure / go"):
        whole.add_column(column, justify="left" if column in ("", "unit") else "right")
    for row in rows:
        values = {who: value for who, value in row.items() if isinstance(value, dict)}
        cells = [f"{values[who]['p50']:.5g} ({values[who]['p99']:.5g})" if who in values else "" for who in chart.WHO]
        ratios = []
        for other in ("limit", "go"):
            known = other in values and "tenure" in values and values[other]["p50"]
            ratios.append(f"{values['tenure']['p50'] / values[other]['p50']:.2f}" if known else "")
        whole.add_row(str(row["name"]), str(row["unit"]), *cells, *ratios)
    return whole


def main() -> int:
    parser = argparse.ArgumentParser(description="see the head of this file")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--library", type=pathlib.Path, required=True, help="the library that is measured")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--elections", type=int, default=10_000)
    parser.add_argument("--only", default="", help="phases with this text in the name")
    chosen = parser.parse_args()
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:40}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=1.0)
        told = ""
        phase = (0, 1)

        def tell(what: str, share: float) -> None:
            nonlocal told
            progress.update(task, description=what, completed=(phase[0] + share) / phase[1])
            if not console.is_terminal and what != told:
                print(what, file=sys.stderr, flush=True)
            told = what

        bench = Bench(chosen, tell)
        phases: list[Callable[[], None]] = [
            bench.latencies, bench.busy, bench.chain, bench.take_overs, bench.many, bench.memory, bench.mass_failover,
            bench.events, bench.footprint,
        ]  # fmt: skip
        wanted = [run for run in phases if chosen.only in run.__name__]
        try:
            for done, run in enumerate(wanted):
                phase = (done, len(wanted))
                run()
        except Invalid as invalid:
            console.print(f"[red]invalid:[/] {invalid}")
            return 1
        progress.update(task, description="done", completed=1.0)
    rows = bench.results()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    (chosen.folder / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    chart.draw(rows, chosen.folder / "chart.svg")
    Console(width=160).print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
