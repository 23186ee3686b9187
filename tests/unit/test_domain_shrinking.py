"""The search for a small failing part ends, fails, and can't be made smaller by one."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from farm.domain.shrinking import Budget, Part, propose, shrink

FREE = Budget(tries=10_000, seconds=1e9, clock=lambda: 0.0)
counts = st.integers(1, 60)


def needs(wanted: set[int]) -> Callable[[Part], bool]:
    """Fail alike whenever all of `wanted` are there: a monotone predicate."""
    return lambda part: wanted <= set(part)


@st.composite
def culprits(draw: st.DrawFn) -> tuple[int, set[int]]:
    count = draw(counts)
    return count, draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=4))


@given(culprits())
def test_exactly_the_elements_that_matter_are_left(case: tuple[int, set[int]]) -> None:
    count, wanted = case

    shrunk = shrink(count, needs(wanted), FREE)

    assert set(shrunk.part) == wanted
    assert shrunk.minimal


@given(counts, st.randoms(use_true_random=False), st.integers(0, 40))
def test_it_ends_and_the_result_fails_whatever_the_answers(count: int, random: object, tries: int) -> None:
    """Given answers without reason; then the part is one that failed, or the whole."""
    failed = [tuple(range(count))]
    asked: list[Part] = []

    def fails(part: Part) -> bool:
        asked.append(part)
        if random.random() < 0.3:  # type: ignore[attr-defined]
            failed.append(part)
            return True
        return False

    shrunk = shrink(count, fails, Budget(tries, 1e9, lambda: 0.0))

    assert shrunk.part == failed[-1]
    assert shrunk.attempts == len(asked) <= tries
    assert len(asked) == len(set(asked)), "no part is tested twice"
    assert all(0 < len(part) < count and list(part) == sorted(set(part)) for part in asked)


@given(counts, st.sets(st.frozensets(st.integers(0, 12), min_size=1, max_size=4), min_size=1, max_size=3))
def test_no_single_element_can_be_left_out(count: int, causes: set[frozenset[int]]) -> None:
    """Given several causes, each enough alone; then one of them is left, and nothing else."""
    causes = {frozenset(element % count for element in cause) for cause in causes}

    def fails(part: Part) -> bool:
        return any(cause <= set(part) for cause in causes)

    part = shrink(count, fails, FREE).part

    assert fails(part)
    assert not any(fails(rest) for rest in itertools.combinations(part, len(part) - 1))


def test_a_hint_that_fails_is_gone_on_from() -> None:
    asked: list[Part] = []

    def fails(part: Part) -> bool:
        asked.append(part)
        return 71 in part

    shrunk = shrink(100, fails, FREE, hints=[(3,), (70, 71, 72)])

    assert (shrunk.part, asked[:2]) == ((71,), [(3,), (70, 71, 72)])
    assert shrunk.attempts <= 6


def test_one_element_of_a_hundred_takes_few_tests() -> None:
    attempts = [shrink(100, needs({at}), FREE).attempts for at in range(100)]

    assert max(attempts) <= 20


def test_two_elements_that_only_fail_together_are_found() -> None:
    shrunk = shrink(100, needs({13, 77}), FREE)

    assert shrunk.part == (13, 77)
    assert shrunk.attempts <= 60


def test_time_ends_the_search_with_the_best_so_far() -> None:
    seconds = itertools.count(0.0, 10.0)
    shrunk = shrink(100, needs({42}), Budget(1000, 35.0, lambda: next(seconds)))

    assert 1 < len(shrunk.part) < 100
    assert 42 in shrunk.part
    assert not shrunk.minimal


def test_a_whole_of_one_element_needs_no_test() -> None:
    assert shrink(1, lambda part: True, FREE).part == (0,)
    assert list(propose(1)) == []
