"""What happens around candidates: etcd servers, administrators, and candidates of other makes."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).parents[1] / "tools"))
from with_etcd import free_port

ROOT_USER = "root:root-password"
# Whoever has this name and password may use the keys of all scenarios, which lie below KEYS.
USER, PASSWORD = "alice", "open sesame"
KEYS = "conformance/"


class Failure(Exception):
    """A scenario went otherwise than expected; the text says how."""


class Tools(NamedTuple):
    """Programs, by their paths."""

    etcd: str
    etcdctl: str
    peer: str


async def end(process: asyncio.subprocess.Process) -> None:
    """Ends a process that is in whatever state."""
    if process.returncode is None:
        process.kill()
    await process.wait()


async def freeze(process: asyncio.subprocess.Process) -> None:
    """Stops a process; returns when it has stopped, every thread of it."""
    process.send_signal(signal.SIGSTOP)
    threads = Path(f"/proc/{process.pid}/task")
    while any(")" in stat and stat.rsplit(")", 1)[1].split()[0] not in "TZ" for stat in _stats(threads)):
        await asyncio.sleep(0.001)


def _stats(threads: Path) -> list[str]:
    return [(thread / "stat").read_text() for thread in threads.iterdir()]


async def start(*command: str, stderr: int | None = None) -> asyncio.subprocess.Process:
    """A process that ends with this one, with pipes; its lines may be long."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", "--", *command), stdin=pipe, stdout=pipe, stderr=stderr, limit=1 << 26
    )


def base64_of(text: bytes) -> str:
    return base64.b64encode(text).decode()


class Etcd:
    """An etcd. One that wasn't started here can only be asked."""

    def __init__(self, tools: Tools, endpoint: str) -> None:
        self.tools, self.endpoint = tools, endpoint
        self.user: str | None = None
        self.process: asyncio.subprocess.Process | None = None
        self.folder = ""
        self.options: list[str] = []

    @classmethod
    async def own(cls, tools: Tools, options: list[str], scheme: str = "http") -> Etcd:
        """Starts one, on ports that nobody else has."""
        while True:
            etcd = cls(tools, f"{scheme}://127.0.0.1:{free_port()}")
            peer = f"http://127.0.0.1:{free_port()}"
            etcd.options = ["--listen-client-urls", etcd.endpoint, "--advertise-client-urls", etcd.endpoint]
            etcd.options += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            etcd.options += ["--initial-cluster", f"default={peer}", "--logger=zap", "--log-outputs=stderr", *options]
            if await etcd.run():
                return etcd

    async def run(self, token: str = "first") -> bool:
        """Starts the process with an empty store; False if another program was faster to take a port."""
        self.folder = tempfile.mkdtemp(prefix="tenure-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        command = [self.tools.etcd, "--data-dir", self.folder, "--initial-cluster-token", token, *self.options]
        self.process = await start(*command, stderr=asyncio.subprocess.PIPE)
        assert self.process.stderr is not None
        log: list[bytes] = []
        async for line in self.process.stderr:
            if b"serving client traffic" in line:
                self.drain = asyncio.create_task(self.process.stderr.read())
                return True
            log.append(line)
        await self.end()
        if any(b"address already in use" in line for line in log):
            return False
        raise Failure(b"".join(log[-20:]).decode() + "etcd doesn't start")

    async def end(self) -> None:
        if self.process is not None:
            await end(self.process)
            shutil.rmtree(self.folder)

    async def freeze(self) -> None:
        """Out of reach from now on, without a word."""
        assert self.process is not None
        await freeze(self.process)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    async def replace(self) -> None:
        """Another cluster answers at the same address."""
        await self.end()
        while not await self.run("second"):
            pass

    async def ctl(self, *arguments: str) -> str:
        user = [f"--user={self.user}"] if self.user else []
        process = await start(self.tools.etcdctl, f"--endpoints={self.endpoint}", *user, *arguments,
                              stderr=asyncio.subprocess.PIPE)  # fmt: skip
        output, errors = await process.communicate()
        if process.returncode != 0:
            raise Failure(f"etcdctl {' '.join(arguments)}: {errors.decode()}")
        return output.decode()

    async def secure(self) -> None:
        """Turns authentication on, with one user besides the administrator."""
        await self.ctl("user", "add", ROOT_USER)
        await self.ctl("user", "grant-role", "root", "root")
        await self.ctl("user", "add", f"{USER}:{PASSWORD}")
        await self.ctl("role", "add", USER)
        await self.ctl("role", "grant-permission", "--prefix=true", USER, "readwrite", KEYS)
        await self.ctl("user", "grant-role", USER, USER)
        await self.ctl("auth", "enable")
        self.user = ROOT_USER

    async def ask(self, path: str, request: dict[str, object]) -> dict[str, Any]:
        """A request to the server's JSON gateway; texts of keys and values are in base64."""
        body = json.dumps(request).encode()

        def post() -> bytes:
            with urllib.request.urlopen(f"{self.endpoint}/v3/{path}", body, timeout=20) as answer:
                return bytes(answer.read())

        answer: dict[str, Any] = json.loads(await asyncio.to_thread(post))
        return answer

    async def candidate(self, prefix: str, place: int) -> tuple[str, str]:
        """Key, in base64, and lease of the candidate at a place of the queue, 0 for the leader."""
        start, end = prefix.encode(), prefix[:-1].encode() + bytes([ord(prefix[-1]) + 1])
        order = {"sort_target": "CREATE", "sort_order": "ASCEND"}
        found = (await self.ask("kv/range", {"key": base64_of(start), "range_end": base64_of(end), **order}))["kvs"]
        if len(found) <= place:
            raise Failure(f"{prefix} has only {len(found)} candidates")
        return found[place]["key"], found[place].get("lease", "0")

    async def delete(self, key: str) -> None:
        await self.ask("kv/deleterange", {"key": key})

    async def revoke(self, lease: str) -> None:
        await self.ask("lease/revoke", {"ID": lease})

    async def put(self, key: str, value: str) -> None:
        await self.ask("kv/put", {"key": base64_of(key.encode()), "value": base64_of(value.encode())})


class Certificates:
    """An authority, and one certificate by it, for a server at 127.0.0.1 and for its clients."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tenure-"))
        self.authority, self.certificate, self.key = (self.folder / name for name in ("ca.pem", "own.pem", "own.key"))

    async def make(self) -> None:
        authority_key, request, extensions = (self.folder / name for name in ("ca.key", "own.csr", "own.ext"))
        extensions.write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
        new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        await self._openssl(*new, "-x509", "-subj=/CN=authority", "-keyout", authority_key, "-out", self.authority)
        await self._openssl(*new, "-subj=/CN=own", "-keyout", self.key, "-out", request)
        await self._openssl(
            *("x509", "-req", "-in", request, "-CA", self.authority, "-CAkey", authority_key, "-CAcreateserial"),
            *("-extfile", extensions, "-out", self.certificate),
        )

    async def _openssl(self, *arguments: str | Path) -> None:
        process = await start("openssl", *map(str, arguments), stderr=asyncio.subprocess.PIPE)
        _, errors = await process.communicate()
        if process.returncode != 0:
            raise Failure(f"openssl {arguments[0]}: {errors.decode()}")

    def options(self) -> list[str]:
        """For an etcd that asks its clients for a certificate."""
        own = [f"--cert-file={self.certificate}", f"--key-file={self.key}"]
        return [*own, "--client-cert-auth", f"--trusted-ca-file={self.authority}"]

    def end(self) -> None:
        shutil.rmtree(self.folder)


class Rival:
    """A candidate of another make: `concurrency` or `v3election`, by the program peer, or `etcdctl`."""

    def __init__(self, process: asyncio.subprocess.Process, make: str) -> None:
        self.process, self.make = process, make

    @classmethod
    async def stand(cls, etcd: Etcd, make: str, election: str, value: str) -> Rival:
        """Starts it and lets it stand; `election` is the prefix of the keys without the last slash."""
        if make == "etcdctl":
            command = [etcd.tools.etcdctl, f"--endpoints={etcd.endpoint}", "elect", election, value]
        else:
            command = [etcd.tools.peer, make, etcd.endpoint, election, value, "2"]
        rival = cls(await start(*command, stderr=asyncio.subprocess.DEVNULL), make)
        if make != "etcdctl":
            rival.order("campaign")
        return rival

    def order(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())

    async def says(self) -> str:
        """The next thing of note: `elected`, `resigned`, or an error."""
        assert self.process.stdout is not None
        while line := (await self.process.stdout.readline()).decode().rstrip("\n"):
            if self.make == "etcdctl":
                # The key, and on the next line the value.
                await self.process.stdout.readline()
                return "elected"
            word = line.split()[0]
            if word != "ready":
                return line if word == "error" else word
        raise Failure(f"the {self.make} candidate ended")

    async def resign(self) -> None:
        """etcdctl resigns when it is interrupted."""
        if self.make == "etcdctl":
            self.process.send_signal(signal.SIGINT)
            await self.process.wait()
        else:
            self.order("resign")
