"""What can happen: each function is a fault from its beginning to its end, and tells what it did in a few words."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Callable

from members import EtcdError, Member, call
from workers import Candidate, Worker

if TYPE_CHECKING:
    from stage import Stage

Fault = Callable[["Stage"], Awaitable[str]]


async def stop(stopped: Sequence[Worker | Member], time_s: float, go_on: Callable[[], None] = lambda: None) -> str:
    """All of them are stopped for so long, and go on, which is told before."""
    for process in stopped:
        process.send(signal.SIGSTOP)
    await asyncio.sleep(time_s)
    go_on()
    for process in stopped:
        process.send(signal.SIGCONT)
    return f"{names(stopped)}, {time_s:.1f} s"


async def stop_leader(stage: Stage) -> str:
    """For longer than its time to live."""
    return await stop([stage.a_leader()], stage.span(1.2, 2.0))


async def stop_worker(stage: Stage) -> str:
    return await stop([stage.random.choice(stage.workers)], stage.span(0.1, 1.5))


async def kill_worker(stage: Stage) -> str:
    worker = stage.a_mortal()
    await worker.kill()
    await asyncio.sleep(stage.span(0.0, 0.8))
    await stage.replace(worker)
    return worker.name


async def restart_worker(stage: Stage) -> str:
    """It withdraws, ends, and comes back."""
    worker = stage.a_mortal()
    status = await worker.leave()
    if status != 0:
        stage.ended_badly(worker, status)
    await stage.replace(worker)
    return worker.name


async def resign(stage: Stage) -> str:
    """One worker resigns, a leader or not, and stands again."""
    worker = stage.random.choice([stage.a_leader(), stage.random.choice(stage.workers)])
    await resign_one(stage, worker)
    return worker.name


async def resign_all(stage: Stage) -> str:
    """All workers of an election resign at once, and stand again."""
    election = stage.random.choice(stage.elections)
    await asyncio.gather(*(resign_one(stage, worker) for worker in stage.workers if worker.election == election))
    return election


async def resign_one(stage: Stage, worker: Worker) -> None:
    for command in (worker.obey("resign"), worker.stand_again()):
        code = await command
        if code != "OK":
            stage.disobeyed(worker, code)


async def peer_resigns(stage: Stage) -> str:
    """The candidate of another make gives way, if it leads, and stands again; it comes back if it was gone."""
    peer = stage.random.choice(stage.peers)
    if peer.is_waiting and not await stage.lead_to(peer):
        return f"{peer.name}, which is first and does not hear of it"
    await peer.resign()
    await peer.campaign()
    return peer.name


async def kill_peer(stage: Stage) -> str:
    peer = stage.random.choice(stage.peers)
    await stage.replace_peer(peer)
    return peer.name


async def stop_members(stage: Stage, count: int, time_s: float) -> str:
    return await stop(stage.random.sample(stage.cluster.members, count), time_s, stage.ledger.members_go_on)


async def stop_member(stage: Stage) -> str:
    return await stop_members(stage, 1, stage.span(0.2, 2.0))


async def stop_two_members(stage: Stage) -> str:
    """Nothing can be written for longer than the time to live."""
    return await stop_members(stage, 2, stage.span(1.0, 1.8))


async def kill_member(stage: Stage) -> str:
    member = stage.random.choice(stage.cluster.members)
    await member.end(signal.SIGKILL)
    await asyncio.sleep(stage.span(0.2, 1.0))
    member.start(stage.cluster.members)
    await stage.cluster.settled()
    return member.name


async def restart_member(stage: Stage) -> str:
    """It gives up raft's leadership, if it has it, and ends well."""
    member = stage.random.choice(stage.cluster.members)
    await member.end(signal.SIGTERM)
    member.start(stage.cluster.members)
    await stage.cluster.settled()
    return member.name


async def move_raft_leader(stage: Stage) -> str:
    """Leases are prolonged by it: the new one knows not when they were renewed."""
    ids = await stage.cluster.ids()
    to = stage.random.choice(list(ids))
    former = leader = await stage.cluster.raft_leader()
    for _ in range(20):
        if leader == to:
            break
        # It may be refused: another change of leaders was faster, or there is none at the moment.
        with contextlib.suppress(EtcdError):
            if leader in ids:
                await asyncio.to_thread(call, ids[leader].port, "maintenance/transfer-leadership", {"targetID": to})
        leader = await stage.cluster.raft_leader()
    return f"from {ids[former].name if former in ids else 'none'} to {ids[to].name}"


async def cut(stage: Stage) -> str:
    """All connections of some candidates end; new ones are possible at once."""
    chosen = stage.some_candidates()
    for candidate in chosen:
        stage.network(candidate).cut()
    return names(chosen)


async def refuse(stage: Stage) -> str:
    """Nobody answers at any endpoint of one candidate."""
    candidate = stage.a_leader_or_any()
    time_s = stage.span(0.3, 2.0)
    network = stage.network(candidate)
    network.refuses = True
    network.cut()
    await asyncio.sleep(time_s)
    network.heal()
    return f"{candidate.name}, {time_s:.1f} s"


async def swallow(stage: Stage, chosen: list[Candidate], time_s: float, way: tuple[bool, bool]) -> None:
    """Bytes to the server, to the client, or both vanish while the connections stay."""
    networks = [stage.network(candidate) for candidate in chosen]
    for network in networks:
        network.to_server.swallows, network.to_client.swallows = way
    await asyncio.sleep(time_s)
    for network in networks:
        network.heal()


async def swallow_one(stage: Stage, way: tuple[bool, bool]) -> str:
    candidate = stage.a_leader_or_any()
    time_s = stage.span(0.3, 2.5)
    await swallow(stage, [candidate], time_s, way)
    return f"{candidate.name}, {time_s:.1f} s"


async def swallow_requests(stage: Stage) -> str:
    return await swallow_one(stage, (True, False))


async def swallow_answers(stage: Stage) -> str:
    return await swallow_one(stage, (False, True))


async def swallow_all(stage: Stage) -> str:
    return await swallow_one(stage, (True, True))


async def split(stage: Stage) -> str:
    """No candidate of one election reaches anybody."""
    election = stage.random.choice(stage.elections)
    time_s = stage.span(1.0, 2.0)
    await swallow(
        stage, [candidate for candidate in stage.candidates if candidate.election == election], time_s, (True, True)
    )
    return f"{election}, {time_s:.1f} s"


async def delay(stage: Stage) -> str:
    """A slow network; under it, somebody resigns."""
    chosen = stage.some_candidates()
    time_s, delay_s = stage.span(0.5, 2.0), stage.random.uniform(0.02, 0.25)
    for candidate in chosen:
        network = stage.network(candidate)
        network.to_server.delay_s, network.to_client.delay_s = delay_s, stage.random.uniform(0, delay_s)
    await asyncio.sleep(time_s / 2)
    await resign_one(stage, stage.random.choice(stage.workers))
    await asyncio.sleep(time_s / 2)
    for candidate in chosen:
        stage.network(candidate).heal()
    return f"{names(chosen)}, {delay_s * 1000:.0f} ms, {time_s:.1f} s"


async def compact(stage: Stage) -> str:
    """All history goes, and the watches that want it, since a stopped worker wants it when it goes on."""
    worker = stage.random.choice(stage.workers)
    worker.send(signal.SIGSTOP)
    stage.network(worker).cut()
    other = stage.random.choice([other for other in stage.workers if other is not worker])
    await resign_one(stage, other)
    revision, _ = await stage.cluster.keys(stage.prefix)
    await stage.witness.reached(revision)
    await stage.cluster.call("kv/compaction", {"revision": str(revision), "physical": True}, done="compacted")
    worker.send(signal.SIGCONT)
    return f"at {revision}"


async def revoke_lease(stage: Stage) -> str:
    """An administrator ends the session of a candidate, a leader more often."""
    kv = await stage.a_key()
    stage.remove(kv)
    await stage.cluster.call("lease/revoke", {"ID": kv["lease"]}, done="lease not found")
    return stage.owner(kv)


async def delete_key(stage: Stage) -> str:
    """An administrator deletes the key of a candidate, a leader more often."""
    kv = await stage.a_key()
    stage.remove(kv)
    await stage.cluster.call("kv/deleterange", {"key": kv["key"]})
    return stage.owner(kv)


async def no_space(stage: Stage) -> str:
    """The alarm is raised by hand: etcd refuses to write until it is lifted. Under it a leader resigns."""
    alarm = {"memberID": next(iter(await stage.cluster.ids())), "alarm": "NOSPACE"}
    await stage.cluster.call("maintenance/alarm", {**alarm, "action": "ACTIVATE"})
    leader = stage.a_leader()
    code = await leader.obey("resign")
    if code not in ("OK", "PENDING"):
        stage.disobeyed(leader, code)
    await asyncio.sleep(stage.span(0.3, 1.2))
    await stage.cluster.call("maintenance/alarm", {**alarm, "action": "DEACTIVATE"})
    code = await leader.stand_again()
    if code != "OK":
        stage.disobeyed(leader, code)
    return leader.name


def names(named: Sequence[Candidate | Member]) -> str:
    return ", ".join(process.name for process in named)


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        stop_leader,
        stop_worker,
        kill_worker,
        restart_worker,
        resign,
        resign_all,
        peer_resigns,
        kill_peer,
        stop_member,
        stop_two_members,
        kill_member,
        restart_member,
        move_raft_leader,
        cut,
        refuse,
        swallow_requests,
        swallow_answers,
        swallow_all,
        split,
        delay,
        compact,
        revoke_lease,
        delete_key,
        no_space,
    )
}
