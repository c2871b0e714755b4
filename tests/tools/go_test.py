#!/usr/bin/env python3
"""Runs `go test` and counts: the output ends in "N passed, N failed". A skipped test counts as failed.

usage: go_test.py [--experiment=NAME] ARGUMENT...   (those of `go test`; `--` separates one run from the next)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict


class Counts:
    passed = 0
    failed = 0


def run(arguments: list[str], counts: Counts) -> None:
    """One `go test`; what failed is shown with what it printed."""
    experiments = [argument.split("=")[1] for argument in arguments if argument.startswith("--experiment=")]
    plain = [argument for argument in arguments if not argument.startswith("--experiment=")]
    # -count=1: what was built with another library, or ran with another etcd, doesn't count.
    command = ["go", "test", "-json", "-count=1", *plain]
    print(f"$ {' '.join(command)}", *experiments, flush=True)
    printed: dict[tuple[str, str], list[str]] = defaultdict(list)
    failed_here = 0
    env = {**os.environ, "GOEXPERIMENT": ",".join(experiments)} if experiments else None
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    for line in process.stdout:
        if not line.startswith("{"):
            print(line, end="", flush=True)
            continue
        event = json.loads(line)
        package, test = event.get("Package", ""), event.get("Test", "")
        action = event["Action"]
        if action in ("output", "build-output"):
            printed[package or event.get("ImportPath", ""), test].append(event["Output"])
        elif action in ("fail", "skip") and test:
            failed_here += 1
            print("".join(printed[package, test]) + f"{action}: {package} {test}", flush=True)
        elif action == "pass" and test:
            counts.passed += 1
        elif action in ("fail", "build-fail"):
            # A package that doesn't build, or that ended without a verdict on a test.
            print("".join(printed[package or event.get("ImportPath", ""), ""]), end="", flush=True)
    if process.wait() != 0 and failed_here == 0:
        failed_here = 1
    counts.failed += failed_here


def main() -> int:
    counts = Counts()
    arguments: list[str] = []
    for argument in [*sys.argv[1:], "--"]:
        if argument != "--":
            arguments.append(argument)
            continue
        run(arguments, counts)
        arguments = []
    print(f"{counts.passed} passed, {counts.failed} failed")
    return 0 if counts.passed and not counts.failed else 1


if __name__ == "__main__":
    sys.exit(main())
