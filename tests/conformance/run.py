#!/usr/bin/env python3
"""Plays every scenario in every language, on memory:// and on a real etcd, and compares the transcripts.

usage: run.py --etcd PROGRAM --etcdctl PROGRAM --peer PROGRAM --driver NAME=COMMAND... [--only TEXT] [--transcripts] [--times]

An etcd for all is found in the variable ETCD_ENDPOINTS; scenarios that need one of their own start it. With --only,
those scenarios are played whose names hold the text; --transcripts prints what they said, --times which took longest. See README.md beside this.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import shlex
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import play
import stage
from play import Json, Language, Run, Scenario
from stage import Etcd, Failure, Tools

# Most runs wait for somebody nearly all the time.
AT_ONCE = 24
SERVERS_AT_ONCE = 6


class Part(NamedTuple):
    """A scenario, on a store, by a cast: one of what is counted."""

    scenario: Scenario
    store: str
    cast: list[Language]

    def name(self) -> str:
        return f"{self.scenario.name} ({self.store}, {' and '.join(one.name for one in self.cast)})"


async def introduce(name: str, command: str) -> Language:
    """What the driver says at its start."""
    process = await stage.start(*shlex.split(command))
    assert process.stdin is not None and process.stdout is not None
    hello = await process.stdout.readline()
    process.stdin.close()
    if not hello or await process.wait() != 0:
        raise Failure(f"the driver for {name} says {hello!r} and ends with {process.returncode}")
    return Language(name, shlex.split(command), frozenset(json.loads(hello)["lacks"]))


def parts_of(number: int, scenario: Scenario, languages: list[Language]) -> list[Part]:
    """Each language by itself on each store; where processes meet on a server, once in a mixture as well, which differs
    from scenario to scenario, so that each language meets each other one in either role."""
    parts = [Part(scenario, store, [language]) for store in scenario.stores for language in languages]
    count = len(scenario.processes())
    if count > 1 and len(languages) > 1 and "etcd" in scenario.stores:
        first, step = number % len(languages), number // len(languages) % (len(languages) - 1) + 1
        cast = [languages[(first + place * step) % len(languages)] for place in range(count)]
        parts.append(Part(scenario, "etcd", cast))
    return parts


class Suite:
    """All parts, and what became of them."""

    def __init__(self, arguments: argparse.Namespace, parts: list[Part]) -> None:
        self.arguments, self.parts = arguments, parts
        self.tools = Tools(arguments.etcd, arguments.etcdctl, arguments.peer)
        # Those that scenarios share.
        self.servers = {"shared": Etcd(self.tools, os.environ["ETCD_ENDPOINTS"])}
        self.certificates = stage.Certificates()
        self.failed: list[str] = []
        self.passed = 0
        self.times: list[tuple[float, str]] = []
        # By scenario, by whom and what was said.
        self.transcripts: dict[str, list[tuple[str, list[Json]]]] = collections.defaultdict(list)

    async def run(self) -> None:
        places, servers = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(SERVERS_AT_ONCE)

        async def one(number: int, part: Part) -> None:
            async with servers if part.scenario.needs_server() else places:
                start = time.monotonic()
                run = Run(part.scenario, part.store, part.cast, number)
                try:
                    self.keep(part, await run.play(self.servers, self.certificates, self.tools))
                    self.times.append((time.monotonic() - start, part.name()))
                except Exception as problem:  # noqa: BLE001 - a mistake in here is a failure of its run, too
                    text = str(problem) if isinstance(problem, Failure) else traceback.format_exc()
                    self.fail(part.name(), text, run.transcript)

        try:
            await asyncio.gather(self.start_secured(), self.start_tls())
            await asyncio.gather(*(one(number, part) for number, part in enumerate(self.parts)))
        finally:
            for server in self.servers.values():
                await server.end()
            self.certificates.end()

    async def start_secured(self) -> None:
        # Passwords that are cheap to check: there are many of them.
        self.servers["secured"] = await Etcd.own(self.tools, ["--bcrypt-cost=4"])
        await self.servers["secured"].secure()

    async def start_tls(self) -> None:
        await self.certificates.make()
        self.servers["tls"] = await Etcd.own(self.tools, self.certificates.options(), "https")

    def keep(self, part: Part, transcript: list[Json]) -> None:
        self.transcripts[part.scenario.name].append((part.name(), transcript))
        if self.arguments.transcripts:
            print(f"{part.name()}\n  {self.said(transcript)}", flush=True)

    def fail(self, name: str, reason: str, transcript: list[Json]) -> None:
        self.failed.append(name)
        print(f"FAILED: {name}\n  {reason}\n  {self.said(transcript)}", flush=True)

    def compare(self) -> None:
        """All transcripts of a scenario are to be equal; those that differ from most have failed."""
        for said in self.transcripts.values():
            counts = collections.Counter(json.dumps(transcript) for _, transcript in said)
            usual: list[Json] = json.loads(counts.most_common(1)[0][0])
            for name, transcript in said:
                if transcript == usual:
                    self.passed += 1
                else:
                    self.fail(name, self.difference(transcript, usual), transcript)

    @staticmethod
    def difference(transcript: list[Json], usual: list[Json]) -> str:
        for line, other in zip(transcript, usual):
            if line != other:
                return f"most say {json.dumps(other)}, this one {json.dumps(line)}"
        return f"most say {len(usual)} lines, this one {len(transcript)}"

    @staticmethod
    def said(transcript: list[Json]) -> str:
        return "\n  ".join(json.dumps(line) for line in transcript)


def sort_out(parts: list[Part]) -> list[Part]:
    """Without those whose language can't say what the scenario is about, which are named."""
    kept, left_out = [], collections.Counter[str]()
    for part in parts:
        lacking = {need: [one.name for one in part.cast if need in one.lacks] for need in part.scenario.needs}
        if not any(lacking.values()):
            kept.append(part)
        for need, names in lacking.items():
            if len(part.cast) == 1:
                left_out.update(f"{name} has no {need}" for name in names)
    for reason, count in sorted(left_out.items()):
        print(f"left out, since {reason}: {count}")
    return kept


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for tool in Tools._fields:
        parser.add_argument(f"--{tool}", required=True)
    parser.add_argument("--driver", action="append", required=True, metavar="NAME=COMMAND")
    parser.add_argument("--only", default="")
    parser.add_argument("--transcripts", action="store_true")
    parser.add_argument("--times", action="store_true")
    arguments = parser.parse_args()
    start = time.monotonic()
    languages = [await introduce(*driver.split("=", 1)) for driver in arguments.driver]
    everything = enumerate(play.read(Path(__file__).parent / "scenarios"))
    chosen = [(number, scenario) for number, scenario in everything if arguments.only in scenario.name]
    parts = sort_out([part for number, scenario in chosen for part in parts_of(number, scenario, languages)])
    if not parts:
        raise Failure(f"no scenario's name holds {arguments.only!r}")
    suite = Suite(arguments, parts)
    await suite.run()
    suite.compare()
    names = ", ".join(language.name for language in languages)
    if arguments.times:
        for seconds, name in sorted(suite.times, reverse=True)[:20]:
            print(f"{seconds:6.2f} s  {name}")
    print(f"{len(chosen)} scenarios in {names}: {time.monotonic() - start:.0f} s")
    print(f"{suite.passed} passed, {len(suite.failed)} failed")
    return 1 if suite.failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
