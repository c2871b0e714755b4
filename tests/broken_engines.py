#!/usr/bin/env python3
"""Whether the simulation would find a broken engine: breaks it in one place after the other and lets it look.

Each way to break it replaces a piece of the source by another, in a copy of the tree; a piece that isn't there exactly
once counts as missed, so the list can't go stale unseen. Each has to be found within SEEDS runs of the simulation, but for
a few whose circumstances are too rare there: of these the test is named that has to find them. Of one that is missed, it is
said which other test finds it. Prints one line for each, and at the end "N passed, N failed".

    broken_engines.py FOLDER [NAME...]     FOLDER: for the copy; NAME: only these
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIMULATION = "simulation::random_programs"
SEEDS = int(os.environ.get("SEEDS") or 2000)


class Broken(NamedTuple):
    """A bug, by what it does; `old` in src/election/`file` becomes `new`. `by` is a name of tests that find it."""

    name: str
    file: str
    old: str
    new: str
    by: str = SIMULATION


BROKEN = (
    Broken(
        "the deadline counts from the answer's arrival",
        "session.rs",
        "self.deadline.max(sent + ttl - ttl / 100 - GUARD)",
        "self.deadline.max(now + ttl - ttl / 100 - GUARD)",
    ),
    Broken(
        "the deadline is where the lease may be over",
        "session.rs",
        "self.deadline.max(sent + ttl - ttl / 100 - GUARD)",
        "self.deadline.max(sent + ttl + ttl / 50)",
    ),
    Broken(
        "the deadline passes without a consequence",
        "lease.rs",
        "        self.lose_session(id, Code::SessionExpired, &message, true);",
        "        self.log(Level::Warn, message);",
    ),
    Broken(
        "a key of another's lease is taken for the own",
        "campaign.rs",
        "own.filter(|own| own.lease == lease)",
        "own",
    ),
    Broken(
        "who has created its key leads, whoever is first",
        "campaign.rs",
        "Some(first) if first.create_revision == token && first.key == key",
        "Some(_) if created",
    ),
    Broken(
        "the second in the queue leads too",
        "mirror.rs",
        "self.leader().is_some_and(|leader| *leader.name == *name)",
        "{ let leads = |leader: &Entry| *leader.name == *name;\n"
        "            self.leader().is_some_and(leads) || self.queue.iter().nth(1).is_some_and(leads) }",
    ),
    Broken(
        "the loss of the own key is not noticed",
        "campaign.rs",
        "            None => self.orphaned(id),\n            Some(_) if waiting && mirror",
        "            None => {}\n            Some(_) if waiting && mirror",
    ),
    Broken(
        "a key that was lost before the join's answer is believed in",
        "campaign.rs",
        "            Phase::Joining(_) => campaign.lost_at = revision,\n",
        "            Phase::Joining(_) => {}\n",
    ),
    Broken(
        "a resignation that failed is forgotten",
        "campaign.rs",
        "            Err(error) if error.failure.is_transient() => {\n                campaign.phase = Phase::WithdrawPause;",
        "            Err(error) if error.failure.is_transient() => {\n                if campaign.token >= 0 {\n"
        "                    return self.key_gone(id);\n                }\n                campaign.phase = Phase::WithdrawPause;",
    ),
    Broken(
        "a resignation is answered before the key is gone",
        "campaign.rs",
        "        campaign.resigners.extend(reply);\n",
        "        if let Some(reply) = reply {\n            self.out.push(Output::Reply(reply, Ok(Reply::Done)));\n        }\n",
    ),
    Broken(
        "a join without an answer counts as not made",
        "campaign.rs",
        "                campaign.join_unknown |= error.failure.is_unknown();\n",
        "",
    ),
    Broken(
        "a join that was done and refused with others counts as not made",
        "campaign.rs",
        "        campaign.join_unknown |= refused.is_unknown();\n",
        "        let _ = (campaign, refused);\n",
        by="a_join_that_was_refused_with_others_and_done_is_not_taken_back_without_a_deletion",
    ),
    Broken(
        "a renewal says that a lease is there of which a join has heard that it is gone",
        "session.rs",
        "        !std::mem::take(&mut self.ask_again) && !self.missing\n",
        "        !std::mem::take(&mut self.ask_again)\n",
        by="what_a_renewal_says_counts_for_nothing_once_a_join_has_said_that_the_lease_is_gone",
    ),
    Broken(
        "who is first leads, though the lease is said to be gone",
        "session.rs",
        "self.phase == Phase::Alive && !self.missing\n",
        "self.phase == Phase::Alive\n",
        by="a_join_that_was_served_before_its_lease_went_and_is_answered_after_leads_nothing",
    ),
    Broken(
        "a lost join that may still arrive is not looked for",
        "lease.rs",
        "        session.tainted = true;\n        let until = session.grave_until(now);\n        session.graves.insert(key, until);\n",
        "        let until = session.grave_until(now);\n        session.graves.insert(key, until);\n        session.graves.clear();\n",
    ),
    Broken(
        "the end of a lease is asked for once",
        "lease.rs",
        "                let pause = session.backoff.pause(&mut self.random);\n"
        "                self.timers.set(Timer::Session(id), self.now + pause);\n"
        '                self.log(Level::Warn, format!("the lease\'s end is not confirmed yet: {error}"));',
        "                self.session_ended(id);",
    ),
    Broken(
        "a lease that is given up is left alone",
        "lease.rs",
        "        if may_live {\n            self.end_session(id, message);",
        "        if false {\n            self.end_session(id, message);",
    ),
    Broken(
        "a lease's end overtakes its grant",
        "lease.rs",
        "        if !(asked && granting) {",
        "        if !(asked && granting) || asked {",
    ),
    Broken(
        "a failed renewal is not repeated",
        "lease.rs",
        "                // A grant is pending as long as nothing was acknowledged; asking for it again is the way on.\n"
        "                let pause = session.backoff.pause(&mut self.random);\n"
        "                self.timers.set(Timer::Session(id), self.now + pause);\n",
        "",
    ),
    Broken(
        "a broken watch is believed to be whole",
        "mirror.rs",
        "        self.synced = false;\n        self.early.clear();",
        "        self.early.clear();",
    ),
    Broken(
        "a list is read before its watch is set",
        "watch.rs",
        "        election.watched.is_some() || matches!(self.watch.wide, Wide::Open(_))\n",
        "        election.watched.is_some() || self.watch.stream.is_some()\n",
    ),
    Broken(
        "a leader's watch that is set anew needs no list",
        "campaign.rs",
        "matches!(self.phase, Phase::Session | Phase::Joining(_) | Phase::JoinPause)",
        "matches!(self.phase, Phase::Session | Phase::Joining(_) | Phase::JoinPause | Phase::Leading)",
    ),
    Broken(
        "a join's answer counts although the watch was set after it",
        "campaign.rs",
        ".is_some_and(|from| from > header.revision)",
        ".is_some_and(|_| false)",
    ),
    Broken(
        "changes that come before the list are dropped",
        "mirror.rs",
        "            change.wait_in(&mut self.early);",
        "            drop(change);",
    ),
    Broken(
        "changes older than the list are applied",
        "mirror.rs",
        "        if revision < self.revision {\n            return;\n        }\n        match change",
        "        match change",
    ),
    Broken(
        "the shared watch takes over with a gap",
        "mirror.rs",
        "        changes.extend(told);\n",
        "        drop(told);\n",
        by="another_watch_takes_over_without_a_gap",
    ),
    Broken(
        "a mute stream is waited for",
        "watch.rs",
        "        if self.watch.asked >= PATIENCE {",
        "        if self.watch.asked >= u32::MAX - PATIENCE {",
    ),
    Broken(
        "a broken watch ends the campaigns",
        "watch.rs",
        '        self.log(Level::Warn, format!("the watch is opened again: {reason}"));\n',
        '        self.log(Level::Warn, format!("the watch is opened again: {reason}"));\n'
        "        let all: Vec<_> = self.elections.values().filter_map(|election| election.campaign).collect();\n"
        "        for id in all {\n"
        "            self.session_lost(id, &Error::new(code, reason));\n"
        "        }\n",
    ),
    Broken(
        "a failed list is not repeated",
        "watch.rs",
        "        self.timers.set_earlier(Timer::Lists, self.now + pause);\n",
        "        let _ = pause;\n",
    ),
    Broken(
        "a late value overwrites a newer one",
        "campaign/proclaim.rs",
        "            compares: vec![Compare::ModRevision(key.clone(), campaign.changed)],\n",
        "            compares: vec![Compare::CreateRevision(key.clone(), campaign.token)],\n",
    ),
    Broken(
        "another cluster goes unnoticed",
        "mod.rs",
        "        if other || older {\n",
        "        if (other || older) && self.closing {\n",
    ),
    Broken(
        "another cluster's word on a lease is believed",
        "lease.rs",
        "        if !asked {\n            self.send_verify(id);\n        }\n",
        "        if asked || self.sessions.get(&id).is_some_and(|session| session.phase == Phase::Ending) {\n"
        "            return self.session_ended(id);\n        }\n"
        '        self.lose_session(id, Code::LeaseRevoked, "the lease is gone", false);\n',
    ),
    Broken(
        "observers are not told that they may be stale",
        "observer.rs",
        "            let observation = observer.tell(self.now, self.cluster_id, false, reason, message);\n"
        "            self.emit(Output::Observation(id, observation));\n",
        "            let _ = observer.tell(self.now, self.cluster_id, false, reason, message);\n",
    ),
    Broken(
        "who resigns while it joins is not withdrawn",
        "campaign.rs",
        "        let token = campaign.token;\n        if campaign.leaving.is_some() {\n            return self.remove_key(id);\n        }\n",
        "        let token = campaign.token;\n",
    ),
    Broken(
        "who resigns while another takes its key stands again",
        "campaign.rs",
        "        } else if campaign.leaving.is_some() {\n            // It has told its loss, or was resigned, and will close.\n"
        "            return self.remove_key(id);\n        } else {",
        "        } else {",
    ),
    Broken(
        "a deletion overtakes the join",
        "campaign.rs",
        "            // A deletion could overtake the join: its answer comes first.\n            return;\n",
        "",
    ),
    Broken(
        "a key that somebody took over counts as the own",
        "campaign.rs",
        "let lost = on != lease && revision",
        "let lost = on == 0 && revision",
    ),
    Broken(
        "a value whose announcement failed is not announced again",
        "campaign/proclaim.rs",
        "error.failure != Failure::TooLarge) => {\n"
        "                let pause = campaign.pause.pause(&mut self.random);\n"
        "                self.timers.set(Timer::Campaign(id), self.now + pause);\n            }\n",
        "error.failure != Failure::TooLarge) => {}\n",
    ),
    Broken(
        "a closed service does not wait for its leases' ends",
        "mod.rs",
        "if self.closing && !self.finished && self.sessions.is_empty() {",
        "if self.closing && !self.finished {",
    ),
    Broken(
        "answers to what another cluster was asked count",
        "mod.rs",
        "        self.calls.values_mut().for_each(|call| call.revision = None);\n",
        "",
        by="answers_to_questions_of_before_a_change_of_cluster_change_nothing_more",
    ),
    Broken(
        "an older list overwrites what the watch has told",
        "mirror.rs",
        "        if !self.synced || revision >= self.revision {\n            self.replace",
        "        if !self.synced || revision > 0 {\n            self.replace",
    ),
    Broken(
        "a watch that the store ended is not set again",
        "watch.rs",
        "            self.look_again(&name, error);\n        }\n    }\n\n    /// Everything can't",
        "        }\n    }\n\n    /// Everything can't",
    ),
    Broken(
        "whoever else changed the own key is not looked for",
        "campaign.rs",
        "        if campaign.proclaiming.is_none() && first.is_some_and(changed) {\n",
        "        if false && first.is_some_and(changed) {\n",
        by="a_key_taken_over_while_nobody_watched_ends_the_term",
    ),
    Broken(
        "a list that travels with changes does not see them",
        "batch.rs",
        "        group.sort_by_key(|part| only_reads(&part.txn));\n",
        "        group.sort_by_key(|part| !only_reads(&part.txn));\n",
        by="a_list_that_travels_with_a_join_sees_it",
    ),
    Broken(
        "a leader's value that could not be read is not read again",
        "observer.rs",
        "            Err(error) => self.look_again(name, &error),\n",
        "            Err(error) => drop(error),\n",
    ),
    Broken(
        "who takes its distance does not look whether the keys are still there",
        "distance.rs",
        "result.is_ok_and(|(header, result)| result.succeeded && header.revision >= distance.from)",
        "result.is_ok_and(|(header, _)| header.revision >= distance.from)",
        by="what_the_watch_on_everything_has_not_told_yet_is_looked_for_before_it_ends",
    ),
    Broken(
        "who takes its distance asks any member",
        "distance.rs",
        "compares, then: vec![Op::Range(range)], ..Txn::default()",
        "compares, then: Vec::new(), ..Txn::default()",
        by="who_takes_its_distance_at_a_member_that_lags_keeps_its_place",
    ),
    Broken(
        "from afar, the end of the candidate before goes unheard",
        "distance.rs",
        "matches!(event, WatchEvent::Delete { .. }) && distance",
        "matches!(event, WatchEvent::Put(_)) && distance",
    ),
    Broken(
        "from afar, the loss of the own key goes unheard",
        "distance.rs",
        "            self.key_changed(name, &below, on, revision);\n",
        "            let _ = (on, revision);\n",
    ),
    Broken(
        "who stands again still watches its former key",
        "campaign.rs",
        "        self.come_near(&election);\n",
        "        let _ = election;\n",
        by="who_stands_again_after_a_loss_takes_its_distance_again",
    ),
    Broken(
        "who observes is told of two keys only",
        "observer.rs",
        "        self.come_near(&election);\n",
        "",
    ),
    Broken(
        "one watch on everything leaves those from afar as they are",
        "watch.rs",
        "            let own: Vec<i64> = election.watches().collect();\n            (election.watch, election.distance) = (None, None);",
        "            let own = election.watch.take();",
        by="the_watch_on_everything_ends_those_from_afar",
    ),
)


def copy_tree(folder: pathlib.Path) -> None:
    """What git knows of, in its present state; files that are as they were keep their times, so little is built."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if not (ROOT / name).is_file():
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != (ROOT / name).read_bytes():
            shutil.copy(ROOT / name, target)


def run_tests(folder: pathlib.Path, which: str) -> tuple[int, str]:
    """The exit status and the output."""
    ended = subprocess.run(
        ["cargo", "test", "--locked", "--lib", which, "--", "--nocapture"],
        cwd=folder,
        env={
            **os.environ,
            "CARGO_TARGET_DIR": str(folder / "target"),
            "TENURE_SEEDS": str(SEEDS),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return ended.returncode, ended.stdout


def look(folder: pathlib.Path, broken: Broken) -> tuple[bool, str]:
    """Whether it was found, and how."""
    path = folder / "src" / "election" / broken.file
    whole = path.read_text()
    if whole.count(broken.old) != 1:
        return False, f"src/election/{broken.file} holds {whole.count(broken.old)} times what is to be replaced"
    path.write_text(whole.replace(broken.old, broken.new))
    try:
        status, output = run_tests(folder, broken.by)
        others = run_tests(folder, "election") if status == 0 else (0, "")
    finally:
        path.write_text(whole)
    if status == 0:
        failed = re.findall(r"^    (election::\S+)$", others[1], re.MULTILINE)
        return False, f"not by {broken.by}, {SEEDS} seeds; by {min(failed) if failed else 'nothing'}"
    if broken.by != SIMULATION and re.search(rf"^    \S*{broken.by}$", output, re.MULTILINE):
        return True, f"by {broken.by}"
    seed = re.search(r"simulation: seed (\d+) failed", output)
    if not seed:
        return False, "it does not build:\n" + "\n".join(output.splitlines()[-30:])
    why = re.search(r"panicked at [^\n]*\n([^\n]*)", output)
    return True, f"seed {seed[1]}: {why[1][:100] if why else '?'}"


def main() -> int:
    folder = pathlib.Path(sys.argv[1]).resolve()
    only = set(sys.argv[2:])
    copy_tree(folder)
    status, output = run_tests(folder, SIMULATION)
    if status != 0:
        print(output)
        print("the engine fails as it is")
        return 1
    print(f"the engine as it is passes {SEEDS} seeds", flush=True)
    passed = failed = 0
    for broken in BROKEN:
        if only and broken.name not in only:
            continue
        started = time.monotonic()
        found, how = look(folder, broken)
        passed, failed = passed + found, failed + (not found)
        print(
            f"{'found' if found else 'MISSED'}: {broken.name}: {how} ({time.monotonic() - started:.0f} s)", flush=True
        )
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
