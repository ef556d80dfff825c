"""What is known of sizes: proofs hold for all of them, and what is not proved becomes a condition."""
from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest

from flambeau.ir.answers import assuming
from flambeau.ir.dims import Dim, Size, evaluated, hint, quotient
from flambeau.ir.facts import LARGEST, Facts
from flambeau.ir.size_text import parse_size

B, T = Dim("B"), Dim("T")


def facts_of(b: int = 32, t: int = 10, low: int = 1) -> Facts:
    return Facts({"B": b, "T": t}, {"B": (low, 512), "T": (low, LARGEST)})


def test_what_is_proved_is_no_condition() -> None:
    facts = facts_of()
    with assuming(facts):
        assert B + 1 > 1 and B * T >= T and B <= 512 and T // 2 <= T and B % 4 < 4 and B != 0
        assert not B > 512 and not B * T < T
    assert facts.conditions == []


def test_what_is_not_proved_is_answered_by_the_call_and_becomes_a_condition() -> None:
    facts = facts_of()
    with assuming(facts):
        assert B > 16 and B > 10 and not T > 10
    assert [str(c) for c in facts.conditions] == ["B >= 17", "T <= 10"]
    assert facts.broken({"B": 17, "T": 10}) is None
    assert facts.broken({"B": 16, "T": 10}) == "B is 16, and it is for B from 17 to 512"


def test_equal_sizes_become_one() -> None:
    facts = facts_of(b=10)
    with assuming(facts):
        assert B == T and T * 2 - B == B
    assert facts.values == {"T": B}
    assert facts.broken({"B": 3, "T": 3}) is None and facts.broken({"B": 3, "T": 4}) is not None


def test_asking_for_the_number_fixes_it() -> None:
    facts = facts_of()
    with assuming(facts):
        assert list(range(T)) == list(range(10)) and T * 3 == 30 and hint(B) == 32
    assert [str(c) for c in facts.conditions] == ["T == 10"]


def test_without_facts_sizes_compare_by_structure_and_have_no_order() -> None:
    assert B == Dim("B") and B != T and B != 1
    with pytest.raises(TypeError, match="whether the size B is at least 2 is not known"):
        assert B > 1
    with pytest.raises(TypeError, match="the size B has no number"):
        range(B)


def test_quotients_come_out_where_they_can() -> None:
    assert (4 * B * T + 6) // 4 == B * T + 1 and B * T // T == B and B * T % T == 0
    assert str((B + 1) // 2) == "((B+1)/2)"
    with assuming(facts_of()):
        assert (T + 5 * B) // B == 5 + T // B and B % 513 == B


@pytest.mark.parametrize("text", ["((B+1)/2)", "3*((B+1)/2)+1", "((T+((B+1)/2))/(T+1))", "(7/B)", "2*(B/2)*(B/2)",
                                  "((-1*B)/2)"])
def test_quotients_print_and_parse(text: str) -> None:
    assert parse_size(str(parse_size(text))) == parse_size(text)


@pytest.mark.parametrize("text", ["(B", "B/2", "(B/0)", "(B//2)", "((B)", "(" * 30])
def test_what_is_no_quotient_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"size|identifier"):
        parse_size(text)


def random_size(r: random.Random, depth: int, names: list[str]) -> Size:
    kind = r.random()
    if depth == 0 or kind < 0.25:
        return r.choice([*map(Dim, names), r.randint(-3, 6)])
    a, b = random_size(r, depth - 1, names), random_size(r, depth - 1, names)
    if kind < 0.8:
        return a + b if kind < 0.5 else a - b if kind < 0.65 else a * b
    return quotient(a, b if isinstance(b, Dim) and kind < 0.9 else r.choice([2, 3, 4]))


@pytest.mark.parametrize("seed", range(400))
def test_answers_hold_for_all_sizes_that_meet_the_conditions(seed: int) -> None:
    r = random.Random(seed)
    names = ["B", "T", "C"][:r.randint(1, 3)]
    ranges = {name: (low := r.randint(0, 3), low + r.choice([0, 1, 4, 7])) for name in names}
    every = [dict(zip(names, v, strict=True)) for v in itertools.product(*[range(a, b + 1) for a, b in ranges.values()])]
    call = r.choice(every)
    facts = Facts(call, ranges if r.random() < 0.6 else {name: (low, LARGEST) for name, (low, _) in ranges.items()})
    asked: list[tuple[Dim, Callable[[int], bool], bool]] = []
    with assuming(facts):
        for _ in range(6):
            try:
                size = random_size(r, 3, names)
                evaluated(size, call)
            except ZeroDivisionError:
                continue
            if isinstance(size, Dim):
                zero = r.random() < 0.5
                asked.append((size, (lambda n: n == 0) if zero else (lambda n: n >= 0),
                              facts.is_zero(size) if zero else facts.is_at_least_zero(size)))
    assert facts.broken(call) is None
    for sizes in every:
        if facts.broken(sizes) is None:
            for size, holds, answer in asked:
                try:
                    value = size.evaluate(sizes)
                except ZeroDivisionError:
                    continue
                assert holds(value) == answer and evaluated(facts.settled(size), sizes) == value, (size, sizes)
