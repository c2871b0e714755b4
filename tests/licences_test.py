#!/usr/bin/env python3
"""Which licences packaging/licences.py lets pass."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "packaging"))

import licences

ALLOWED = ("Apache-2.0", "Apache-2.0 WITH LLVM-exception", "MIT", "ISC", "BSD-3-Clause", "Unicode-3.0")


class Expressions(unittest.TestCase):
    def test_what_may_be(self) -> None:
        for expression, wanted in (
            ("MIT", ["MIT"]),
            ("MIT OR Apache-2.0", ["Apache-2.0"]),
            ("Apache-2.0 / MIT", ["Apache-2.0"]),
            ("MIT/Apache-2.0", ["Apache-2.0"]),
            ("GPL-3.0-only OR MIT", ["MIT"]),
            ("Unlicense OR MIT", ["MIT"]),
            ("Apache-2.0 AND ISC", ["Apache-2.0", "ISC"]),
            ("MIT AND BSD-3-Clause", ["MIT", "BSD-3-Clause"]),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", ["Apache-2.0", "Unicode-3.0"]),
            ("Apache-2.0 WITH LLVM-exception OR MIT", ["Apache-2.0 WITH LLVM-exception"]),
            ("(GPL-2.0-only AND MIT) OR (ISC AND MIT)", ["ISC", "MIT"]),
        ):
            with self.subTest(expression):
                self.assertEqual(licences.taken(expression, ALLOWED), wanted)

    def test_what_may_not_be(self) -> None:
        for expression in (
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "(MIT OR Apache-2.0) AND AGPL-3.0-only",
            "GPL-2.0-only WITH Classpath-exception-2.0",
            "Apache-2.0 WITH Another-exception",
            "MITT",
        ):
            with self.subTest(expression):
                self.assertIsNone(licences.taken(expression, ALLOWED))

    def test_what_cannot_be_read_is_an_error(self) -> None:
        for expression in ("", "OR MIT", "MIT OR", "(MIT", "MIT)", "MIT Apache-2.0", "MIT AND OR ISC"):
            with self.subTest(expression), self.assertRaises(ValueError):
                licences.taken(expression, ALLOWED)


class Lists(unittest.TestCase):
    def test_the_audit_allows_the_same(self) -> None:
        text = (licences.ROOT / "deny.toml").read_text()
        listed = text.split("allow = [", 1)[1].split("]", 1)[0]
        self.assertEqual([line.strip(' ",') for line in listed.split("\n") if line.strip()], list(licences.ALLOWED))

    def test_all_that_is_linked_is_listed_with_its_text(self) -> None:
        linked, every = licences.packages()
        text = (licences.ROOT / "THIRD-PARTY.txt").read_text()
        self.assertLess(len(linked), len(every))
        for one in linked:
            self.assertIn(f"\n{one.name} {one.version}: ", text)
        for needed in ("Permission is hereby granted", "Permission to use, copy, modify", "Neither the name of"):
            self.assertIn(needed, text)
        for unlinked in ("cbindgen", "syn", "rcgen"):
            self.assertNotIn(f"\n{unlinked} ", text)


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
