"""The examples do what they say, and what those in C do; so does the program that the pages show."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

import tenure
from support import ETCD_ENDPOINTS, LONG, ROOT, Place, found, outcome, run

EXAMPLES = ROOT / "examples" / "python"
DEMO_OK = r"demo: ok, (\d+) leaders, hand-over [\d.]+ ms, take-over after kill [\d.]+ s, overlap 0 ms"


def start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(EXAMPLES / words[0]), *words[1:]]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )


def lines_of(*words: str, status: int = 0) -> list[str]:
    ended, out, err = outcome(start(*words), 60)
    assert ended == status, f"{out}\n{err}"
    return out.splitlines()


def test_a_worker_elects_itself_without_a_server() -> None:
    lines = lines_of("worker.py", "--endpoints", "memory://trial", "--for", "1")
    states = [found(r"state=(\w+)", line)[1] for line in lines if line.startswith("event ")]
    assert states == ["FOLLOWER", "LEADER", "CLOSED"]
    begun, ended = (
        found(r"^claim start_ns=(\d+) end_ns=(\d+) token=(\d+)$", line).groups()
        for line in lines
        if line.startswith("claim ")
    )
    assert (begun[0], begun[2]) == (ended[0], ended[2])
    assert int(ended[1]) - int(ended[0]) > 500_000_000


def test_a_worker_names_the_option_that_is_wrong() -> None:
    assert lines_of("worker.py", "--ttl", "1s", status=1) == []
    assert lines_of("worker.py", "--option", "tll=5s", status=1) == []
    assert lines_of("worker.py", "--for", "never", status=2) == []


def test_a_worker_obeys(tmp_path: pathlib.Path) -> None:
    claims = tmp_path / "claims"
    service = f"obey-{os.getpid()}"
    child = start("worker.py", "--endpoints", ETCD_ENDPOINTS, "--service", service, "--claims", str(claims))
    assert child.stdin is not None and child.stdout is not None

    watchdog = threading.Timer(60, child.kill)
    watchdog.start()
    heard: list[str] = []

    def said(pattern: str) -> str:
        """A line since the last order, which may have come before others."""
        assert child.stdout is not None
        while not any(re.match(pattern, line) for line in heard):
            heard.append(child.stdout.readline())
            assert heard[-1], f"it never says {pattern}: {heard}"
        return next(line for line in heard if re.match(pattern, line))

    def order(command: str) -> None:
        assert child.stdin is not None
        heard.clear()
        child.stdin.write(f"{command}\n")

    said("event .* state=LEADER ")
    order("candidates")
    assert " place=1 " in said("candidate ")
    said("candidates .* code=OK count=1")
    order("resign")
    said("resign .* code=OK")
    said("event .* state=CLOSED ")
    order("what")
    order("campaign")
    said("campaign .* code=OK")
    said("event .* state=LEADER ")
    child.send_signal(signal.SIGTERM)
    status, _, err = outcome(child)
    watchdog.cancel()
    assert (status, "unknown command `what`" in err) == (0, True)
    rows = claims.read_text().splitlines(keepends=True)
    assert len(rows) == 2 and all(len(row) == 64 for row in rows)
    tokens = [int(row.split()[2]) for row in rows]
    assert tokens == sorted(set(tokens))


def test_the_demo_runs_with_it() -> None:
    command = [sys.executable, str(ROOT / "examples" / "demo.py"), "--worker", str(EXAMPLES / "worker.py")]
    command += ["--etcdctl", os.environ["ETCDCTL"], "--endpoint", ETCD_ENDPOINTS]
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        command,
        check=False,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stdout
    assert re.fullmatch(DEMO_OK, ended.stdout.splitlines()[-1]), ended.stdout


def test_the_observer_tells_every_leader() -> None:
    service = f"observed-{os.getpid()}"
    child = start(
        "observer.py", "--endpoints", ETCD_ENDPOINTS, "--service", service, "--election", "x", "--changes", "3"
    )
    assert child.stdout is not None
    assert re.fullmatch(r"revision=\d+ nobody\n", child.stdout.readline())
    with tenure.Service(endpoints=ETCD_ENDPOINTS, service=service) as own, own.campaign("x", value=b"me") as campaign:
        campaign.wait_for_leadership(LONG)
        assert re.fullmatch(rf"revision=\d+ leader token={campaign.token} value=me\n", child.stdout.readline())
        campaign.resign()
    status, out, _ = outcome(child)
    assert status == 0 and re.fullmatch(r"revision=\d+ nobody\n", out)


def test_the_observer_ends_by_ctrl_c(place: Place) -> None:
    child = start("observer.py", "--endpoints", place["endpoints"], "--election", f"c-{os.getpid()}")
    assert child.stdout is not None and "nobody" in child.stdout.readline()
    child.send_signal(signal.SIGINT)
    assert outcome(child)[0] == 0


def test_a_late_write_is_fenced_off(tmp_path: pathlib.Path) -> None:
    ledger = tmp_path / "ledger"
    lines = lines_of("fencing.py", ETCD_ENDPOINTS, str(ledger))
    assert re.fullmatch(r"first: refused, token \d+ is older than \d+", lines[-1])
    highest, *rows = ledger.read_text().splitlines()
    tokens = [int(row.split()[0]) for row in rows]
    words = [row.split(maxsplit=1)[1] for row in rows]
    assert words == ["the first leader was here", "the second leader was here"]
    assert (sorted(tokens), tokens[-1]) == (tokens, int(highest))
    assert lines_of("fencing.py", "memory://x", str(ledger), status=2) == []


def programs(page: pathlib.Path) -> list[str]:
    """The Python programs that a page shows."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)


# On a busy machine the library may have something to say.
SURROUNDINGS = """
import logging
logging.getLogger("tenure").setLevel(logging.CRITICAL)
def step(fencing_token): campaign.resign()
"""


def test_the_pages_show_what_works() -> None:
    shown = programs(ROOT / "docs" / "python.md")
    assert len(shown) >= 8
    readmes = [ROOT / "README.md", ROOT / "bindings" / "python" / "README.md"]
    for program in [*shown, *(program for page in readmes for program in programs(page))]:
        program = program.replace('"http://127.0.0.1:2379"', f'"{ETCD_ENDPOINTS}"')
        run(SURROUNDINGS + program)
