#!/usr/bin/env python3
"""What README.md and the pages in docs show in C, C++, SQL and etcd's language is compiled and, where it can be, run.
The tests that docs/faults.md names exist.

Run by `make test-docs`, with an etcd at ETCD_ENDPOINTS, its etcdctl in ETCDCTL and the library's folder in
LIBRARY_FOLDER. Rust is tested by cargo. A block with an #include is a file; every other one is part of a function that
has what the page's beginning makes.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
LIBRARY = os.environ["LIBRARY_FOLDER"]
WARNINGS = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-Wno-unused"]
COMPILERS = {"c": ["cc", "-std=c99"], "cpp": ["c++", "-std=c++17"]}
LINK = [f"-L{LIBRARY}", "-ltenure", f"-Wl,-rpath,{LIBRARY}", "-pthread"]
HEADS = {
    "c": "#include <stdio.h>\n#include <tenure.h>\n",
    "cpp": "#include <cstdlib>\n#include <iostream>\n#include <tenure.hpp>\nusing namespace std::chrono_literals;\n",
}
GIVEN = {
    "c": "tenure_options *options, tenure_service *service, tenure_campaign *campaign, tenure_error *err",
    "cpp": "tenure::service &service, tenure::campaign &campaign",
}


class Block(NamedTuple):
    """A block of code, and where it is."""

    page: pathlib.Path
    line: int
    text: str

    def located(self) -> str:
        """For a compiler, which then names the page in what it says."""
        return f'#line {self.line} "{self.page.relative_to(ROOT)}"\n{self.text}'

    def is_file(self) -> bool:
        return "#include" in self.text


def blocks(language: str) -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for found in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            yield Block(page, text.count("\n", 0, found.start(1)) + 1, found[1])


class Programs(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tenure-docs-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def compile(self, language: str, text: str, *flags: str) -> pathlib.Path:
        source = self.folder / f"block.{language}"
        source.write_text(text)
        program = self.folder / "program"
        ended = subprocess.run(
            [*COMPILERS[language], *WARNINGS, f"-I{ROOT / 'include'}", str(source), "-o", str(program), *flags],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.assertEqual(ended.returncode, 0, ended.stdout)
        return program

    def run_program(self, program: pathlib.Path) -> str:
        return subprocess.run([str(program)], stdout=subprocess.PIPE, text=True, timeout=60, check=True).stdout

    def test_each_file_is_compiled_and_each_program_runs(self) -> None:
        ran = 0
        for language in COMPILERS:
            for block in filter(Block.is_file, blocks(language)):
                with self.subTest(page=block.page.name, line=block.line):
                    flags = ["-fno-exceptions"] if "-fno-exceptions" in block.text.splitlines()[0] else []
                    if "int main(" not in block.text:
                        self.compile(language, block.located(), *flags, "-c")
                        continue
                    printed = self.run_program(self.compile(language, block.located(), *flags, *LINK))
                    self.assertRegex(printed, r"token [1-9][0-9]*\n")
                    ran += 1
        self.assertGreaterEqual(ran, 4)

    def test_each_part_is_compiled(self) -> None:
        for language, head in HEADS.items():
            parts = [block for block in blocks(language) if not block.is_file()]
            self.assertGreater(len(parts), 5)
            functions = [
                f"void part_{i}({GIVEN[language]})\n{{\n{{\n{parts[i].located()}}}\n}}\n" for i in range(len(parts))
            ]
            declarations = [f"void part_{i}({GIVEN[language]});\n" for i in range(len(parts))]
            self.compile(language, head + "".join(declarations + functions), "-c")

    def test_the_readme_leads(self) -> None:
        (block,) = (block for block in blocks("c") if block.page.name == "README.md")
        lines = self.run_program(self.compile("c", block.text, *LINK)).splitlines()
        self.assertEqual(
            [re.sub("token [1-9][0-9]*", "token T", line) for line in lines],
            [f"step {step} as leader, token T" for step in range(3)],
        )


class Fencing(unittest.TestCase):
    def test_sql_refuses_a_leader_of_the_past(self) -> None:
        tables, work = (block.text for block in blocks("sql"))
        database = sqlite3.connect(":memory:", isolation_level=None)
        database.executescript(tables)
        database.execute("INSERT INTO jobs VALUES (1, 'new')")
        begin, fence, job, commit = re.findall(r"^[A-Z].*;$", work, re.MULTILINE)

        def act(token: int) -> bool:
            database.execute(begin)
            if database.execute(fence, {"token": token}).rowcount != 1:
                database.execute("ROLLBACK")
                return False
            database.execute(job, {"id": 1})
            database.execute(commit)
            return True

        self.assertEqual([act(token) for token in (5, 5, 7, 5, 6, 7)], [True, True, True, False, False, True])
        self.assertEqual(database.execute("SELECT token, state FROM fence, jobs").fetchall(), [(7, "done")])

    def etcdctl(self, *words: str, text: str = "") -> str:
        command = [os.environ["ETCDCTL"], "--endpoints", os.environ["ETCD_ENDPOINTS"], *words]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=30, check=True).stdout

    def test_etcd_refuses_a_leader_of_the_past(self) -> None:
        (block,) = blocks("etcdctl")

        def act(token: str) -> str:
            self.etcdctl("txn", text=block.text.replace("LEADER_KEY", "docs/leader").replace("TOKEN", token))
            return self.etcdctl("get", "--print-value-only", "state/shard-7")

        def elect() -> str:
            self.etcdctl("put", "docs/leader", "a")
            fields = self.etcdctl("get", "docs/leader", "--write-out=fields")
            (token,) = re.findall(r'^"CreateRevision" : (\d+)$', fields, re.MULTILINE)
            return str(token)

        first = elect()
        self.assertEqual(act(first), "next\n")
        self.etcdctl("del", "docs/leader")
        self.etcdctl("del", "state/shard-7")
        self.assertEqual(act(first), "")
        second = elect()
        self.assertEqual(act(first), "")
        self.assertEqual(act(second), "next\n")


class Links(unittest.TestCase):
    KNOWN: ClassVar = {"c", "cpp", "rust", "sql", "etcdctl", "sh", "cmake", "toml", "text", "go", "python"}

    def test_each_leads_somewhere(self) -> None:
        for page in PAGES:
            for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
                self.assertTrue((page.parent / target).exists(), f"{page.name}: {target}")

    def test_each_block_has_a_language(self) -> None:
        """Else it is tested by nobody, or taken for Rust."""
        for page in PAGES:
            fences = re.findall(r"^```(.*)$", page.read_text(), re.MULTILINE)
            self.assertEqual({*fences[1::2]} - {""}, set(), page.name)
            self.assertLessEqual({*fences[::2]}, self.KNOWN, page.name)


def main() -> int:
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    return 0 if result.wasSuccessful() else 1


class Faults(unittest.TestCase):
    """Each row of docs/faults.md names tests that exist, are run, and say which fault they are about."""

    def test_each_fault_has_its_tests(self) -> None:
        rows = re.findall(r"^\| (\d+) \|(.*)\|$", (ROOT / "docs" / "faults.md").read_text(), re.MULTILINE)
        self.assertEqual([int(number) for number, _ in rows], list(range(1, 40)))
        for number, row in rows:
            tests = re.findall(r"`([\w/.]+)::(\w+)`", row)
            self.assertTrue(tests, f"fault {number} has no test")
            for path, name in tests:
                with self.subTest(fault=number, test=f"{path}::{name}"):
                    self.assert_is_a_test(ROOT / path, name, int(number))

    def assert_is_a_test(self, path: pathlib.Path, name: str, fault: int) -> None:
        text = path.read_text()
        found = re.search(
            rf"((?:^ *(?:///|#|/\*| \*).*\n)*)^ *(?:static |pub )?(?:fn|void|def) {name}\(", text, re.MULTILINE
        )
        assert found, f"no {name} in {path}"
        said = re.search(r"\bFaults? (\d+(?:, \d+)*(?: and \d+)?)", found[1])
        self.assertTrue(said and str(fault) in re.findall(r"\d+", said[1]), f"its comment names fault {fault}")
        # Rust: by the attribute, or in the list of a macro. C: called by main.
        is_run = "#[test]" in found[1] or name.startswith("test_") or len(re.findall(rf"\b{name}\b", text)) > 1
        self.assertTrue(is_run, "nobody runs it")


if __name__ == "__main__":
    sys.exit(main())
