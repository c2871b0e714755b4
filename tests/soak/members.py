"""A cluster of three members, asked over etcd's HTTP gateway, and a witness that notes how its keys come and go."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import signal
import subprocess
import threading
import time
from typing import Any, NamedTuple

import with_etcd

ANSWER_S = 3.0
START_S = 60.0


def now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def after(prefix: bytes) -> bytes:
    """The end of the range of the keys with this prefix, which doesn't end with 0xff."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


class EtcdError(Exception):
    """No answer, or one that says no."""


def call(port: int, path: str, body: dict[str, Any], limit_s: float = ANSWER_S) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=limit_s)
    try:
        connection.request("POST", f"/v3/{path}", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise EtcdError(f"{path} on port {port}: {error!r}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise EtcdError(f"{path} on port {port}: {answer.get('message', answer)}")
    return answer


class Member:
    """A process, which can be stopped, killed and started again on its data."""

    def __init__(self, program: str, name: str, folder: str) -> None:
        self.program, self.name, self.folder = program, name, folder
        self.port, self.peer_port = with_etcd.free_port(), with_etcd.free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.is_stopped = False

    def start(self, members: list[Member]) -> None:
        """Without fsync: what is killed here is processes, not machines."""
        client, peer = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.peer_port}"
        cluster = ",".join(f"{member.name}=http://127.0.0.1:{member.peer_port}" for member in members)
        command = ["setpriv", "--pdeathsig", "KILL", "--", self.program, "--name", self.name]
        command += [
            "--data-dir",
            f"{self.folder}/{self.name}",
            "--unsafe-no-fsync",
            "--logger=zap",
            "--log-level=error",
        ]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
        command += ["--initial-advertise-peer-urls", peer, "--initial-cluster", cluster, "--snapshot-count", "2000"]
        command += ["--watch-progress-notify-interval", "1s"]
        with open(f"{self.folder}/{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.is_stopped = False

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.is_stopped = number == signal.SIGSTOP

    async def end(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        await asyncio.to_thread(self.process.wait)
        self.process = None

    @property
    def answers(self) -> bool:
        return self.process is not None and not self.is_stopped


class Cluster:
    """Three members."""

    def __init__(self, program: str, folder: str) -> None:
        self.members = [Member(program, name, folder) for name in ("one", "two", "three")]

    async def start(self) -> None:
        for member in self.members:
            member.start(self.members)
        await self.settled()

    async def settled(self) -> None:
        """Waits until every member answers a linearizable read."""
        until = time.monotonic() + START_S
        for member in self.members:
            while True:
                try:
                    await asyncio.to_thread(call, member.port, "kv/range", {"key": encoded(b"\0")})
                    break
                except EtcdError as error:
                    if time.monotonic() > until:
                        raise EtcdError(f"member {member.name} is not ready: {error}") from None
                    await asyncio.sleep(0.1)

    async def call(self, path: str, body: dict[str, Any], done: str = "", limit_s: float = 30.0) -> dict[str, Any]:
        """Asks one member after the other, until one says yes or the time is over. An error with the text `done` says
        that an earlier request was applied whose answer was lost."""
        until, failure = time.monotonic() + limit_s, EtcdError("no member is up")
        while True:
            for member in self.members:
                if not member.answers:
                    continue
                try:
                    return await asyncio.to_thread(call, member.port, path, body)
                except EtcdError as error:
                    failure = error
                    if done and done in str(error):
                        return {}
            if time.monotonic() > until:
                raise failure
            await asyncio.sleep(0.2)

    async def keys(self, prefix: bytes) -> tuple[int, list[dict[str, Any]]]:
        """The store's revision and the keys with this prefix, by age."""
        body = {"key": encoded(prefix), "range_end": encoded(after(prefix)), "sort_target": "CREATE"}
        answer = await self.call("kv/range", body)
        return int(answer["header"]["revision"]), answer.get("kvs", [])

    async def leases(self) -> list[int]:
        answer = await self.call("lease/leases", {})
        return [int(lease["ID"]) for lease in answer.get("leases", [])]

    async def ids(self) -> dict[str, Member]:
        """The members by their ids."""
        found: dict[str, Member] = {}
        until = time.monotonic() + START_S
        for member in self.members:
            while member not in found.values():
                try:
                    status = await asyncio.to_thread(call, member.port, "maintenance/status", {})
                    found[status["header"]["member_id"]] = member
                except EtcdError:
                    if time.monotonic() > until:
                        raise
                    await asyncio.sleep(0.2)
        return found

    async def raft_leader(self) -> str:
        """Its id."""
        return str((await self.call("maintenance/status", {}))["leader"])

    async def end(self) -> None:
        for member in self.members:
            if member.process is not None:
                await member.end(signal.SIGKILL)


class Life(NamedTuple):
    """A key, from when it was seen to come until it was seen to go; both no earlier than it did."""

    name: str
    value: str
    seen_ns: int
    gone_ns: int | None


class Witness:
    """Watches all keys with a prefix at whichever member answers. Its lives are by token."""

    def __init__(self, cluster: Cluster, prefix: bytes) -> None:
        self._cluster, self._prefix = cluster, prefix
        self._lock = threading.Lock()
        self._lives: dict[int, Life] = {}
        self._tokens: dict[str, int] = {}
        self._revision = 0
        self._is_over = False
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self, revision: int) -> None:
        self._revision = revision
        self._thread.start()

    def stop(self) -> None:
        self._is_over = True
        self._thread.join()

    @property
    def revision(self) -> int:
        """Everything up to here has been seen."""
        with self._lock:
            return self._revision

    def lives(self) -> dict[int, Life]:
        with self._lock:
            return dict(self._lives)

    async def reached(self, revision: int, limit_s: float = 30.0) -> None:
        until = time.monotonic() + limit_s
        while self.revision < revision:
            if self.failure or time.monotonic() > until:
                raise EtcdError(self.failure or f"the witness is at {self.revision}, not at {revision}")
            await asyncio.sleep(0.02)

    def _run(self) -> None:
        while not self._is_over and not self.failure:
            for member in self._cluster.members:
                if member.answers and not self._is_over:
                    try:
                        self._watch(member.port)
                    except (OSError, http.client.HTTPException, ValueError):
                        pass  # That member is down or silent; the next one.
                    except Exception as error:
                        self.failure = f"the witness failed: {error!r}"
                        raise
            time.sleep(0.1)

    def _watch(self, port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
        request = {
            "key": encoded(self._prefix),
            "range_end": encoded(after(self._prefix)),
            "start_revision": str(self._revision + 1),
            "progress_notify": True,
        }
        try:
            connection.request("POST", "/v3/watch", json.dumps({"create_request": request}))
            response = connection.getresponse()
            while not self._is_over and (line := response.readline()):
                result = json.loads(line).get("result", {})
                if "header" not in result:
                    return  # The stream's end, told as an error.
                if result.get("canceled"):
                    if int(result.get("compact_revision", 0)):
                        self.failure = f"the witness missed what was compacted at {result['compact_revision']}"
                    return
                self._note(result)
        finally:
            connection.close()

    def _note(self, result: dict[str, Any]) -> None:
        seen_ns = now_ns()
        with self._lock:
            for event in result.get("events", []):
                kv = event["kv"]
                name = base64.b64decode(kv["key"]).decode("utf-8", "replace")
                if event.get("type") == "DELETE":
                    token = self._tokens.pop(name)
                    self._lives[token] = self._lives[token]._replace(gone_ns=seen_ns)
                else:
                    token = int(kv["create_revision"])
                    value = base64.b64decode(kv.get("value", "")).decode("utf-8", "replace")
                    self._tokens[name] = token
                    self._lives.setdefault(token, Life(name, value, seen_ns, None))
                self._revision = max(self._revision, int(kv["mod_revision"]))
            # The answer that says how far the watch is; that of an answer with events may be ahead of them.
            if not result.get("created") and not result.get("events"):
                self._revision = max(self._revision, int(result["header"]["revision"]))
