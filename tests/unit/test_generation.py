"""Text made token by token: what a decoder's step is fed, and what is told of it. The decoder here is arithmetic."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from farm.domain.artifact import Binding, Contract
from farm.domain.errors import ArtifactBroken, BadRequest, CorruptModel
from farm.domain.facts import TensorSpec
from farm.domain.generation import GenerationRun, generates, generation
from workers.runtimes.hugging_face_cache import GENERATION, StaticCache, asked_cache
from workers.stages.measure.generation import generate

WORDS, LENGTH = 11, 40
CACHE = StaticCache(layers=1, heads=1, length=LENGTH, width=1)
LOGITS = TensorSpec("logits", "float32", (1, 1, WORDS))
STATE = tuple(TensorSpec(name, "float32", (1, 1, LENGTH, 1)) for name in CACHE.names("present"))


class Arithmetic:
    """A step whose next token is a sum of all tokens so far, each times its place; it keeps tokens as keys."""

    def __init__(self, *, spoilt: bool = False) -> None:
        self.inputs, self.outputs, self.spoilt = (), (), spoilt

    def run(self, feeds: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        token, place = float(feeds["ids"].item()), float(feeds["position_ids"].item())
        keys = np.append(feeds["past_key_values.0.key"].ravel(), token)
        places = np.append(feeds["past_key_values.0.value"].ravel(), place)
        seen = feeds["attention_mask"].ravel() == 1
        logits = np.eye(WORDS, dtype=np.float32)[int((keys * (places + 1) * seen).sum()) % WORDS]
        if self.spoilt:
            logits = logits * np.float32("nan")
        moved = {n: a[1:].reshape(1, 1, LENGTH, 1) for n, a in zip(CACHE.names("present"), (keys, places), strict=True)}
        return {"logits": logits.reshape(1, 1, WORDS), **{n: a.astype(np.float32) for n, a in moved.items()}}


def contract() -> Contract:
    """Bind the step as an artifact whose ids are narrower and called otherwise."""
    ids, *others = CACHE.inputs
    inputs = (Binding(ids, TensorSpec("ids", "int32", (1, 1))), *(Binding(spec, spec) for spec in others))
    return Contract(inputs, tuple(Binding(spec, spec) for spec in (LOGITS, *STATE)))


def expected(prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(sum(token * (place + 1) for place, token in enumerate(tokens)) % WORDS)
    return tokens[len(prompt) :]


def test_every_token_is_fed_with_its_place_and_all_that_came_before() -> None:
    run = generate(Arithmetic(), contract())
    prompt = np.random.default_rng(20_260).integers(0, WORDS, run.prompt_tokens).tolist()

    assert run.prompt_tokens == 16
    assert list(run.tokens) == expected(prompt, len(run.tokens))
    assert len(run.tokens) == LENGTH - run.prompt_tokens
    assert [len(times) for times in run.token_us] == [len(run.tokens) - 1] * 3


def test_logits_that_are_not_finite_break_the_artifact() -> None:
    with pytest.raises(ArtifactBroken, match="Logits of token 1 "):
        generate(Arithmetic(spoilt=True), contract())


def test_rates_are_medians_over_rounds() -> None:
    run = GenerationRun(16, (900.0, 300.0, 310.0), ((100.0, 100.0), (200.0, 200.0), (400.0, 400.0)), 5, (1, 2, 3))
    told = generation(run)

    assert told["time_to_first_token"] == 310.0
    assert told["tokens_per_second"] == pytest.approx(5000.0)
    assert (told["new_tokens"], told["peak_memory_bytes"]) == (3, 5)


def test_only_a_step_with_its_cache_generates() -> None:
    names = [spec.name for spec in CACHE.inputs]

    assert generates(names)
    assert not generates(names[:3])
    assert not generates(["input_ids", "attention_mask"])


class ToyForCausalLM:
    """Stands for a class of transformers: only its name is read."""


def config(**changes: Any) -> Any:
    text = {"num_attention_heads": 4, "num_hidden_layers": 3, "hidden_size": 32, "max_position_embeddings": 128}
    own = SimpleNamespace(**text | {"is_encoder_decoder": False} | changes)
    own.get_text_config = lambda: own
    return own


def asked(folder: Path, told: Any, kind: Any = ToyForCausalLM, **changes: Any) -> StaticCache | None:
    (folder / GENERATION).write_text(told if isinstance(told, str) else json.dumps(told))
    return asked_cache(folder, kind, config(**changes))


def test_a_cache_is_only_there_for_who_asks(tmp_path: Path) -> None:
    assert asked_cache(tmp_path, ToyForCausalLM, config()) is None
    assert asked(tmp_path, {"use_cache": True}) is None
    assert asked(tmp_path, {"cache_implementation": "dynamic"}) is None
    assert asked(tmp_path, {"cache_implementation": "static"}) == StaticCache(3, 4, 128, 8)
    short = {"cache_implementation": "static", "max_length": 64}
    assert asked(tmp_path, short, num_key_value_heads=2, head_dim=16) == StaticCache(3, 2, 64, 16)


@pytest.mark.parametrize(
    ("told", "changes", "error", "says"),
    [
        ("{", {}, CorruptModel, "no JSON"),
        ({"cache_implementation": "static", "max_length": 500}, {}, BadRequest, "a cache of 500 tokens"),
        ({"cache_implementation": "static", "max_length": "long"}, {}, BadRequest, "'long'"),
        ({"cache_implementation": "static"}, {"is_encoder_decoder": True}, BadRequest, "no decoder"),
        ({"cache_implementation": "static"}, {"kind": dict}, BadRequest, "dict is no decoder"),
        ({"cache_implementation": "static"}, {"num_hidden_layers": None}, BadRequest, "how many heads"),
    ],
)
def test_a_cache_that_can_not_be_is_refused(
    tmp_path: Path, told: Any, changes: dict[str, Any], error: Any, says: str
) -> None:
    with pytest.raises(error, match=says):
        asked(tmp_path, told, **changes)
