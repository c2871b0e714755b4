#!/usr/bin/env python3
"""Elections under random faults for hours: workers in three languages and a rival of another make on three members.

Faults come one after the other, each followed by a wait until all is well and by a check of all invariants. A line a
minute tells how it goes; the end is a table and a line `N passed, N failed`, an invariant being one of them. SIGTERM
brings the end now. The same seed gives the same faults in the same order, though not the same timing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import resource
import shutil
import signal
import statistics
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for place in ("examples", "tests/tools"):
    sys.path.insert(0, str(ROOT / place))

from faults import FAULTS
from ledger import (
    COVER,
    DRIFT,
    ENDING,
    EXITS,
    INVARIANTS,
    LIVENESS,
    STALL_S,
    Drift,
    Ledger,
    Sample,
    sample,
)
from members import Cluster, EtcdError, now_ns
from stage import Stage
from workers import Failed

MS = 1_000_000
# A run that is shorter is a trial: its first samples are of processes that have just started, and not every fault comes.
LONG_S = 1800


class Soak:
    def __init__(self, stage: Stage, length_s: float) -> None:
        self.stage, self.length_s, self.asked_s = stage, length_s, length_s
        self.samples: dict[int, list[Sample]] = {}
        self.start = time.monotonic()

    @property
    def ledger(self) -> Ledger:
        return self.stage.ledger

    def stop(self) -> None:
        """Comes to the end of the run now, as if its time were over."""
        say("told to end")
        self.length_s = min(self.length_s, time.monotonic() - self.start)

    @property
    def is_long(self) -> bool:
        return self.asked_s >= LONG_S

    async def run(self) -> None:
        helpers = [asyncio.ensure_future(helper()) for helper in (self._watch_stalls, self._sample, self._report)]
        try:
            await self.stage.open()
            check_copies(self.stage)
            say(
                f"{len(self.stage.workers)} workers and {len(self.stage.peers)} rival stand in {len(self.stage.elections)}"
            )
            await self._faults()
            await self.stage.end()
            left = await self.stage.left_behind()
            if left:
                self.ledger.fail(ENDING, f"left behind: {', '.join(left)}")
        except (Failed, EtcdError) as failure:
            self.ledger.fail(LIVENESS, f"the soak can't go on: {failure}")
        finally:
            for helper in helpers:
                helper.cancel()
            results = await asyncio.gather(*helpers, return_exceptions=True)
            await self.stage.close()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _faults(self) -> None:
        """Every kind once, in any order; and again, until the time is over."""
        bag: list[str] = []
        within_s = 3 * self.stage.ttl_s + 12
        while self._left_s() > 0:
            if not bag:
                bag = list(FAULTS)
                self.stage.random.shuffle(bag)
            kind = bag.pop()
            self.ledger.something_happens()
            start = time.monotonic()
            what = await FAULTS[kind](self.stage)
            took_s = time.monotonic() - start
            well_s = await self.stage.well(within_s)
            self.ledger.faults[kind] += 1
            self.ledger.recoveries_s.append(well_s)
            self.ledger.all_is_well(now_ns())
            say(f"{kind}: {what}; took {took_s:.1f} s, all well after {well_s:.1f} s")
            await self.stage.check()
            await asyncio.sleep(min(self._rest_s(), max(0.0, self._left_s())))
        self.ledger.something_happens()

    def _rest_s(self) -> float:
        """How long nothing is to happen: mostly short, and now and then so long that a loss can't be the last fault's."""
        if self.stage.random.random() < 0.25:
            return self.stage.ttl_s + self.stage.random.uniform(1.0, 6.0)
        return self.stage.random.uniform(1.0, 4.0) if self.is_long else self.stage.random.uniform(0.0, 0.3)

    def _left_s(self) -> float:
        return self.start + self.length_s - time.monotonic()

    async def _watch_stalls(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.05)
            if time.monotonic() - before > STALL_S:
                self.ledger.stalled_ns = now_ns()
                self.ledger.stalls += 1

    async def _sample(self) -> None:
        """While all is well: what lives through the whole run."""
        while True:
            await asyncio.sleep(5 if self.is_long else 0.5)
            if self.ledger.is_quiet:
                for worker in self.stage.immortal:
                    with contextlib.suppress(OSError):  # It ends just now.
                        self.samples.setdefault(worker.pid, []).append(sample(worker.pid))

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(60)
            say(self.line())

    def line(self) -> str:
        ledger = self.ledger
        processes = []
        for worker in self.stage.immortal:
            if samples := self.samples.get(worker.pid):
                last = samples[-1]
                processes.append(f"{worker.name} {last.rss_kib} KiB/{last.threads} thr/{last.descriptors} fd")
        parts = [
            f"MINUTE {(time.monotonic() - self.start) / 60:.0f}",
            f"faults {sum(ledger.faults.values())}: {counts(ledger.faults)}",
            f"terms {sum(ledger.terms.values())}",
            f"hand-overs {len(ledger.hand_overs_ns)}",
            f"take-overs {len(ledger.take_overs_ns)}",
            f"losses {counts(ledger.losses)}",
            f"without a leader and a fault at most {ledger.longest_gap_ns / MS:.0f} ms",
            f"errors {counts(ledger.complaints)}",
            f"stalls of this machine {ledger.stalls}",
            f"processes {', '.join(processes)}",
            f"failures {sum(len(found) for found in ledger.failures.values())}",
        ]
        return "; ".join(parts)

    def verdict(self) -> list[Drift]:
        """The checks that come last."""
        ledger = self.ledger
        drifts = [
            Drift(worker.name, worker.kind, self.samples[worker.pid])
            for worker in self.stage.immortal
            if self.samples.get(worker.pid)
        ]
        if len(drifts) != len(self.stage.commands):
            ledger.fail(DRIFT, "not all workers that were never to be killed have lived to the end")
        for drift in drifts:
            for excess in drift.excess:
                ledger.fail(DRIFT, excess)
        idle = [worker.name for worker in self.stage.immortal if worker.name not in ledger.leaders()]
        missing = [kind for kind in FAULTS if not ledger.faults[kind]]
        if self.is_long and (idle or missing):
            ledger.fail(
                COVER, f"never led: {', '.join(idle) or 'none'}; never happened: {', '.join(missing) or 'none'}"
            )
        elif not ledger.faults or not ledger.claims:
            ledger.fail(COVER, "nothing happened at all")
        return drifts


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def counts(counter: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"


def times(values_ns: list[int]) -> str:
    if not values_ns:
        return "none"
    middle, most = statistics.median(values_ns), max(values_ns)
    return f"{len(values_ns)}, median {middle / MS:.1f} ms, longest {most / MS:.1f} ms"


def table(soak: Soak, drifts: list[Drift], seed: int) -> list[str]:
    ledger = soak.ledger
    length_s = time.monotonic() - soak.start
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(one.ru_utime + one.ru_stime for one in usage)
    rows = [
        ("time", f"{length_s / 60:.1f} minutes, seed {seed}, time to live {soak.stage.ttl_s} s"),
        ("faults", str(sum(ledger.faults.values()))),
        *((f"  {kind}", str(count)) for kind, count in sorted(ledger.faults.items())),
        ("terms", f"{counts(ledger.terms)}; claims compared {ledger.claims}, {ledger.checks} times"),
        ("hand-overs", times(ledger.hand_overs_ns)),
        ("take-overs", times(ledger.take_overs_ns)),
        ("losses", counts(ledger.losses)),
        ("  of a fault before", str(ledger.late_losses)),
        (
            "  without a fault",
            f"{ledger.excused_losses}, and {ledger.excused_exits} exits, while the machine stalled; {ledger.stalls} stalls",
        ),
        ("at risk", f"{ledger.at_risk} times"),
        ("without a leader", f"{ledger.longest_gap_ns / MS:.0f} ms at most while there was no fault"),
        ("well after a fault", f"{max(ledger.recoveries_s, default=0):.1f} s at most"),
        ("calls that failed", counts(ledger.complaints)),
        (
            "after a removal",
            f"the former leader led on for {ledger.longest_notice_ns / MS:.0f} ms at most beside its heir",
        ),
        ("terms ended too early", f"{ledger.ended_early}, by members that had been stopped"),
        ("rivals revived", str(ledger.peers_revived)),
        ("processor time", f"{cpu_s / length_s:.2f} cores in the mean"),
    ]
    for drift in drifts:
        for field, first, last in zip(Sample._fields, drift.first, drift.last):
            rows.append((f"{drift.name} {field}", f"{first} -> {last}"))
    for invariant in INVARIANTS:
        found = ledger.failures[invariant]
        rows.append((invariant, f"FAILED {len(found)} times, first: {found[0]}" if found else "held"))
    width = max(len(name) for name, _ in rows)
    return [f"{name.ljust(width)}  {value}" for name, value in rows]


def stage_copies(arguments: argparse.Namespace, folder: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Copies of all that runs, so that what is built meanwhile changes nothing."""
    for name in ("c_worker", "go_worker", "peer", "etcd"):
        shutil.copy2(getattr(arguments, name), folder / name)
    shutil.copy2(arguments.library, folder / "libtenure.so.0")
    shutil.copy2(ROOT / "examples/python/worker.py", folder / "worker.py")
    shutil.copytree(
        ROOT / "bindings/python/src/tenure", folder / "python/tenure", ignore=shutil.ignore_patterns("*.pyc")
    )
    commands = {
        "C": [str(folder / "c_worker")],
        "Python": [sys.executable, "-S", str(folder / "worker.py")],
        "Go": [str(folder / "go_worker")],
    }
    environment = {
        "LD_LIBRARY_PATH": str(folder),
        "TENURE_LIBRARY": str(folder / "libtenure.so.0"),
        "PYTHONPATH": str(folder / "python"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return commands, environment


def check_copies(stage: Stage) -> None:
    """Every worker runs the library that was copied."""
    for worker in stage.workers:
        with open(f"/proc/{worker.pid}/maps") as maps:
            mapped = {line.split(maxsplit=5)[-1].strip() for line in maps if "libtenure" in line}
        if mapped != {stage.environment["TENURE_LIBRARY"]}:
            stage.ledger.fail(EXITS, f"{worker.name} runs {', '.join(mapped) or 'no library'}")


async def soak(arguments: argparse.Namespace, folder: Path, seed: int) -> int:
    commands, environment = stage_copies(arguments, folder)
    cluster = Cluster(str(folder / "etcd"), str(folder))
    stage = Stage(cluster, commands, environment, str(folder / "peer"), str(folder), arguments.ttl, seed)
    run = Soak(stage, arguments.hours * 3600)
    task = asyncio.ensure_future(run.run())
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    loop.add_signal_handler(signal.SIGTERM, run.stop)
    await asyncio.wait([task])
    if task.cancelled():
        stage.ledger.fail(ENDING, "interrupted")
    elif (error := task.exception()) is not None:
        # A defect of the soak; what it has counted is told all the same.
        traceback.print_exception(type(error), error, error.__traceback__)
        stage.ledger.fail(LIVENESS, f"the soak can't go on: {error!r}")
    drifts = run.verdict()
    lines = table(run, drifts, seed)
    failed = sum(1 for found in stage.ledger.failures.values() if found)
    lines.append(f"soak: {len(INVARIANTS) - failed} passed, {failed} failed")
    text = "\n".join(lines)
    print(text, flush=True)
    if arguments.result:
        Path(arguments.result).write_text(text + "\n")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("etcd", "peer", "library", "c-worker", "go-worker"):
        parser.add_argument(f"--{name}", required=True, metavar="FILE")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--ttl", type=int, default=4, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--result", metavar="FILE", help="a file for the table of the end")
    parser.add_argument("--folder", metavar="DIRECTORY", help="where the run keeps its files; it is left there")
    arguments = parser.parse_args()
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    say(f"seed {seed}, {arguments.hours:g} hours")
    if arguments.folder:
        folder = Path(arguments.folder).resolve()
        folder.mkdir(parents=True)
        return asyncio.run(soak(arguments, folder, seed))
    with tempfile.TemporaryDirectory(prefix="tenure-soak-") as name:
        return asyncio.run(soak(arguments, Path(name), seed))


if __name__ == "__main__":
    sys.exit(main())
