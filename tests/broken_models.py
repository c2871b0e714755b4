#!/usr/bin/env python3
"""Whether the models of the library's threads would find a broken library: breaks it in one place after the other.

As tests/broken_engines.py does: each piece is replaced in a copy of the tree, and a piece that isn't there exactly once
ends the run. Prints one line for each, and at the end "N passed, N failed".

    broken_models.py FOLDER [NAME...]     FOLDER: for the copy; NAME: only these
"""

from __future__ import annotations

import itertools
import os
import pathlib
import re
import subprocess
import sys
import time
from typing import NamedTuple

from broken_engines import copy_tree


class Broken(NamedTuple):
    """A bug, by what it does, and the model that must fail; `old` in src/`file` becomes `new`."""

    name: str
    model: str
    file: str
    old: str
    new: str


BROKEN = (
    Broken(
        "a token is published without order",
        "engine::models::who_leads_has_a_token",
        "engine/term.rs",
        "            self.token.store(token, Ordering::Release);\n            self.until.store(until, Ordering::Release);",
        "            self.token.store(token, Ordering::Relaxed);\n            self.until.store(until, Ordering::Relaxed);",
    ),
    Broken(
        "a deadline is read without order",
        "engine::models::who_leads_has_a_token",
        "engine/term.rs",
        "let until = self.until.load(Ordering::Acquire);",
        "let until = self.until.load(Ordering::Relaxed);",
    ),
    Broken(
        "the token is published after the deadline",
        "engine::models::who_leads_has_a_token",
        "engine/term.rs",
        "            self.token.store(token, Ordering::Release);\n            self.until.store(until, Ordering::Release);",
        "            self.until.store(until, Ordering::Release);\n            self.token.store(token, Ordering::Release);",
    ),
    Broken(
        "the token is not looked at again",
        "engine::models::who_has_seen_the_end_of_a_term_never_gets_its_token",
        "engine/term.rs",
        "if self.token.load(Ordering::Acquire) == token {",
        "if token != 0 {",
    ),
    Broken(
        "leadership wakes nobody",
        "engine::models::who_waits_for_leadership_hears_of_it_and_of_the_end",
        "engine/term.rs",
        "        if token != 0 {\n            self.wake();\n        }\n",
        "",
    ),
    Broken(
        "who waits for leadership counts only once it has looked",
        "engine::models::who_waits_for_leadership_hears_of_it_and_of_the_end",
        "engine/term.rs",
        "        told.waiting += 1;\n",
        "        if self.is_leader() {\n            return Ok(());\n        }\n        drop(told);\n"
        "        told = self.lock();\n        told.waiting += 1;\n        if told.state == State::Follower {\n"
        "            told = self.changed.wait(told).unwrap_or_else(PoisonError::into_inner);\n        }\n",
    ),
    Broken(
        "a resignation wakes nobody",
        "engine::models::who_waits_for_leadership_hears_of_a_resignation",
        "engine/term.rs",
        "        if waiting > 0 {\n",
        "        if waiting > 1 {\n",
    ),
    Broken(
        "a resignation is only the end of the term at hand",
        "engine::models::nobody_leads_after_resigning_whatever_the_engine_writes",
        "engine/term.rs",
        "        self.barred.store(true, Ordering::Release);\n",
        "",
    ),
    Broken(
        "the mailbox's end wakes one reader",
        "engine::models::each_event_goes_to_one_of_two_readers_and_the_end_to_both",
        "engine/mailbox.rs",
        "        // Whoever waits, and not one of them only.\n        self.ready.notify_all();\n",
        "",
    ),
    Broken(
        "what is pushed behind an unread event is announced again, what comes first is not",
        "engine::models::two_events_at_once_wake_two_readers",
        "engine/mailbox.rs",
        "        if queue.order.is_empty() {\n            queue.unannounced = true;\n",
        "        queue.unannounced = !queue.order.is_empty();\n        if queue.order.is_empty() {\n",
    ),
    Broken(
        "who takes an event wakes nobody for the next",
        "engine::models::two_events_at_once_wake_two_readers",
        "engine/mailbox.rs",
        "                    self.ready.notify_one();\n                } else if !queue.ended",
        "                } else if !queue.ended",
    ),
    Broken(
        "the descriptor is emptied by whoever takes an event",
        "engine::models::the_descriptor_is_readable_exactly_while_there_is_something_to_read",
        "engine/mailbox.rs",
        "                } else if !queue.ended {\n                    self.unsignal();",
        "                }\n                if !queue.ended {\n                    self.unsignal();",
    ),
    Broken(
        "the descriptor stays readable",
        "engine::models::the_descriptor_is_readable_exactly_while_there_is_something_to_read",
        "engine/mailbox.rs",
        "                } else if !queue.ended {\n                    self.unsignal();\n",
        "                } else if !queue.ended {\n",
    ),
    Broken(
        "who looks on while the service ends is forgotten",
        "engine::models::who_looks_on_while_the_service_ends_hears_its_end_or_is_refused",
        "engine/mailbox.rs",
        "        if queue.ended {\n            // The handler is dropped after the lock.\n",
        "        if false {\n",
    ),
    Broken(
        "the task's end drops the commands",
        "engine::models::whoever_asks_while_the_task_ends_gets_an_answer",
        "engine/commands.rs",
        "        while self.0.recv().await.is_some() {}\n",
        "",
    ),
    Broken(
        "a handle is freed in two steps",
        "ffi::handle::models::a_handle_freed_by_two_threads_is_freed_by_one",
        "ffi/handle.rs",
        "        let entry = content.entry_of(handle)?.clone();\n",
        "        let entry = content.entry_of(handle)?.clone();\n        drop(content);\n"
        "        let mut content = slot.content.write().unwrap_or_else(PoisonError::into_inner);\n",
    ),
    Broken(
        "a slot is free before its object is gone",
        "ffi::handle::models::two_threads_that_make_handles_get_two",
        "ffi/handle.rs",
        "        let slot = self.slot(handle)?;\n",
        "        let slot = self.slot(handle)?;\n        self.get(handle)?;\n"
        "        self.free().places.push_back(Id(handle.addr()).place());\n",
    ),
    Broken(
        "a slot's objects have one id",
        "ffi::handle::models::a_handle_that_was_freed_never_means_the_next_object_of_its_slot",
        "ffi/handle.rs",
        "        content.counter += 1;\n",
        "        content.counter = 1;\n",
    ),
    Broken(
        "two threads pull at once",
        "ffi::models::an_event_finds_its_subscriber_and_the_handle_however_early_it_is_pulled",
        "ffi/pull.rs",
        "        *is_busy = true;\n",
        "",
    ),
    Broken(
        "who has pulled wakes nobody",
        "ffi::models::an_event_finds_its_subscriber_and_the_handle_however_early_it_is_pulled",
        "ffi/pull.rs",
        "        self.0.free.notify_one();\n",
        "",
    ),
    Broken(
        "a handle that will never be is not announced",
        "ffi::models::a_handle_that_will_never_be_is_not_waited_for",
        "ffi/subscriber.rs",
        "    fn drop(&mut self) {\n        self.set(0);\n",
        "    fn drop(&mut self) {\n",
    ),
)


def build(folder: pathlib.Path) -> str:
    """The program of the models."""
    ended = subprocess.run(
        ["tests/tools/model.sh", "--no-run"],
        cwd=folder,
        env={**os.environ, "CARGO_TARGET_DIR": str(folder.parent / "model")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    program = re.search(r"Executable .* \((\S+)\)", ended.stdout)
    if ended.returncode != 0 or not program:
        sys.exit("it does not build:\n" + "\n".join(ended.stdout.splitlines()[-30:]))
    return str(folder / program[1])


def fails(program: str, model: str) -> bool:
    """In a process of its own: a model that finds something may end it."""
    command = [program, "--exact", model]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if ended.returncode == 0 and "1 passed" not in ended.stdout:
        sys.exit(f"there is no model {model}")
    return ended.returncode != 0


def look(folder: pathlib.Path, together: list[Broken]) -> list[bool]:
    """Whether the model of each found it."""
    started = time.monotonic()
    paths = [folder / "src" / broken.file for broken in together]
    wholes = [path.read_text() for path in paths]
    for broken, path, whole in zip(together, paths, wholes):
        if whole.count(broken.old) != 1:
            sys.exit(f"src/{broken.file} holds {whole.count(broken.old)} times what is to be replaced: {broken.name}")
        path.write_text(whole.replace(broken.old, broken.new))
    try:
        program = build(folder)
    finally:
        for path, whole in zip(paths, wholes):
            path.write_text(whole)
    found = [fails(program, broken.model) for broken in together]
    for broken, is_found in zip(together, found):
        print(f"{'found' if is_found else 'MISSED'}: {broken.name}: {broken.model}", flush=True)
    print(f"({time.monotonic() - started:.0f} s)", flush=True)
    return found


def rounds(chosen: list[Broken]) -> list[list[Broken]]:
    """One of each file at a time: what they break is looked at by different models, and building takes longest."""
    by_file: dict[str, list[Broken]] = {}
    for broken in chosen:
        by_file.setdefault(broken.file, []).append(broken)
    return [list(filter(None, together)) for together in itertools.zip_longest(*by_file.values())]


def main() -> int:
    folder = pathlib.Path(sys.argv[1]).resolve()
    only = set(sys.argv[2:])
    copy_tree(folder)
    chosen = [broken for broken in BROKEN if not only or broken.name in only]
    found = [found for together in rounds(chosen) for found in look(folder, together)]
    # Last, as it is: models that always fail would find everything.
    program = build(folder)
    for model in sorted({broken.model for broken in chosen}):
        found.append(not fails(program, model))
        if not found[-1]:
            print(f"FAILED as it is: {model}")
    failed = found.count(False)
    print(f"{len(found) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
