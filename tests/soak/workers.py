"""The processes that stand for election: the example workers, and a candidate of etcd's Go package."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from typing import TYPE_CHECKING, Callable

from demo import parsed
from members import now_ns
from network import Network

if TYPE_CHECKING:
    from ledger import Ledger

END_S = 30.0


class Failed(Exception):
    """A process didn't do what it must."""


class Candidate:
    """A process, its network, and the lines that it prints."""

    kind = ""

    def __init__(self, name: str, election: str, ledger: Ledger) -> None:
        self.name, self.election, self.ledger = name, election, ledger
        self.network: Network | None = None
        self.process: asyncio.subprocess.Process | None = None
        self.is_stopped = False
        self.is_ending = False
        # What it says now: the token that it leads with, or 0.
        self.token = 0
        self._readers: list[asyncio.Task[None]] = []

    async def launch(self, command: list[str], environment: dict[str, str]) -> None:
        command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            *command,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        self._readers = [
            asyncio.ensure_future(self._read(self.process.stdout, self.heard)),
            asyncio.ensure_future(self._read(self.process.stderr, self.complained)),
        ]

    async def _read(self, stream: asyncio.StreamReader, heard: Callable[[str], None]) -> None:
        while line := await stream.readline():
            heard(line.decode("utf-8", "replace").rstrip("\n"))

    def heard(self, line: str) -> None:
        raise NotImplementedError

    def complained(self, line: str) -> None:
        self.ledger.complaint(self.name, line)

    async def order(self, command: str) -> None:
        assert self.process is not None and self.process.stdin is not None
        with contextlib.suppress(ConnectionError):  # It has ended, which `is_alive` tells.
            self.process.stdin.write(command.encode() + b"\n")
            await self.process.stdin.drain()

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        if self.is_alive:
            os.kill(self.pid, number)
        self.is_stopped = number == signal.SIGSTOP

    async def ended(self) -> int:
        """Its exit status; waits for the end."""
        assert self.process is not None
        self.is_ending = True
        try:
            status = await asyncio.wait_for(self.process.wait(), END_S)
        except asyncio.TimeoutError:
            raise Failed(f"{self.name} doesn't end within {END_S:g} s") from None
        await asyncio.wait(self._readers, timeout=END_S)
        if self.network is not None:
            await self.network.close()
        return status

    async def kill(self) -> None:
        self.send(signal.SIGKILL)
        await self.ended()
        self.died()

    def died(self) -> None:
        """Notes that whatever it claimed is over."""

    async def leave(self) -> int:
        """Withdraws and ends by itself; its exit status."""
        raise NotImplementedError


class Worker(Candidate):
    """One of the example workers; see examples/c/worker.c for what it prints."""

    def __init__(self, name: str, election: str, ledger: Ledger, kind: str, claims_path: str) -> None:
        super().__init__(name, election, ledger)
        self.kind, self.claims_path = kind, claims_path
        self.state = ""
        self.answers: list[dict[str, str]] = []
        self._led = 0
        self._read_to = 0

    async def start(self, command: list[str], environment: dict[str, str], ports: list[int], ttl_s: int) -> None:
        self.network = Network(ports)
        endpoints = await self.network.open()
        random.shuffle(endpoints)
        arguments = ["--endpoints", ",".join(endpoints), "--service", "soak", "--election", self.election]
        arguments += ["--value", self.name, "--ttl", f"{ttl_s}s", "--claims", self.claims_path, "--poll-us", "5000"]
        arguments += ["--option", "open_offline=true"]
        await self.launch([*command, *arguments], environment)

    def heard(self, line: str) -> None:
        said = parsed(line)
        kind = said["kind"]
        if kind == "event":
            self._event(said)
        elif kind == "claim":
            self._claim(int(said["token"]), int(said["start_ns"]), int(said["end_ns"]))
        elif kind in ("resign", "campaign"):
            self.answers.append(said)

    def _event(self, said: dict[str, str]) -> None:
        self.state, token = said["state"], int(said["token"])
        if self.state == "LEADER":
            if said["at_risk"] == "1":
                self.ledger.at_risk += 1
            if token != self._led:
                self._led = token
                self.ledger.elected(self.election)
        elif self._led:
            self.ledger.lost(self.name, self._led, said["reason"])
            self._led = 0

    def _claim(self, token: int, start_ns: int, end_ns: int) -> None:
        if self.token != token:
            self.token = token
            self.ledger.claim_begins(self.election, self.name, start_ns)
        else:
            self.token = 0
            self.ledger.claim_ends(self.election, self.name, end_ns)

    def died(self) -> None:
        if self.token:
            self.token = 0
            self.ledger.claim_ends(self.election, self.name, now_ns())

    def read_claims(self) -> None:
        """Tells the ledger what its own asking has said since the last time."""
        with open(self.claims_path, "rb") as file:
            file.seek(self._read_to)
            lines = file.read().splitlines(keepends=True)
        for line in lines:
            if not line.endswith(b"\n"):
                break
            start, end, token = (int(number) for number in line.split())
            self.ledger.claimed(self.election, self.name, token, start, end)
        # The last one may still grow.
        self._read_to += sum(len(line) for line in lines[:-1])

    async def obey(self, command: str) -> str:
        """Gives a command; the code of the answer."""
        count = len(self.answers)
        await self.order(command)
        for _ in range(int(END_S / 0.01)):
            if len(self.answers) > count:
                return self.answers[-1]["code"]
            if not self.is_alive:
                break
            await asyncio.sleep(0.01)
        raise Failed(f"{self.name} doesn't answer {command}")

    async def stand_again(self) -> str:
        """After a resignation. The last campaign must be over before the next one."""
        for _ in range(int(END_S / 0.01)):
            if self.state == "CLOSED":
                return await self.obey("campaign")
            await asyncio.sleep(0.01)
        raise Failed(f"{self.name} has resigned, but its campaign isn't closed")

    async def leave(self) -> int:
        self.send(signal.SIGTERM)
        status = await self.ended()
        self.died()
        return status


class Peer(Candidate):
    """A candidate of etcd's package concurrency. It knows no deadline, so what counts as its claim is the time between its
    word that it was elected and a read that shows its key."""

    kind = "peer"

    def __init__(self, name: str, election: str, ledger: Ledger) -> None:
        super().__init__(name, election, ledger)
        self.is_waiting = False
        self.errors = 0
        self.resigned = asyncio.Event()
        self.ready = asyncio.Event()
        self._since_ns = 0

    async def start(self, program: str, port: int, ttl_s: int) -> None:
        self.network = Network([port])
        endpoint = (await self.network.open())[0]
        await self.launch([program, "concurrency", endpoint, f"_ld/soak/{self.election}", self.name, str(ttl_s)], {})

    async def campaign(self) -> None:
        self.is_waiting = True
        await self.order("campaign")

    async def resign(self) -> None:
        """As the leader."""
        self.doubt()
        self.resigned.clear()
        await self.order("resign")
        try:
            await asyncio.wait_for(self.resigned.wait(), END_S)
        except asyncio.TimeoutError:
            raise Failed(f"{self.name} doesn't resign") from None

    def heard(self, line: str) -> None:
        what, _, rest = line.partition(" ")
        if what == "ready":
            self.ready.set()
        elif what == "elected":
            self.is_waiting = False
            self.token, self._since_ns = int(rest.split()[-1]), now_ns()
            self.ledger.elected(self.election)
            self.ledger.claim_begins(self.election, self.name, self._since_ns)
        elif what == "resigned":
            self.resigned.set()
        elif what == "error":
            self.errors += 1

    def note(self, end_ns: int) -> None:
        """Its key was the first in a linearizable read that was asked for then."""
        if self.token:
            self.ledger.claimed(self.election, self.name, self.token, self._since_ns, end_ns)

    def doubt(self) -> None:
        """From here on it doesn't lead: it resigns, or its key is gone, which it may not notice."""
        if self.token:
            self.token = 0
            self.ledger.claim_ends(self.election, self.name, now_ns())

    def died(self) -> None:
        self.doubt()

    async def leave(self) -> int:
        self.doubt()
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.close()
        return await self.ended()
