#!/usr/bin/env python3
"""Replays the corpus of each fuzz target, then fuzzes it from there for a while.

What a target fails on is kept in FOLDER/TARGET, with how to see it again. With --keep, what reached new code is kept,
too, in FOLDER/TARGET-corpus, from where a later run goes on. Ends with "N passed, N failed".

usage: run.py --programs FOLDER --folder FOLDER [--seconds N] [--keep] TARGET...
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import subprocess
import sys

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"
# A hang is a find as well; a service that is freed may take its call_timeout.
OPTIONS = ["-timeout=60", "-rss_limit_mb=4096", "-close_fd_mask=1", "-print_final_stats=1", "-max_len=4096"]


def run(program: pathlib.Path, arguments: list[str]) -> tuple[int, str]:
    """The exit status and what it said."""
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1"}
    ended = subprocess.run(
        [program, *OPTIONS, *arguments],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    return ended.returncode, ended.stderr


def number(report: str, name: str) -> int:
    found = re.findall(rf"{name}:\s*(\d+)", report)
    return int(found[-1]) if found else 0


def fuzz(options: argparse.Namespace, target: str) -> tuple[int, int]:
    program = options.programs / target
    finds = options.folder / target
    kept = options.folder / f"{target}-corpus"
    finds.mkdir(parents=True, exist_ok=True)
    kept.mkdir(parents=True, exist_ok=True)
    corpus = sorted(CORPUS.joinpath(target).iterdir())
    status, report = run(program, [*map(str, corpus), f"-artifact_prefix={finds}/replay-"])
    covered = number(report, "cov")
    print(f"{target}: {len(corpus)} inputs of the corpus: {'passed' if status == 0 else 'FAILED'}", flush=True)
    if status != 0:
        print("\n".join(report.splitlines()[-60:]))
        return 0, 1
    folders = [str(kept)] if options.keep else []
    seeds = [*folders, str(CORPUS / target)] if folders else [str(CORPUS / target)]
    if not folders:
        # What it learns is not written into the tree.
        seeds = [str(finds / "new"), str(CORPUS / target)]
        (finds / "new").mkdir(exist_ok=True)
    status, report = run(program, [*seeds, f"-max_total_time={options.seconds}", f"-artifact_prefix={finds}/"])
    runs = number(report, "stat::number_of_executed_units")
    start = re.search(r"INITED cov: (\d+) ft: (\d+)", report)
    end = re.findall(r"cov: (\d+) ft: (\d+)", report)
    grown = (
        f"edges {start[1]} -> {end[-1][0]}, features {start[2]} -> {end[-1][1]}"
        if start and end
        else f"edges {covered}"
    )
    print(f"{target}: {runs} runs in {options.seconds} s, {grown}: {'passed' if status == 0 else 'FAILED'}", flush=True)
    if status != 0:
        print("\n".join(report.splitlines()[-80:]))
        print(f"again: {program} {finds}/crash-…", flush=True)
        return 1, 1
    return 2, 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("targets", nargs="+")
    options = parser.parse_args()
    counts = [fuzz(options, target) for target in options.targets]
    passed, failed = (sum(column) for column in zip(*counts))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
