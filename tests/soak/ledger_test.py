#!/usr/bin/env python3
"""The soak's checks find what they are for."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path

for place in ("examples", "tests/tools"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / place))

import ledger as soak
from members import Life, now_ns

TTL_S = 4


class Checks(unittest.TestCase):
    def setUp(self) -> None:
        self.ledger = soak.Ledger(TTL_S)
        self.lives: dict[int, Life] = {}

    def claim(self, who: str, token: int, start_ns: int, end_ns: int) -> None:
        self.ledger.claimed("alpha", who, token, start_ns, end_ns)
        self.lives.setdefault(token, Life(f"_ld/soak/alpha/{token}", who, start_ns, None))

    def gone(self, token: int, gone_ns: int) -> None:
        self.lives[token] = self.lives[token]._replace(gone_ns=gone_ns)

    def failed(self) -> list[str]:
        self.ledger.check_claims(self.lives)
        return [name for name, found in self.ledger.failures.items() if found]

    def test_terms_one_after_the_other_are_fine(self) -> None:
        self.claim("a", 5, 10, 20)
        self.claim("b", 7, 21, 30)
        self.gone(5, 20)
        self.assertEqual(self.failed(), [])
        self.assertEqual((self.ledger.hand_overs_ns, self.ledger.take_overs_ns), ([], [1]))

    def test_a_resignation_is_a_hand_over(self) -> None:
        self.ledger.lost("a", 5, "OK")
        self.claim("a", 5, 10, 20)
        self.claim("b", 7, 25, 30)
        self.ledger.check_claims(self.lives)
        self.assertEqual(self.failed(), [])
        self.assertEqual((self.ledger.hand_overs_ns, self.ledger.take_overs_ns), ([5], []))

    def test_two_at_once_are_found(self) -> None:
        self.claim("a", 5, 10, 20)
        self.claim("b", 7, 20, 30)
        self.assertEqual(self.failed(), [soak.OVERLAP])

    def test_two_at_once_are_found_when_the_first_claim_grows_later(self) -> None:
        self.claim("a", 5, 10, 20)
        self.claim("b", 7, 25, 30)
        self.assertEqual(self.failed(), [])
        self.claim("a", 5, 10, 26)
        self.assertEqual(self.failed(), [soak.OVERLAP])

    def test_a_token_that_does_not_grow_is_found(self) -> None:
        self.claim("a", 7, 10, 20)
        self.claim("b", 5, 21, 30)
        self.assertEqual(self.failed(), [soak.TOKENS])

    def test_one_token_of_two_leaders_is_found(self) -> None:
        self.claim("a", 5, 10, 20)
        self.claim("b", 5, 21, 30)
        self.assertIn(soak.TOKENS, self.failed())

    def test_a_claim_without_a_key_is_found(self) -> None:
        self.claim("a", 5, 10, 20)
        self.lives.clear()
        self.assertEqual(self.failed(), [soak.KEYS])

    def test_a_claim_on_the_key_of_another_is_found(self) -> None:
        self.lives[5] = Life("_ld/soak/alpha/1", "b", 1, None)
        self.claim("a", 5, 10, 20)
        self.assertEqual(self.failed(), [soak.KEYS])

    def test_a_claim_that_outlives_its_key_is_found(self) -> None:
        self.claim("a", 5, 10, 20)
        self.gone(5, 19)
        self.assertEqual(self.failed(), [soak.KEYS])

    def test_an_administrator_is_noticed_a_little_later(self) -> None:
        self.claim("a", 5, 10, 20)
        self.gone(5, 19)
        self.ledger.removed.add(5)
        self.assertEqual(self.failed(), [])
        self.claim("a", 5, 10, 20 + soak.NOTICE_NS)
        self.assertEqual(self.failed(), [soak.KEYS])

    def test_a_member_that_goes_on_may_end_a_lease_early(self) -> None:
        now = now_ns()
        for reason, gone_ns, found in (
            ("LEASE_REVOKED", now + 1000, []),
            ("LEASE_REVOKED", now + 2 * soak.SECOND, [soak.KEYS]),
            ("LEASE_REVOKED", now - soak.SECOND, [soak.KEYS]),
            ("SESSION_EXPIRED", now + 1000, [soak.KEYS]),
        ):
            with self.subTest(reason=reason, gone_ns=gone_ns - now):
                self.setUp()
                self.claim("a", 5, 10, gone_ns + 20)
                self.gone(5, gone_ns)
                self.ledger.lost("a", 5, reason)
                self.ledger._gone_on_ns.append(now)
                self.assertEqual(self.failed(), found)
                self.assertEqual(self.ledger.ended_early, 0 if found else 1)

    def test_the_heir_of_a_removed_leader_may_lead_a_little_sooner(self) -> None:
        second = soak.NOTICE_NS
        for late_ns, found in ((second - 5, []), (second + 5, [soak.OVERLAP])):
            with self.subTest(late_ns=late_ns):
                self.setUp()
                self.claim("a", 5, 10, 3 * second)
                self.claim("b", 7, 3 * second - late_ns, 4 * second)
                self.ledger.removed.add(5)
                self.assertEqual(self.failed(), found)
                self.assertEqual(self.ledger.longest_notice_ns, late_ns)

    def test_a_loss_while_all_is_well_is_found(self) -> None:
        self.ledger.lost("a", 5, "SESSION_EXPIRED")
        self.assertEqual(self.failed(), [])
        self.ledger.all_is_well(now_ns() - TTL_S * soak.SECOND)
        self.ledger.lost("a", 7, "SESSION_EXPIRED")
        self.assertEqual(self.failed(), [soak.GAPS])

    def test_a_session_may_end_for_a_fault_that_is_just_over(self) -> None:
        self.ledger.all_is_well(now_ns())
        self.ledger.lost("a", 7, "SESSION_EXPIRED")
        self.assertEqual(self.failed(), [])
        self.assertEqual(self.ledger.late_losses, 1)

    def test_growth_is_found(self) -> None:
        flat = [soak.Sample(9000 + number % 7, 4, 10) for number in range(100)]
        self.assertEqual(soak.Drift("a", "C", flat).excess, [])
        for field in soak.Sample._fields:
            grown = [one._replace(**{field: getattr(one, field) + 50 * at}) for at, one in enumerate(flat)]
            (found,) = soak.Drift("a", "C", grown).excess
            self.assertIn(field, found)


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
