"""What the tests use. `make test-python` sets ETCD_ENDPOINTS, an etcd that all may use, and ETCD and ETCDCTL, the
programs."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Callable, TypedDict

import tenure

ROOT = pathlib.Path(__file__).resolve().parents[3]
ETCD_ENDPOINTS = os.environ["ETCD_ENDPOINTS"]

# Longer than anything takes that works, also on a busy machine.
LONG = 20.0


class Place(TypedDict):
    """Where elections are: arguments of a service."""

    endpoints: str
    prefix: str


def eventually(look: Callable[[], Any], within: float = LONG) -> Any:
    """What `look` returns, once that is true: for what can't be waited for."""
    until = time.monotonic() + within
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < until, f"not within {within} s"
        time.sleep(0.01)


def closed_campaign(service: tenure.Service, election: str) -> tenure.Campaign:
    """A campaign that is over."""
    campaign = service.campaign(election)
    campaign.resign()
    list(campaign)
    return campaign


def closes(service: tenure.Service) -> bool:
    """Whether a service can be closed already."""
    try:
        service.close()
    except tenure.PendingError:
        return False
    return True


def state(stat: pathlib.Path) -> str:
    """S sleeps, R runs, T is stopped: of the process or thread whose file in /proc this is."""
    return stat.read_text().rsplit(")", 1)[1].split()[0]


class Etcd:
    """An etcd of one test's own, to be stopped or protected by passwords."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="tenure-python-")
        self.client = f"http://127.0.0.1:{free_port()}"
        peer = f"http://127.0.0.1:{free_port()}"
        command = ["setpriv", "--pdeathsig", "KILL", "--", os.environ["ETCD"], "--data-dir", self.folder.name]
        command += ["--listen-client-urls", self.client, "--advertise-client-urls", self.client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", f"default={peer}", "--log-outputs=stderr"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "serving client traffic" in line:
                break
        else:
            raise AssertionError("etcd ended")
        self.reader = threading.Thread(target=self.process.stderr.read, daemon=True)
        self.reader.start()

    def control(self, *arguments: str) -> str:
        """etcdctl, as the administrator."""
        command = [os.environ["ETCDCTL"], "--endpoints", self.client, *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=LONG).stdout

    def freeze(self) -> None:
        """From now on it answers nothing."""
        self.process.send_signal(signal.SIGSTOP)
        # A thread that runs on another processor goes on until the signal gets there.
        threads = pathlib.Path(f"/proc/{self.process.pid}/task")
        eventually(lambda: all(state(thread / "stat") == "T" for thread in threads.iterdir()))

    def thaw(self) -> None:
        """It goes on."""
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()
        self.reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()
        self.folder.cleanup()


def free_port() -> int:
    """As tests/tools/with_etcd.py finds one."""
    import with_etcd

    return int(with_etcd.free_port())


def python(program: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """A Python of its own that runs a program, whose warnings are errors."""
    command = [sys.executable, "-W", "error", "-c", program, *arguments]
    environment = {**os.environ, **variables}
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def outcome(child: subprocess.Popen[str], within: float = LONG) -> tuple[int, str, str]:
    """How it ended, and what it said. A child that hangs is killed, and shows where it hung."""
    try:
        out, err = child.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGABRT)
        out, err = child.communicate()
        raise AssertionError(f"it hangs:\n{out}\n{err}") from None
    return child.returncode, out, err


def run(program: str, *arguments: str, **variables: str) -> str:
    """Runs a program in a fresh Python; it must end well, and silently on stderr."""
    status, out, err = outcome(python(program, *arguments, **variables))
    assert (status, err) == (0, ""), f"status {status}\n{out}\n{err}"
    return out


def names(statuses: list[tenure.Status]) -> list[str]:
    """Their states."""
    return [status.state.name for status in statuses]


def found(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text)
    assert match, f"no {pattern} in {text!r}"
    return match
