"""Text of models and tools is safe to store and show."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from workers.stages.wording import plain, plain_json


@given(st.text(max_size=400))
def test_no_control_character_is_left(text: str) -> None:
    left = {unicodedata.category(c) for c in plain(text) if c not in "\n\t"}
    assert "Cc" not in left
    assert "Cs" not in left
    plain(text).encode()


@given(st.text(max_size=300), st.integers(min_value=20, max_value=100))
def test_length_is_capped(text: str, limit: int) -> None:
    assert len(plain(text, limit=limit)) <= limit + len(" […] ")


@given(st.text(alphabet=st.characters(categories=("L", "N", "P")), max_size=200))
def test_ordinary_text_stays(text: str) -> None:
    assert plain(text) == text


def test_terminal_escapes_go_whole() -> None:
    assert plain("\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2Jend") == "red end"


def test_head_and_tail_of_a_long_message_stay() -> None:
    shown = plain("cause" + "x" * 5000 + "effect", limit=100)
    assert shown.startswith("cause")
    assert shown.endswith("effect")


def test_json_is_cleaned_at_every_depth() -> None:
    assert plain_json({"a\x07": ["\x1b[1mb", {"c": (1, None, True)}], "d": object}) == {
        "a": ["b", {"c": [1, None, True]}],
        "d": "<class 'object'>",
    }
