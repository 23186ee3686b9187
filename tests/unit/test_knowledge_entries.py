"""The knowledge base keeps its rules, and finds what real tools said."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from farm.domain.errors import FarmError
from farm.knowledge import KnowledgeBroken, KnownMessage, diagnose, families, known_messages, read_family

ENTRIES = known_messages()
SHOWN = [entry for entry in ENTRIES if entry.example]
SECONDS_PER_PATTERN = 0.2
LONG = 10_000
HEADER = 'tool = "lamp"\npackages = ["lamp"]\n'
GOOD = """
[[entry]]
id = "lamp-broken"
pattern = "filament of (?P<operator>\\\\w+)"
cause = "The filament is torn."
error = "conversion-failed"
remedy = "Take another lamp."
retry = false
source = "provoked with lamp 1.0"
provoked = true
example = "filament of Kitchen torn"
"""


def test_there_are_enough_and_most_were_provoked() -> None:
    assert len(ENTRIES) >= 60
    assert sum(entry.provoked for entry in ENTRIES) > len(ENTRIES) / 2


def test_every_error_is_one_of_ours() -> None:
    assert {entry.error for entry in ENTRIES} <= set(FarmError.by_code)


def test_texts_are_plain_sentences() -> None:
    odd = [e.id for e in ENTRIES if not (e.cause.endswith(".") and e.remedy.endswith("."))]

    assert odd == []


@pytest.mark.parametrize("entry", SHOWN, ids=lambda entry: entry.id)
def test_a_real_message_is_diagnosed_by_its_own_entry(entry: KnownMessage) -> None:
    assert entry.example is not None
    for tool in (None, entry.tool, *next(f.packages for f in families() if f.tool == entry.tool)):
        found = diagnose(entry.example, tool)
        assert found is not None
        assert (found.entry, found.cause, found.remedy) == (entry.id, entry.cause, entry.remedy)


def test_messages_that_name_an_operator_or_a_tensor_give_it() -> None:
    named = [e.id for e in SHOWN if e.pattern and e.pattern.groupindex]
    silent = [
        e.id
        for e in SHOWN
        if e.id in named and (d := diagnose(e.example or "")) is not None and not (d.operator or d.tensor)
    ]

    assert len(named) >= 40
    assert silent == []


def test_no_example_shows_a_place_of_the_machine_it_was_provoked_on() -> None:
    assert [e.id for e in SHOWN if re.search(r"/(?:root|home|work|Users)/|site-packages", e.example or "")] == []


def test_what_nothing_knows_is_unknown() -> None:
    assert diagnose("the lamp is out") is None
    assert diagnose("the lamp is out", "onnxruntime") is None


def test_another_tools_entries_are_not_asked() -> None:
    said = "RuntimeError: Lowering not found: aten.foo"
    assert diagnose(said, "onnxruntime") is None
    assert diagnose(said, "litert-torch") is not None


HARD = tuple((part * LONG)[:LONG] for part in ("a", "x.y:", "'", '"a", ', "tensor name: ", "[1, ", " \n", "(", "a "))


def test_no_pattern_takes_long_on_a_long_text() -> None:
    """In a process of its own, so that a pattern that never ends is seen as one."""
    code = """
import sys, time
sys.path.insert(0, sys.argv[1])
from tests.unit.test_knowledge_entries import HARD, SECONDS_PER_PATTERN, hard_texts
from farm.knowledge import known_messages
for entry in known_messages():
    for text in hard_texts(entry):
        began = time.process_time()
        entry.pattern and entry.pattern.search(text)
        if time.process_time() - began > SECONDS_PER_PATTERN:
            print(entry.id, round(time.process_time() - began, 2), repr(text[:30]))
"""
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, timeout=120, cwd=root)

    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def hard_texts(entry: KnownMessage) -> list[str]:
    """Make texts that a badly made pattern goes wild on: repeats, and its own example told again and again but cut."""
    example = entry.example or entry.id
    return [*HARD, *((part * LONG)[:LONG] for part in (example[:-1] + " ", example.split(" ")[0]))]


def test_a_long_log_is_read_at_both_ends() -> None:
    began = time.monotonic()
    said = "padding\n" * 200_000 + "RuntimeError: Lowering not found: aten.foo\n"

    found = diagnose(said, "litert_torch")

    assert found is not None
    assert found.operator == "aten.foo"
    assert time.monotonic() - began < 2


def test_a_good_file_is_read() -> None:
    (entry,) = read_family(HEADER + GOOD, "lamp.toml").messages

    assert (entry.id, entry.tool, entry.provoked) == ("lamp-broken", "lamp", True)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("retry = false", "retry = false\ncolour = 'red'", "unknown keys ['colour']"),
        ('cause = "The filament is torn."\n', "", "lacks ['cause']"),
        ("retry = false", 'retry = "no"', "must be a bool"),
        ("filament of (?P<operator>\\\\w+)", "filament of (", "does not compile"),
        ("<operator>", "<colour>", "names groups ['colour']"),
        ("filament of Kitchen torn", "the lamp is out", "its own pattern does not match"),
        ("provoked with lamp 1.0", "seen once", "with which tool and version"),
        ('example = "filament of Kitchen torn"\n', "", "has no example"),
        ('id = "lamp-broken"', 'id = "Lamp"', "lower-case words"),
        ("[[entry]]", "[[entrée]]", "is no TOML"),
        ('tool = "lamp"', 'tool = "lamp"\nversion = "1"', "has keys"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused_with_the_rule(old: str, new: str, told: str) -> None:
    with pytest.raises(KnowledgeBroken, match=re.escape(told)):
        read_family((HEADER + GOOD).replace(old, new), "lamp.toml")


def test_every_packages_family_is_one() -> None:
    packages = [name for family in families() for name in {family.tool, *family.packages}]

    assert len(packages) == len(set(packages))
