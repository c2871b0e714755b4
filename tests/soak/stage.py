"""Members, elections and candidates, and the questions that a fault and the checks ask about them."""

from __future__ import annotations

import asyncio
import base64
import os
import random
import time
from typing import Any

from ledger import EXITS, GHOSTS, LIVENESS, SECOND, Ledger
from members import Cluster, Witness, now_ns
from network import Network
from workers import Candidate, Failed, Peer, Worker

# Each with its workers. The first letter is enough to tell them apart in a line.
ELECTIONS = ("alpha", "beta", "gamma")
# The rival of another make stands in this one.
PEER_ELECTION = "beta"
# So long after it should be well again, and was noted as failed, the soak gives up.
LATE_S = 90


class Stage:
    def __init__(
        self,
        cluster: Cluster,
        commands: dict[str, list[str]],
        environment: dict[str, str],
        peer: str,
        folder: str,
        ttl_s: int,
        seed: int,
    ) -> None:
        self.cluster, self.ledger, self.random = cluster, Ledger(ttl_s), random.Random(seed)
        self.commands, self.environment, self.peer_program, self.folder = commands, environment, peer, folder
        self.ttl_s, self.prefix, self.elections = ttl_s, b"_ld/soak/", list(ELECTIONS)
        self.witness = Witness(cluster, self.prefix)
        self.workers: list[Worker] = []
        self.peers: list[Peer] = []
        # Workers that are stopped and cut off, but never killed: by them drift is measured. One of each language.
        self.immortal: list[Worker] = []
        self._started = 0

    @property
    def candidates(self) -> list[Candidate]:
        return [*self.workers, *self.peers]

    async def open(self) -> None:
        await self.cluster.start()
        revision, _ = await self.cluster.keys(self.prefix)
        self.witness.start(revision)
        for place, election in enumerate(ELECTIONS):
            for number, kind in enumerate(self.commands):
                worker = await self.start_worker(election, kind)
                if number == place % len(self.commands):
                    self.immortal.append(worker)
        await self.start_peer()
        await self.well(60)

    async def start_worker(self, election: str, kind: str) -> Worker:
        self._started += 1
        name = f"{election}-{kind}-{self._started}"
        worker = Worker(name, election, self.ledger, kind, os.path.join(self.folder, f"claims-{name}"))
        ports = [member.port for member in self.cluster.members]
        await worker.start(self.commands[kind], self.environment, ports, self.ttl_s)
        self.workers.append(worker)
        return worker

    async def start_peer(self) -> Peer:
        self._started += 1
        peer = Peer(f"{PEER_ELECTION}-peer-{self._started}", PEER_ELECTION, self.ledger)
        member = self.random.choice([member for member in self.cluster.members if member.answers])
        await peer.start(self.peer_program, member.port, self.ttl_s)
        self.peers.append(peer)
        try:
            await asyncio.wait_for(peer.ready.wait(), 30)
        except asyncio.TimeoutError:
            raise Failed(f"{peer.name} doesn't get ready") from None
        await peer.campaign()
        return peer

    async def replace(self, worker: Worker) -> None:
        worker.read_claims()
        self.workers.remove(worker)
        await self.start_worker(worker.election, worker.kind)

    async def replace_peer(self, peer: Peer) -> None:
        await peer.kill()
        self.peers.remove(peer)
        await self.start_peer()

    # What a fault asks for.

    def span(self, low: float, high: float) -> float:
        """A time, in times to live."""
        return self.random.uniform(low, high) * self.ttl_s

    def a_leader(self) -> Worker:
        leaders = [worker for worker in self.workers if worker.token]
        return self.random.choice(leaders or self.workers)

    def a_mortal(self) -> Worker:
        return self.random.choice([worker for worker in self.workers if worker not in self.immortal])

    def a_leader_or_any(self) -> Candidate:
        return self.random.choice([self.a_leader(), self.random.choice(self.candidates)])

    def some_candidates(self) -> list[Candidate]:
        return self.random.sample(self.candidates, self.random.randint(1, len(self.candidates)))

    def network(self, candidate: Candidate) -> Network:
        assert candidate.network is not None
        return candidate.network

    async def a_key(self) -> dict[str, Any]:
        until = time.monotonic() + 30
        while not (keys := (await self.cluster.keys(self.prefix))[1]):
            # On a machine that had no time for them, all sessions may have ended since all was well.
            if time.monotonic() > until:
                raise Failed("nobody stands")
            await asyncio.sleep(0.1)
        leaders = [self._of_election(keys, election)[:1] for election in self.elections]
        return self.random.choice([self.random.choice(keys), *(key for first in leaders for key in first)])

    def owner(self, kv: dict[str, Any]) -> str:
        return base64.b64decode(kv.get("value", "")).decode("utf-8", "replace")

    def remove(self, kv: dict[str, Any]) -> None:
        """An administrator is about to remove this key."""
        self.ledger.removed.add(int(kv["create_revision"]))

    async def lead_to(self, peer: Peer) -> bool:
        """Those before the peer in its queue resign, and stand again behind it. Whether it hears that it is elected."""
        until = time.monotonic() + 30
        while peer.is_waiting:
            _, keys = await self.cluster.keys(self.prefix)
            queue = [self.owner(kv) for kv in self._of_election(keys, peer.election)]
            first = [worker for worker in self.workers if queue and worker.name == queue[0]]
            if first:
                await first[0].obey("resign")
                await first[0].stand_again()
            if time.monotonic() > until and queue[:1] == [peer.name]:
                return False
            if time.monotonic() > until or not peer.is_alive:
                raise Failed(f"{peer.name} isn't elected; the queue is {queue}")
            await asyncio.sleep(0.05)
        return True

    # What must hold.

    def ended_badly(self, candidate: Candidate, status: int) -> None:
        if self.ledger.has_stalled and "has not confirmed" in self.ledger.last_complaint:
            self.ledger.excused_exits += 1
            return
        self.ledger.fail(
            EXITS, f"{candidate.name} was told to withdraw and ended with {status}; {self.ledger.last_complaint}"
        )

    def disobeyed(self, candidate: Candidate, code: str) -> None:
        self.ledger.fail(LIVENESS, f"{candidate.name} answered {code} to a command")

    def _of_election(self, keys: list[dict[str, Any]], election: str) -> list[dict[str, Any]]:
        start = f"_ld/soak/{election}/".encode()
        return [kv for kv in keys if base64.b64decode(kv["key"]).startswith(start)]

    async def well(self, within_s: float) -> float:
        """Until in each election all living candidates stand and the first one leads; how long that took."""
        start, is_late = time.monotonic(), False
        missing_since: dict[str, float] = {}
        while True:
            asked_ns = now_ns()
            _, keys = await self.cluster.keys(self.prefix)
            problems = [problem for election in self.elections for problem in self._problems(election, keys)]
            await self._revive(keys, missing_since)
            if not problems:
                for peer in self.peers:
                    if not peer.is_waiting:
                        peer.note(asked_ns)
                return time.monotonic() - start
            # From the last fault on, of which the machine may have brought one more.
            since_stall_s = (now_ns() - self.ledger.stalled_ns) / SECOND
            waited_s = min(time.monotonic() - start, since_stall_s)
            if waited_s > within_s and not is_late:
                is_late = True
                ghosts = [problem for problem in problems if "stands" in problem]
                self.ledger.fail(GHOSTS if ghosts else LIVENESS, f"after {within_s:.1f} s: {'; '.join(problems)}")
            if waited_s > within_s + LATE_S:
                raise Failed("not well again")
            await asyncio.sleep(0.1)

    def _problems(self, election: str, keys: list[dict[str, Any]]) -> list[str]:
        """Why an election isn't well."""
        own = self._of_election(keys, election)
        standing = [self.owner(kv) for kv in own]
        living = {candidate.name: candidate for candidate in self.candidates if candidate.election == election}
        problems = [f"{name} stands {standing.count(name)} times" for name in living if standing.count(name) > 1]
        problems += [f"{name} stands in {election} and doesn't live" for name in standing if name not in living]
        problems += [f"{name} is missing in {election}" for name in living if name not in standing]
        leader = living.get(standing[0]) if standing else None
        if leader is None:
            problems.append(f"nobody leads {election}")
        elif leader.token != int(own[0]["create_revision"]):
            problems.append(f"{leader.name} is first in {election} and doesn't lead")
        others = [candidate.name for candidate in living.values() if candidate.token and candidate is not leader]
        problems += [f"{name} leads {election} without being first" for name in others]
        return problems

    async def _revive(self, keys: list[dict[str, Any]], missing_since: dict[str, float]) -> None:
        """Workers must not end by themselves. A peer that lost its session doesn't stand again, and may not know;
        nor does it always hear that it is elected."""
        for worker in list(self.workers):
            if not worker.is_alive:
                self.ledger.fail(EXITS, f"{worker.name} ended by itself; {self.ledger.last_complaint}")
                worker.died()
                await worker.ended()
                if worker in self.immortal:
                    self.immortal.remove(worker)
                await self.replace(worker)
        standing = {self.owner(kv): int(kv["create_revision"]) for kv in keys}
        for peer in list(self.peers):
            is_lost = peer.name not in standing or (peer.token and peer.token != standing[peer.name])
            # Its client sends no pings, so a watch whose connection is mute stays so for ever.
            queue = [self.owner(kv) for kv in self._of_election(keys, peer.election)]
            is_deaf = peer.is_waiting and queue[:1] == [peer.name]
            if peer.is_alive and not is_lost and not is_deaf and not peer.errors:
                missing_since.pop(peer.name, None)
            elif time.monotonic() - missing_since.setdefault(peer.name, time.monotonic()) > self.ttl_s / 2:
                await self.replace_peer(peer)
                self.ledger.peers_revived += 1

    async def check(self) -> None:
        """Compares all claims so far with each other and with the keys."""
        revision, _ = await self.cluster.keys(self.prefix)
        for worker in self.workers:
            worker.read_claims()
        await self.witness.reached(revision)
        self.ledger.check_claims(self.witness.lives())

    async def end(self) -> None:
        """Everybody withdraws; nothing may be left."""
        for candidate in self.candidates:
            status = await candidate.leave()
            if status != 0:
                self.ended_badly(candidate, status)
            if isinstance(candidate, Worker):
                candidate.read_claims()
        await self.witness.reached((await self.cluster.keys(self.prefix))[0])
        self.ledger.check_claims(self.witness.lives(), from_the_start=True)

    async def left_behind(self) -> list[str]:
        """Keys and leases. Those of candidates that were killed last until their time to live is over."""
        until = time.monotonic() + 2 * self.ttl_s + 3
        while True:
            _, keys = await self.cluster.keys(self.prefix)
            leases = await self.cluster.leases()
            left = [self.owner(kv) for kv in keys] + [f"lease {lease:x}" for lease in leases]
            if not left or time.monotonic() > until:
                return left
            await asyncio.sleep(0.2)

    async def close(self) -> None:
        """Ends all processes, whatever their state."""
        for candidate in self.candidates:
            if candidate.is_alive:
                await candidate.kill()
        self.witness.stop()
        await self.cluster.end()
