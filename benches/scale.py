#!/usr/bin/env python3
"""How Tenure and etcd's Go package grow: `make bench-scale`.

Three curves. One process stands in ever more elections: how long joining takes, what an election costs in memory and in
processor time while nothing happens, and how fast another pair hands over beside them. And ever more processes stand in
one election, or each in one of its own in the same service: how fast leadership passes from one to the next, and how many
messages etcd sends on watches for that. What etcd spends is read from its own metrics.

    scale.py FOLDER    FOLDER: for scale.json and scale.svg; the programs are found by the variables in bench.PROGRAMS
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import sys
import time
import urllib.request
from collections.abc import Iterator

import bench
import chart
from bench import Invalid, Program, running
from rich.console import Console
from rich.table import Table

IDLE_S = 15
# Hand-overs beside many elections, and from one process to the next.
PAIRS, PASSES = 100, 50


class Etcd:
    """What the servers say of themselves."""

    def __init__(self, endpoints: str) -> None:
        self.addresses = [f"{address}/metrics" for address in endpoints.split(",")]

    def count(self, name: str) -> float:
        """The sum of all lines that begin so."""
        total = 0.0
        for address in self.addresses:
            with urllib.request.urlopen(address, timeout=10) as answer:
                for line in answer.read().decode().splitlines():
                    if line.startswith(name):
                        total += float(line.rsplit(" ", 1)[1])
        return total

    def messages(self) -> float:
        """Messages on watches; each may carry several events."""
        return self.count('grpc_server_msg_sent_total{grpc_method="Watch"')

    def cpu_s(self) -> float:
        return self.count("process_cpu_seconds_total")


class Row(dict[str, float]):
    """One point of a curve: what was measured, by name."""


def elections(etcd: Etcd, name: str, count: int) -> Row:
    with running(name, name, "bare_go") as (holder, pair, counter):
        before = holder.resident_in_use()
        joined = holder.ask(f"join {count}")[0]
        row = Row(join_ms=joined / 1e6)
        resident, _, used = holder.ask("status")
        row["bytes_each"] = (resident - before) / count
        etcd_used = etcd.cpu_s()
        time.sleep(IDLE_S)
        row["idle_cpu_percent"] = (holder.ask("status")[2] - used) / (IDLE_S * 1e9) * 100
        row["etcd_idle_cpu_percent"] = (etcd.cpu_s() - etcd_used) / IDLE_S * 100
        row |= hand_overs(pair, PAIRS)
        if counter.ask(f"keys {bench.SHARDS[name]}")[0] != count:
            raise Invalid(f"{name} does not lead {count} elections any more")
        row["resign_ms"] = holder.ask("resign")[0] / 1e6
        return row


@contextlib.contextmanager
def several(name: str, count: int) -> Iterator[list[Program]]:
    """So many processes of one program."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(running(name))[0] for _ in range(count)]


def processes_of_one_election(etcd: Etcd, name: str, count: int) -> Row:
    """Each stands in the same election, behind those before it."""
    with running("bare_go") as (counter,), several(name, count + 1) as queue:
        for place, program in enumerate(queue):
            program.ask("follow 1")
            bench.Bench.wait_keys(counter, bench.SHARDS[name], place + 1)
        queue[0].ask("elected 1")
        time.sleep(0.5)
        messages, used, begun = etcd.messages(), etcd.cpu_s(), time.monotonic()
        took = []
        passes = min(count, PASSES)
        for leader, follower in zip(queue[:passes], queue[1:]):
            start = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            leader.begin("resign")
            took.append(follower.ask("elected 1")[0] - start)
            leader.end()
        row = spread(took)
        # The last of the messages are on their way.
        time.sleep(0.5)
        row["messages_per_handover"] = (etcd.messages() - messages) / passes
        row["etcd_cpu_percent"] = (etcd.cpu_s() - used) / (time.monotonic() - begun) * 100
        return row


def processes_of_one_service(etcd: Etcd, name: str, count: int) -> Row:
    """Each leads an election of its own; another pair of the same service hands over beside them."""
    with running("bare_go", name) as (counter, pair), several(name, count) as holders:
        for place, program in enumerate(holders):
            program.ask(f"join 1 {place}")
        bench.Bench.wait_keys(counter, bench.SHARDS[name], count)
        pair.ask("handover 10")
        time.sleep(0.5)
        messages, used = etcd.messages(), etcd.cpu_s()
        time.sleep(IDLE_S)
        row = Row(
            idle_messages_per_s=(etcd.messages() - messages) / IDLE_S,
            etcd_idle_cpu_percent=(etcd.cpu_s() - used) / IDLE_S * 100,
        )
        messages = etcd.messages()
        row |= hand_overs(pair, PASSES)
        row["messages_per_handover"] = (etcd.messages() - messages) / PASSES
        return row


def hand_overs(pair: Program, count: int) -> Row:
    """Go's after a longer wait: its watch is only of use when etcd has caught up with it, up to 100 ms later."""
    wait_ms = 250 if pair.name == "go" else 10
    return spread([pair.ask(f"handover {wait_ms}")[0] for _ in range(count)])


def spread(took_ns: list[int]) -> Row:
    ordered = sorted(took_ns)
    return Row(
        handover_p50_ms=ordered[len(ordered) // 2] / 1e6, handover_p99_ms=ordered[int(len(ordered) * 0.99)] / 1e6
    )


CURVES = {
    "elections": (elections, "elections of one process", (1, 10, 100, 1000, 10_000)),
    "one_election": (processes_of_one_election, "processes in one election", (1, 10, 100, 500)),
    "one_service": (processes_of_one_service, "processes of one service, each in its own election", (1, 10, 100, 500)),
}


def table(title: str, rows: list[dict[str, float | str]]) -> Table:
    whole = Table(title=title, box=None)
    for column in rows[0]:
        whole.add_column(column.replace("_", " "), justify="right")
    for row in rows:
        whole.add_row(*(value if isinstance(value, str) else f"{value:.4g}" for value in row.values()))
    return whole


def main() -> int:
    parser = argparse.ArgumentParser(description="see the head of this file")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--only", default="", help="curves with this text in the name")
    parser.add_argument("--most", type=int, default=10_000, help="no point of a curve beyond this")
    parser.add_argument("--program", action="append", choices=("tenure", "go"), help="both, unless named")
    chosen = parser.parse_args()
    etcd = Etcd(bench.ENDPOINTS)
    console = Console(width=170)
    curves: dict[str, list[dict[str, float | str]]] = {}
    try:
        for curve, (measure, title, counts) in CURVES.items():
            if chosen.only not in curve:
                continue
            rows = curves.setdefault(curve, [])
            for count in (count for count in counts if count <= chosen.most):
                for name in chosen.program or ("tenure", "go"):
                    print(f"{title}: {count}, {name}", file=sys.stderr, flush=True)
                    rows.append({"program": name, "count": count, **measure(etcd, name, count)})
            console.print(table(title, rows))
    except Invalid as invalid:
        console.print(f"[red]invalid:[/] {invalid}")
        return 1
    chosen.folder.mkdir(parents=True, exist_ok=True)
    (chosen.folder / "scale.json").write_text(json.dumps(curves, indent=1) + "\n")
    chart.draw_curves(curves, {curve: title for curve, (_, title, _) in CURVES.items()}, chosen.folder / "scale.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
