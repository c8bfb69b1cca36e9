"""That servers are compared in an order that favours nobody."""

from __future__ import annotations

from itertools import pairwise

from tests.benchmarks.comparing import turns

SERVERS = "abcd"
ROUNDS = [turns(SERVERS, nth) for nth in range(len(SERVERS))]


def test_each_is_measured_once_a_round_and_is_the_first_of_one() -> None:
    assert [sorted(order) for order in ROUNDS] == [list(SERVERS)] * len(SERVERS)
    assert sorted(order[0] for order in ROUNDS) == list(SERVERS)


def test_nobody_always_comes_after_the_same_one() -> None:
    before = {pair for order in ROUNDS for pair in pairwise(order)}
    assert all(len({a for a, b in before if b == server}) > 1 for server in SERVERS)
