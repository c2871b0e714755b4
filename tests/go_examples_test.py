#!/usr/bin/env python3
"""The examples in Go do what they say, and the worker is the one in C to whoever watches it.

Run by `make test-go-examples`, with an etcd at ETCD_ENDPOINTS, its etcdctl in ETCDCTL, the programs in
TENURE_GO_EXAMPLES and those in C in TENURE_EXAMPLES.
"""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import unittest

PROGRAMS = pathlib.Path(os.environ["TENURE_GO_EXAMPLES"])
C_WORKER = pathlib.Path(os.environ["TENURE_EXAMPLES"]) / "worker"
DEMO = pathlib.Path(__file__).resolve().parent.parent / "examples" / "demo.py"
ENDPOINTS = os.environ["ETCD_ENDPOINTS"]


def run(*command: str | pathlib.Path, status: int = 0, typed: str = "") -> list[str]:
    """The lines that a program prints; it must end with this status."""
    ended = subprocess.run(
        [str(word) for word in command],
        input=typed,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    if ended.returncode != status:
        raise AssertionError(f"{command}: status {ended.returncode}\n{ended.stdout}{ended.stderr}")
    return ended.stdout.splitlines()


def shapes(lines: list[str]) -> list[str]:
    """Lines without what differs from run to run. Sorted: claims and events come from different threads."""
    return sorted(re.sub(r"\b[1-9][0-9]*\b", "N", re.sub(r"sequence=(\d)\b", r"sequence=#\1", line)) for line in lines)


class Worker(unittest.TestCase):
    def assert_alike(self, *arguments: str, typed: str = "", status: int = 0) -> list[str]:
        in_c, in_go = (
            run(worker, *arguments, typed=typed, status=status) for worker in (C_WORKER, PROGRAMS / "worker")
        )
        self.assertEqual(shapes(in_go), shapes(in_c))
        return in_go

    def test_it_elects_itself_without_a_server(self) -> None:
        lines = self.assert_alike("--endpoints", "memory://trial", "--for", "1")
        states = [re.findall(r"state=(\w+)", line)[0] for line in lines if line.startswith("event ")]
        self.assertEqual(states, ["FOLLOWER", "LEADER", "CLOSED"])
        claims = [line.split() for line in lines if line.startswith("claim ")]
        self.assertEqual(len(claims), 2)
        start, end = (int(claims[1][place].split("=")[1]) for place in (1, 2))
        self.assertGreater(end - start, 500_000_000)

    def test_it_obeys_as_the_one_in_c_does(self) -> None:
        for commands in ("quit\n", "candidates\nresign\nresign\ncandidates\nquit\n", "campaign\nnonsense\n\nquit\n"):
            # Waiting behind a leader, so that nothing depends on when it is elected.
            leader = subprocess.Popen(
                [PROGRAMS / "worker", "--endpoints", ENDPOINTS, "--service", "obeys", "--value", "the leader"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert leader.stdout is not None
            while "state=LEADER" not in leader.stdout.readline():
                self.assertIsNone(leader.poll())
            arguments = ("--endpoints", ENDPOINTS, "--service", "obeys", "--value", "a\tb")
            self.assert_alike(*arguments, typed=commands)
            leader.send_signal(signal.SIGINT)
            leader.communicate(timeout=30)
            self.assertEqual(leader.returncode, 0)

    def test_it_refuses_what_the_one_in_c_refuses(self) -> None:
        for arguments in (
            ("--ttl", "1s"),
            ("--option", "tll=5s"),
            ("--option", "ttl"),
            ("--for", "never"),
            ("--for", "0"),
            ("--poll-us", "0"),
            ("--claims", "/nonexistent/claims"),
            ("--endpoints",),
            ("--unknown",),
            ("more",),
        ):
            self.assert_alike(*arguments, status=1)

    def test_claims_outlive_it(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "claims")
            run(PROGRAMS / "worker", "--endpoints", "memory://claims", "--for", "1", "--claims", path)
            rows = path.read_text()
            self.assertRegex(rows, r"^ *\d+ +\d+ +\d+\n$")
            self.assertEqual(len(rows), 64)

    def test_the_demo_goes_well_with_it(self) -> None:
        command = [sys.executable, DEMO, "--worker", PROGRAMS / "worker", "--etcdctl", os.environ["ETCDCTL"]]
        lines = run(*command)
        self.assertRegex(lines[-1], r"^demo: ok, \d+ leaders, .* overlap 0 ms$", "\n".join(lines))


class Others(unittest.TestCase):
    def test_a_late_write_is_fenced_off(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            ledger = pathlib.Path(folder, "ledger")
            lines = run(PROGRAMS / "fencing", ENDPOINTS, ledger)
            self.assertRegex(lines[-1], r"^first: refused, token \d+ is older than \d+$")
            highest, *rows = ledger.read_text().splitlines()
            tokens = [int(row.split()[0]) for row in rows]
            self.assertEqual(
                [row.split(maxsplit=1)[1] for row in rows], ["the first leader was here", "the second leader was here"]
            )
            self.assertEqual((sorted(tokens), tokens[-1]), (tokens, int(highest)))

    def test_an_observer_sees_a_leader_come_and_go(self) -> None:
        observer = subprocess.Popen(
            [PROGRAMS / "observer", ENDPOINTS, "observed", "e"], stdout=subprocess.PIPE, text=True
        )
        assert observer.stdout is not None
        self.assertEqual(observer.stdout.readline(), "nobody leads\n")
        arguments = ("--endpoints", ENDPOINTS, "--service", "observed", "--election", "e", "--value", "me")
        run(PROGRAMS / "worker", *arguments, "--for", "1")
        self.assertRegex(observer.stdout.readline(), r"^me leads with token \d+\n$")
        self.assertEqual(observer.stdout.readline(), "nobody leads\n")
        observer.send_signal(signal.SIGTERM)
        observer.communicate(timeout=30)
        self.assertEqual(observer.returncode, 0)


def main() -> int:
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
