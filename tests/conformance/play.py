"""Plays one scenario with drivers of given languages, and writes down what they said."""

from __future__ import annotations

import asyncio
import collections
import hashlib
import json
import re
import signal
import socket
import time
from pathlib import Path
from typing import Any, Callable, NamedTuple

import stage
from stage import Etcd, Failure, Rival

# Json as it comes from scenarios and drivers.
Json = dict[str, Any]

# For anything that must happen. Busy machines are slow, and nothing waits for as long that goes well.
LIMIT_S = 30.0

MAKERS = {"open", "campaign", "observe"}
SERVICE_CALLS = {"campaign", "observe", "leader", "candidates"}
# What is misspelt would check nothing.
SCENARIO_KEYS = {"name", "services", "on", "server", "needs", "steps"}
STEP_KEYS = {"do", "on", "new", "process", "election", "options", "value", "timeout_ms", "inside", "calls", "tag"}
STEP_KEYS |= {
    "fails",
    "says",
    "gives",
    "eventually",
    "await",
    "see",
    "ignore",
    "make",
    "key",
    "place",
    "ttl_s",
    "at_least_ms",
}


def documented() -> dict[str, bool]:
    """The names of errors, and whether they are retriable, as the documentation says."""
    page = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()
    rows = re.findall(r"^\| *\d+ \| `(\w+)` \|[^|]*\| *(yes)? *\|", page, re.MULTILINE)
    return {name: retriable == "yes" for name, retriable in rows}


DOCUMENTED = documented()


class Language(NamedTuple):
    """A driver, and what its language has no way to say."""

    name: str
    command: list[str]
    lacks: frozenset[str]


class Scenario:
    """A scenario as it is in the file."""

    def __init__(self, theme: str, content: Json) -> None:
        self.name = f"{theme}: {content['name']}"
        unknown = content.keys() - SCENARIO_KEYS
        for step in content["steps"]:
            unknown |= step.keys() - STEP_KEYS
        if unknown:
            raise Failure(f"{self.name}: nothing is known of {', '.join(sorted(unknown))}")
        self.services: dict[str, Json] = content.get("services", {"a": {}})
        self.stores: list[str] = content.get("on", ["memory", "etcd"])
        self.server: str = content.get("server", "shared")
        self.needs = frozenset(content.get("needs", []))
        self.steps: list[Json] = content["steps"]

    def needs_server(self) -> bool:
        """A server of its own, to be treated badly."""
        return self.server.split()[0] == "own"

    def processes(self) -> list[str]:
        """Who has a process of its own, where there is a server."""
        opened = [step["new"] for step in self.steps if step.get("do") == "open"]
        return list(dict.fromkeys([*self.services, *opened]))


def read(folder: Path) -> list[Scenario]:
    """All scenarios."""
    scenarios = []
    for path in sorted(folder.glob("*.json")):
        scenarios += [Scenario(path.stem, content) for content in json.loads(path.read_text())]
    names = collections.Counter(scenario.name for scenario in scenarios)
    for name, count in names.items():
        if count > 1:
            raise Failure(f"{count} scenarios have the name {name}")
    return scenarios


def to_bytes(text: str | Json) -> bytes:
    """Text, or {"bytes": hexadecimal}, or {"repeat": text, "times": number}."""
    if isinstance(text, str):
        return text.encode()
    return bytes.fromhex(text["bytes"]) if "bytes" in text else text["repeat"].encode() * int(text["times"])


def shown(value: bytes) -> str:
    """Bytes for the transcript."""
    if len(value) > 200:
        return f"<{len(value)} bytes, SHA-256 {hashlib.sha256(value).hexdigest()}>"
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"<bytes {value.hex()}>"


class Driver:
    """The process of one driver."""

    def __init__(self, language: Language, process: asyncio.subprocess.Process) -> None:
        self.language, self.process = language, process
        self.answers: dict[int, asyncio.Future[Json]] = {}
        self.events: dict[str, collections.deque[Json]] = collections.defaultdict(collections.deque)
        self.news = asyncio.Condition()
        self.ended: str | None = None
        self.reader = asyncio.create_task(self.read())

    @classmethod
    async def start(cls, language: Language) -> Driver:
        return cls(language, await stage.start(*language.command))

    async def read(self) -> None:
        assert self.process.stdout is not None
        try:
            async for line in self.process.stdout:
                said: Json = json.loads(line)
                async with self.news:
                    if "event" in said:
                        self.events[said["handle"]].append(said)
                        self.news.notify_all()
                    elif "id" in said:
                        self.answers[said["id"]].set_result(said)
        finally:
            code = await self.process.wait()
            self.ended = f"the driver for {self.language.name} ended with {code}"
            async with self.news:
                self.news.notify_all()
            for answer in self.answers.values():
                if not answer.done():
                    answer.set_exception(Failure(self.ended))
                    # Nobody may be waiting for it.
                    answer.exception()

    def send(self, request: Json) -> None:
        assert self.process.stdin is not None
        if self.ended:
            raise Failure(self.ended)
        self.process.stdin.write(json.dumps(request).encode() + b"\n")

    async def event(self, handle: str) -> Json:
        async with self.news:
            await self.news.wait_for(lambda: self.events[handle] or self.ended)
        if self.events[handle]:
            return self.events[handle].popleft()
        raise Failure(str(self.ended))


class Run:
    """One scenario, one store, a language for each process."""

    def __init__(self, scenario: Scenario, store: str, cast: list[Language], number: int) -> None:
        self.scenario, self.store, self.cast = scenario, store, cast
        # Keys of this run only: so many may share a server.
        self.root = f"{stage.KEYS}{number}"
        self.drivers: dict[str, Driver] = {}
        self.owners: dict[str, Driver] = {}
        self.open_services: list[str] = []
        self.rivals: dict[str, Rival] = {}
        self.tags: dict[str, tuple[Json, int, Driver]] = {}
        self.places: dict[str, str] = {}
        self.etcd: Etcd | None = None
        self.ids = 0
        self.transcript: list[Json] = []
        # Tokens that were named in the scenario: rank and number.
        self.ranks: list[tuple[int, int]] = []
        # Whose events are not looked at.
        self.ignored: set[str] = set()
        self.histories: dict[str, list[Json]] = collections.defaultdict(list)

    async def play(self, servers: dict[str, Etcd], certificates: stage.Certificates, tools: stage.Tools) -> list[Json]:
        """The transcript, the same whoever plays."""
        self.etcd = servers.get(self.scenario.server)
        self.places = {
            "$root": self.root,
            "$authority": str(certificates.authority),
            "$certificate": str(certificates.certificate),
            "$key": str(certificates.key),
        }
        own = None
        try:
            if self.scenario.needs_server():
                own = self.etcd = await Etcd.own(tools, self.scenario.server.split()[1:])
            if self.etcd is not None:
                self.places["$endpoint"] = self.etcd.endpoint
                self.places["$address"] = self.etcd.endpoint.split("://")[1]
            opened = [{"do": "open", "new": name, "options": set} for name, set in self.scenario.services.items()]
            for step in opened + self.scenario.steps:
                try:
                    await asyncio.wait_for(self.step(step), LIMIT_S)
                except asyncio.TimeoutError:
                    raise Failure(f"{json.dumps(step)}: nothing within {LIMIT_S:g} s") from None
                except Failure as failure:
                    raise Failure(f"{json.dumps(step)}: {failure}") from None
            await asyncio.wait_for(self.finish(), LIMIT_S)
        finally:
            for driver in self.drivers.values():
                await stage.end(driver.process)
                await asyncio.gather(driver.reader, return_exceptions=True)
            for rival in self.rivals.values():
                await stage.end(rival.process)
            if own is not None:
                await own.end()
        self.check_histories()
        return self.normalised()

    async def finish(self) -> None:
        """All services are closed, all drivers end by themselves, and nothing was said that nobody expected."""
        for handle, driver in self.owners.items():
            if driver.events[handle] and handle not in self.ignored:
                raise Failure(f"{handle}: nobody expected {json.dumps(driver.events[handle][0])}")
        for tag in self.tags:
            raise Failure(f"nothing awaits {tag}")
        for service in list(self.open_services):
            await self.step({"do": "close", "on": service})
        for driver in self.drivers.values():
            if driver.ended:
                continue
            assert driver.process.stdin is not None
            driver.process.stdin.close()
            if await driver.process.wait() != 0:
                raise Failure(f"the driver for {driver.language.name} ended with {driver.process.returncode}")
            await driver.reader
        for handle, driver in self.owners.items():
            while driver.events[handle] and handle not in self.ignored:
                event = driver.events[handle].popleft()
                self.histories[handle].append(event)
                # Others may have closed first, which an observer may see or not.
                if event["event"] == "status" or event["closed"]:
                    self.note_event(handle, event)

    async def driver_of(self, service: str, process: str | None) -> Driver:
        """A memory store is inside of a process, so there all are in one."""
        name = "all" if self.store == "memory" else process or service
        if name not in self.drivers:
            language = self.cast[len(self.drivers) % len(self.cast)]
            self.drivers[name] = await Driver.start(language)
        return self.drivers[name]

    # Steps.

    async def step(self, step: Json) -> None:
        if "see" in step:
            for handle, *expected in step["see"]:
                await self.see(handle, *expected)
        elif "ignore" in step:
            self.ignored.update(step["ignore"])
        elif "await" in step:
            request, number, driver = self.tags.pop(step["await"])
            self.check_answer({**request, **step}, await driver.answers[number])
        elif hasattr(self, f"do_{step['do']}"):
            await getattr(self, f"do_{step['do']}")(step)
        else:
            await self.call(step)

    async def call(self, step: Json) -> None:
        if step["do"] == "open":
            driver = await self.driver_of(step["new"], step.get("process"))
        else:
            driver = self.owners[step["on"]]
        request = self.request(step, driver)
        if "tag" in step:
            driver.send({**request, "beside": True})
            return
        start = time.monotonic()
        driver.send(request)
        answer = await driver.answers[request["id"]]
        took_ms = (time.monotonic() - start) * 1000
        if took_ms < step.get("at_least_ms", 0):
            raise Failure(f"answered after {took_ms:.0f} ms")
        while step.get("eventually") and not self.holds(self.check_answer, step, answer):
            # Nothing tells that a candidate has its place in the queue.
            await asyncio.sleep(0.005)
            request = self.request(step, driver)
            driver.send(request)
            answer = await driver.answers[request["id"]]
        self.check_answer(step, answer)
        if step["do"] == "open" and "value" in answer:
            self.open_services.append(step["new"])
        if step["do"] in ("close", "free") and "value" in answer and step["on"] in self.open_services:
            self.open_services.remove(step["on"])

    def request(self, step: Json, driver: Driver) -> Json:
        """A step as the driver is asked for it; its answer can be waited for from now on."""
        self.ids += 1
        request: Json = {"id": self.ids, "call": step["do"]}
        driver.answers[self.ids] = asyncio.get_running_loop().create_future()
        if "tag" in step:
            self.tags[step["tag"]] = (step, self.ids, driver)
        if step["do"] in MAKERS:
            request["handle"] = step["new"]
            self.owners[step["new"]] = driver
        if step["do"] in SERVICE_CALLS:
            request["service"] = step["on"]
        elif "on" in step:
            request["handle"] = step["on"]
        if step["do"] in ("open", "campaign"):
            options = self.defaults(step) if step["do"] == "open" else {}
            options.update(step.get("options", {}))
            pairs = [(name, value) for name, value in options.items() if value is not None]
            request["options"] = [[self.wire(name), self.wire(value)] for name, value in pairs]
        for key in ("election", "value"):
            if key in step:
                request[key] = self.wire(step[key])
        if "timeout_ms" in step:
            request["timeout_ms"] = step["timeout_ms"]
        if "inside" in step:
            request["inside"] = {
                state: [self.request(inner, driver) for inner in inners] for state, inners in step["inside"].items()
            }
        if "calls" in step:
            request["requests"] = [self.request(inner, driver) for inner in step["calls"]]
        return request

    def defaults(self, step: Json) -> Json:
        if self.store == "memory":
            return {"endpoints": f"memory://{self.root}", "root": "$root", "service": "billing"}
        assert self.etcd is not None
        return {"endpoints": self.etcd.endpoint, "root": "$root", "service": "billing"}

    def wire(self, text: str | Json) -> str:
        """Bytes travel as text: each byte is the character of that number."""
        if isinstance(text, str):
            for name, place in self.places.items():
                text = text.replace(name, place)
        return to_bytes(text).decode("latin-1")

    async def see(self, handle: str, expected: Any, fields: Json | None = None) -> None:
        if handle in self.rivals:
            line = await self.rivals[handle].says()
            if line != expected:
                raise Failure(f"{handle}: expected {expected}, got {line}")
            self.transcript.append({"rival": handle, "says": line})
            return
        wanted = dict(fields or {})
        # An observer tells a state: how often on the way to another one may differ.
        eventually = wanted.pop("eventually", expected == "closed")
        said = await self.owners[handle].event(handle)
        while eventually and not self.holds(self.check_event, said, handle, expected, wanted):
            said = await self.owners[handle].event(handle)
        self.histories[handle].append(said)
        self.check_event(said, handle, expected, wanted)

    def holds(self, check: Callable[..., None], *arguments: Any) -> bool:
        """Whether a check would pass; it leaves nothing in the transcript."""
        lines, ranks = len(self.transcript), len(self.ranks)
        try:
            check(*arguments)
            return True
        except Failure:
            return False
        finally:
            del self.transcript[lines:], self.ranks[ranks:]

    def check_event(self, said: Json, handle: str, expected: Any, fields: Json) -> None:
        event, wanted = self.note_event(handle, said), dict(fields)
        if event["event"] == "status":
            wanted["state"] = expected
        elif expected == "closed":
            wanted["closed"] = True
        elif expected is None:
            wanted["leader"] = None
        else:
            if expected == "$host":
                expected = socket.gethostname()
            # The token and such are the leader's.
            own = {key: wanted.pop(key) for key in list(wanted) if key in ("token", "key")}
            wanted["leader"] = {"value": expected, **own}
        self.compare(wanted, event, handle)

    def compare(self, expected: Any, actual: Any, what: str) -> None:
        """Whether all that is expected is there; a token is expected by its rank in the scenario."""
        if isinstance(expected, dict) and isinstance(actual, dict):
            for key, value in expected.items():
                if key == "token":
                    self.compare_token(value, actual[key], what)
                else:
                    self.compare(value, actual.get(key), f"{what}, {key}")
        elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
            for i, (one, other) in enumerate(zip(expected, actual)):
                self.compare(one, other, f"{what}[{i}]")
        elif expected != actual:
            raise Failure(f"{what}: expected {json.dumps(expected)}, got {json.dumps(actual)}")

    def compare_token(self, rank: int, token: int, what: str) -> None:
        if (rank == 0) != (token == 0):
            raise Failure(f"{what}: expected token {rank}, got {token}")
        self.ranks.append((rank, token))

    def check_answer(self, step: Json, answer: Json) -> None:
        call = step["do"]
        if "error" in answer:
            allowed = step.get("fails", "success")
            error = allowed if answer["error"] in allowed and isinstance(allowed, list) else answer["error"]
            line = {"error": error, "retriable": answer["retriable"], "message": bool(answer["message"])}
            self.transcript.append({"call": call, "on": step.get("on"), **line})
            if DOCUMENTED.get(answer["error"]) != answer["retriable"]:
                raise Failure(f"not as in docs/errors.md: {json.dumps(answer)}")
            if error != allowed:
                raise Failure(f"expected {allowed}, got {answer['error']}: {answer['message']}")
            for part in step.get("says", []):
                if part not in answer["message"]:
                    raise Failure(f"{part} is not named by: {answer['message']}")
            return
        value = answer["value"]
        if call == "leader":
            value = self.candidate(value)
        elif call == "candidates":
            value = [self.candidate(one) for one in value]
        elif call == "remaining":
            value = value if value == 0 else "some" if value > 0 else "below 0"
        line = {"token": value} if call == "token" else {"value": value}
        self.transcript.append({"call": call, "on": step.get("on"), **line})
        if "fails" in step:
            raise Failure(f"expected {step['fails']}, got success: {json.dumps(value)}")
        expected = step.get("gives", 0 if call == "fork" else None)
        if call == "token":
            self.compare_token(step["gives"], value, "token")
        else:
            self.compare(expected, value, call)

    def candidate(self, candidate: Json) -> Json:
        # A stranger's key may have no lease.
        lease, key = f"{candidate['lease']:x}" if candidate["lease"] else "", candidate["key"]
        if lease and not key.endswith(f"/{lease}"):
            raise Failure(f"the key {key} is not that of lease {lease}")
        return {
            "value": shown(candidate["value"].encode("latin-1")),
            "token": candidate["token"],
            "key": shown(key.removesuffix(lease).replace(self.root, "$root").encode("latin-1")),
        }

    def note_event(self, handle: str, event: Json) -> Json:
        """An event for the transcript: without what is different each time."""
        noted: Json = {"event": event["event"], "on": handle}
        for key in ("sequence", "election", "reason", "cluster"):
            noted[key] = event[key]
        noted["message"] = bool(event["message"])
        if event["event"] == "status":
            noted.update({"state": event["state"], "at_risk": event["at_risk"], "token": event["token"]})
            noted["value"] = shown(event["value"].encode("latin-1"))
            noted["deadline"] = bool(event["deadline_ns"])
        else:
            noted["closed"] = event["closed"]
            # With the last event they are the last ones known.
            if not event["closed"]:
                noted["connected"] = event["connected"]
                noted["leader"] = event["leader"] and self.candidate(event["leader"])
            # Newer ones take the place of unread ones.
            del noted["sequence"]
        self.transcript.append(noted)
        return noted

    # What happens around.

    async def do_rival(self, step: Json) -> None:
        assert self.etcd is not None
        election = self.prefix(step)[:-1]
        self.rivals[step["new"]] = await Rival.stand(self.etcd, step["make"], election, step["new"])

    async def do_rival_resigns(self, step: Json) -> None:
        await self.rivals[step["on"]].resign()

    async def do_rival_is_killed(self, step: Json) -> None:
        await stage.end(self.rivals[step["on"]].process)

    async def do_kill(self, step: Json) -> None:
        driver = self.owners[step["on"]]
        await stage.end(driver.process)
        await driver.reader
        self.open_services = [service for service in self.open_services if self.owners[service] is not driver]

    async def do_freeze(self, step: Json) -> None:
        await stage.freeze(self.owners[step["on"]].process)

    async def do_thaw(self, step: Json) -> None:
        self.owners[step["on"]].process.send_signal(signal.SIGCONT)

    async def do_freeze_past_deadline(self, step: Json) -> None:
        """Until the term of the campaign given is over; the time has to pass, there is nothing else to wait for."""
        deadline_ns = self.histories[step["on"]][-1]["deadline_ns"]
        await self.do_freeze(step)
        # A renewal may have come since, one more time to live.
        left_s = (deadline_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) / 1e9
        await asyncio.sleep(max(0.0, left_s) + step["ttl_s"])
        await self.do_thaw(step)

    async def do_delete_key(self, step: Json) -> None:
        """An administrator deletes the key of the candidate at a place of the queue."""
        assert self.etcd is not None
        key, _ = await self.etcd.candidate(self.prefix(step), step.get("place", 0))
        await self.etcd.delete(key)

    async def do_revoke_lease(self, step: Json) -> None:
        assert self.etcd is not None
        _, lease = await self.etcd.candidate(self.prefix(step), step.get("place", 0))
        await self.etcd.revoke(lease)

    async def do_put_key(self, step: Json) -> None:
        assert self.etcd is not None
        await self.etcd.put(step["key"].replace("$root", self.root), "a stranger's")

    async def do_freeze_server(self, _step: Json) -> None:
        assert self.etcd is not None
        await self.etcd.freeze()

    async def do_thaw_server(self, _step: Json) -> None:
        assert self.etcd is not None
        self.etcd.thaw()

    async def do_replace_server(self, _step: Json) -> None:
        assert self.etcd is not None
        await self.etcd.replace()

    def prefix(self, step: Json) -> str:
        return f"{self.root}/billing/{step.get('election', 'default')}/"

    # What holds in every scenario.

    def check_histories(self) -> None:
        for handle, history in self.histories.items():
            try:
                times = [0, *(event["time_ns"] for event in history), time.clock_gettime_ns(time.CLOCK_BOOTTIME)]
                if times != sorted(times) or times[1] == 0:
                    raise Failure("the times of its events fall")
                if history[0]["event"] == "status":
                    self.check_campaign(history, self.owners[handle].process.returncode == 0)
                else:
                    self.check_observer(history, self.owners[handle].process.returncode == 0)
            except Failure as failure:
                raise Failure(f"{handle}: {failure}; its events: {json.dumps(history)}") from None

    @staticmethod
    def check_campaign(history: list[Json], ended_well: bool) -> None:
        states = [event["state"] for event in history]
        if states[0] != "FOLLOWER":
            raise Failure("the first event is not FOLLOWER")
        if ended_well and states[-1] != "CLOSED" or "CLOSED" in states[:-1]:
            raise Failure("CLOSED is not the last event")
        sequence, token, leads = 0, 0, False
        for event in history:
            if event["sequence"] <= sequence:
                raise Failure("the sequence falls")
            sequence = event["sequence"]
            if event["state"] == "LEADER":
                if leads != (event["token"] == token):
                    raise Failure("a term has not one token, or is told without a loss before it")
                if event["token"] < token or event["deadline_ns"] <= 0:
                    raise Failure("LEADER with a token or deadline of the past")
                token = event["token"]
            elif event["deadline_ns"] != 0:
                raise Failure("a deadline without leadership")
            leads = event["state"] == "LEADER"

    @staticmethod
    def check_observer(history: list[Json], ended_well: bool) -> None:
        closed = [event["closed"] for event in history]
        if ended_well and not closed[-1] or any(closed[:-1]):
            raise Failure("closed is not the last event")
        changed = any(event["reason"] == "CLUSTER_CHANGED" for event in history)
        revisions = [event["revision"] for event in history if event["revision"]]
        if revisions != sorted(revisions) and not changed:
            raise Failure("revisions fall")

    def normalised(self) -> list[Json]:
        """Tokens become ranks, the lowest of the scenario is 1."""
        found: set[int] = set()

        def collect(line: Any) -> None:
            if isinstance(line, dict):
                if isinstance(line.get("token"), int):
                    found.add(line["token"])
                for value in line.values():
                    collect(value)
            elif isinstance(line, list):
                for value in line:
                    collect(value)

        def ranked(line: Any) -> Any:
            if isinstance(line, dict):
                return {key: ranks[value] if key == "token" else ranked(value) for key, value in line.items()}
            return [ranked(value) for value in line] if isinstance(line, list) else line

        collect(self.transcript)
        found.discard(0)
        ranks = {0: 0, **{token: rank for rank, token in enumerate(sorted(found), start=1)}}
        for rank, token in self.ranks:
            if ranks[token] != rank:
                raise Failure(f"token {rank} of the scenario has rank {ranks[token]} of {sorted(found)}")
        normalised: list[Json] = ranked(self.transcript)
        return normalised
