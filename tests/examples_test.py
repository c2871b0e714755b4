#!/usr/bin/env python3
"""The examples of every language do what they say, and the demo's arithmetic would notice if two led at once.

Run by `make test-examples`, with an etcd at ETCD_ENDPOINTS, its etcdctl in ETCDCTL and the programs in TENURE_EXAMPLES, in
a folder for each language.
"""

import os
import pathlib
import queue
import random
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from typing import ClassVar

HERE = pathlib.Path(__file__).resolve().parent
DEMO = HERE.parent / "examples" / "demo.py"
sys.path.insert(0, str(DEMO.parent))

from demo import Claim, Term, overlap_ns, verdict

PROGRAMS = pathlib.Path(os.environ["TENURE_EXAMPLES"])
LANGUAGES = ("c", "cpp", "rust")
OK = r"demo: ok, (\d+) leaders, hand-over [\d.]+ ms, take-over after kill [\d.]+ s, overlap 0 ms"


def claims(*rows: "tuple[str, int, int, int]") -> "list[Claim]":
    return [Claim(*row) for row in rows]


def found(pattern: str, line: str) -> "re.Match[str]":
    match = re.search(pattern, line)
    assert match, f"no {pattern} in {line!r}"
    return match


class Overlap(unittest.TestCase):
    def test_one_after_the_other_is_none(self) -> None:
        self.assertEqual(overlap_ns([]), 0)
        self.assertEqual(overlap_ns(claims(("a", 1, 10, 20), ("b", 2, 21, 30), ("a", 3, 31, 31))), 0)

    def test_an_instant_in_common_counts(self) -> None:
        self.assertEqual(overlap_ns(claims(("b", 2, 20, 30), ("a", 1, 10, 20))), 1)

    def test_a_claim_of_one_look_counts(self) -> None:
        self.assertEqual(overlap_ns(claims(("a", 1, 10, 20), ("b", 2, 15, 15))), 1)

    def test_time_shared_by_three_counts_once(self) -> None:
        self.assertEqual(overlap_ns(claims(("a", 1, 10, 20), ("b", 2, 11, 19), ("c", 3, 12, 25))), 10)

    def test_it_agrees_with_counting(self) -> None:
        for seed in range(2000):
            chance = random.Random(seed)
            starts = [chance.randrange(30) for _ in range(chance.randrange(6))]
            some = [Claim("a", i, start, start + chance.randrange(8)) for i, start in enumerate(starts)]
            shared = sum(sum(c.start_ns <= t <= c.end_ns for c in some) > 1 for t in range(40))
            self.assertEqual(overlap_ns(some), shared, f"seed {seed}: {some}")


class Verdict(unittest.TestCase):
    TERMS: ClassVar = [Term("a", 2, 10), Term("b", 5, 21)]
    CLAIMS: ClassVar = claims(("a", 2, 10, 20), ("b", 5, 22, 30))

    def judge(self, terms: "list[Term]", some: "list[Claim]") -> "tuple[str, int]":
        return verdict(terms, some, 1.5, 2.0)

    def assert_fails(self, terms: "list[Term]", some: "list[Claim]", why: str) -> None:
        line, status = self.judge(terms, some)
        self.assertRegex(line, "^demo: failed: .*" + re.escape(why))
        self.assertEqual(status, 1)

    def test_all_well(self) -> None:
        line = "demo: ok, 2 leaders, hand-over 1.50 ms, take-over after kill 2.00 s, overlap 0 ms"
        self.assertEqual(self.judge(self.TERMS, self.CLAIMS), (line, 0))

    def test_overlap_fails_and_is_told(self) -> None:
        late = claims(("a", 2, 10, 2_000_021), ("b", 5, 22, 3_000_000))
        self.assert_fails(self.TERMS, late, "overlap 2.000000 ms")
        self.assert_fails(self.TERMS, claims(("a", 2, 10, 22), ("b", 5, 22, 30)), "overlap 0.000001 ms")

    def test_a_missing_leader_fails(self) -> None:
        self.assert_fails([], [], "nobody ever led")
        self.assert_fails(self.TERMS, self.CLAIMS[:1], "b was elected with token 5 but never led")

    def test_leading_without_election_fails(self) -> None:
        self.assert_fails(self.TERMS[:1], self.CLAIMS, "b led with token 5 but was never elected")

    def test_a_token_that_does_not_grow_fails(self) -> None:
        terms = [Term("a", 5, 10), Term("b", 2, 21)]
        self.assert_fails(terms, claims(("a", 5, 10, 20), ("b", 2, 22, 30)), "token 2 of b follows token 5 of a")


class Program:
    """A program that goes on, and the lines that it prints."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [str(PROGRAMS / command[0]), *command[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def next_line(self) -> str:
        return self.lines.get(timeout=30)

    def order(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


class Programs(unittest.TestCase):
    def run_program(self, *command: str, status: int = 0) -> "list[str]":
        ended = subprocess.run(
            [str(PROGRAMS / command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(ended.returncode, status, ended.stdout)
        return ended.stdout.splitlines()

    def start(self, *command: str) -> "Program":
        """A program that goes on; ended with the test."""
        program = Program(*command)
        self.addCleanup(program.end)
        return program

    def test_a_worker_elects_itself_without_a_server(self) -> None:
        for language in LANGUAGES:
            with self.subTest(language):
                lines = self.run_program(f"{language}/worker", "--endpoints", "memory://trial", "--for", "1")
                states = [found(r"state=(\w+)", line)[1] for line in lines if line.startswith("event ")]
                self.assertEqual(states, ["FOLLOWER", "LEADER", "CLOSED"])
                begun, ended = (
                    found(r"^claim start_ns=(\d+) end_ns=(\d+) token=(\d+)$", line).groups()
                    for line in lines
                    if line.startswith("claim ")
                )
                self.assertEqual((begun[0], begun[2]), (ended[0], ended[2]))
                self.assertGreater(int(ended[1]) - int(ended[0]), 500_000_000)

    def test_a_worker_names_the_option_that_is_wrong(self) -> None:
        for language in LANGUAGES:
            with self.subTest(language):
                self.run_program(f"{language}/worker", "--ttl", "1s", status=1)
                self.run_program(f"{language}/worker", "--option", "tll=5s", status=1)
                self.run_program(f"{language}/worker", "--for", "never", status=1)

    def test_workers_of_all_languages_print_the_same(self) -> None:
        """What they print, but for times and tokens, when they get the same commands."""
        said = {language: self.conversation(language) for language in LANGUAGES}
        for language in LANGUAGES:
            self.assertEqual(said[language], said["c"], language)

    def conversation(self, language: str) -> "list[str]":
        worker = self.start(
            f"{language}/worker", "--endpoints", f"memory://{language}", "--value", "a \x01b", "--ttl", "5s"
        )
        lines: list[str] = []

        def hear(*wanted: str) -> None:
            """Reads until each of these was seen. They come from several threads, so in any order."""
            missing = list(wanted)
            while missing:
                line = worker.next_line()
                missing = [part for part in missing if part not in line]
                lines.append(re.sub(r"(_ns|token)=[1-9][0-9]*", r"\1=N", line))

        hear("state=LEADER", "claim ")
        for command, answers in (
            ("candidates", ["candidates time_ns="]),
            ("nonsense", []),
            ("resign", ["resign ", "state=CLOSED", "claim "]),
            ("campaign", ["campaign ", "state=LEADER", "claim "]),
            ("quit", ["state=CLOSED", "claim "]),
        ):
            worker.order(command)
            hear(*answers)
        self.assertEqual(worker.process.wait(30), 0)
        return sorted(lines)

    def test_an_observer_tells_who_leads(self) -> None:
        endpoints = os.environ["ETCD_ENDPOINTS"]
        for language in LANGUAGES:
            with self.subTest(language):
                observer = self.start(f"{language}/observer", endpoints, "seen", language)
                self.assertEqual(observer.next_line(), "nobody leads")
                settings = ("--endpoints", endpoints, "--service", "seen", "--election", language)
                worker = self.start(f"{language}/worker", *settings, "--value", "al\tpha")
                self.assertRegex(observer.next_line(), "^al pha leads, token [1-9][0-9]*$")
                worker.process.terminate()
                self.assertEqual(worker.process.wait(30), 0)
                self.assertEqual(observer.next_line(), "nobody leads")
                observer.process.terminate()
                self.assertEqual(observer.next_line(), "closed")
                self.assertEqual(observer.process.wait(30), 0)

    def test_an_observer_waits_for_etcd(self) -> None:
        for language in LANGUAGES:
            with self.subTest(language):
                # Nobody listens at port 1.
                lines = self.run_program(f"{language}/observer", "http://127.0.0.1:1", "nowhere", "e", "1")
                self.assertEqual(lines[-1], "closed")
                for line in lines[:-1]:
                    self.assertRegex(line, "^nobody leads, as far as known: .")

    def test_epoll_leads_both_shards(self) -> None:
        for endpoints in ("memory://trial", os.environ["ETCD_ENDPOINTS"]):
            lines = self.run_program("c/epoll", endpoints, "1")
            for shard in ("red", "blue"):
                of_shard = [line for line in lines if line.startswith(shard)]
                self.assertEqual(of_shard[0], f"{shard}: following")
                self.assertRegex(of_shard[1], f"^{shard}: leading, token [1-9]")
                self.assertRegex(of_shard[2], f"^{shard}: closed after [1-9][0-9]* jobs$")

    def test_a_late_write_is_fenced_off(self) -> None:
        for language in LANGUAGES:
            with self.subTest(language), tempfile.TemporaryDirectory() as folder:
                ledger = pathlib.Path(folder, "ledger")
                lines = self.run_program(f"{language}/fencing", os.environ["ETCD_ENDPOINTS"], str(ledger))
                self.assertRegex(lines[-1], r"^first: refused, token \d+ is older than \d+$")
                highest, *rows = ledger.read_text().splitlines()
                tokens = [int(row.split()[0]) for row in rows]
                self.assertEqual(
                    [row.split(maxsplit=1)[1] for row in rows],
                    ["the first leader was here", "the second leader was here"],
                )
                self.assertEqual((sorted(tokens), tokens[-1]), (tokens, int(highest)))


class TheDemo(unittest.TestCase):
    def start(self, *workers: "pathlib.Path") -> "subprocess.Popen[str]":
        """With three workers, or with one in the part of three."""
        programs = workers if len(workers) == 3 else (workers or (PROGRAMS / "c/worker",)) * 3
        parts = [f"--worker={who}={program}" for who, program in zip(("alpha", "beta", "gamma"), programs)]
        command = [sys.executable, str(DEMO), *parts, "--etcdctl", os.environ["ETCDCTL"]]
        demo = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.addCleanup(demo.kill)
        return demo

    def test_it_ends_well_in_under_a_minute(self) -> None:
        demo = self.start()
        lines = demo.communicate(timeout=60)[0].splitlines()
        self.assertRegex(lines[-1], f"^{OK}$", "\n".join(lines))
        self.assertEqual(demo.returncode, 0)
        self.assertGreaterEqual(int(found(OK, lines[-1])[1]), 6)

    def test_workers_of_all_languages_can_play_it(self) -> None:
        demo = self.start(*(PROGRAMS / language / "worker" for language in LANGUAGES))
        lines = demo.communicate(timeout=60)[0].splitlines()
        self.assertRegex(lines[-1], f"^{OK}$", "\n".join(lines))

    def test_a_missing_leader_is_a_failure(self) -> None:
        demo = self.start(pathlib.Path("/bin/true"))
        lines = demo.communicate(timeout=60)[0].splitlines()
        self.assertRegex(lines[-1], "^demo: failed: .*alpha")
        self.assertEqual(demo.returncode, 1)

    def test_its_children_end_with_it(self) -> None:
        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)):
            demo = self.start()
            assert demo.stdout is not None
            while " leads " not in demo.stdout.readline():
                self.assertIsNone(demo.poll())
            children = children_of(demo.pid)
            # It may have killed one meanwhile, which it starts again.
            while len(children) < 3:
                self.assertIsNone(demo.poll())
                for child in children:
                    os.close(child)
                time.sleep(0.01)
                children = children_of(demo.pid)
            demo.send_signal(number)
            demo.communicate(timeout=30)
            self.assertEqual(demo.returncode, status)
            for child in children:
                self.assertTrue(select.select([child], [], [], 10)[0], "a child goes on")
                os.close(child)


def children_of(pid: int) -> "list[int]":
    """Descriptors of a process's children; readable when they end."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [os.pidfd_open(int(child)) for child in children]


def main() -> int:
    # Where a shell started us in the background SIGINT is ignored, and would be by what we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
