"""Text made token by token by a decoder whose cache of keys and values goes in and out of each call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

IDS, MASK, POSITIONS = "input_ids", "attention_mask", "position_ids"
PAST, PRESENT, LOGITS = "past_key_values", "present", "logits"
"""Names of a step's tensors, as Optimum's exports have them."""
PROMPT_TOKENS = 16
NEW_TOKENS = 32
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class GenerationRun:
    """What one process took: for each round the time to the first token and of each further one, in microseconds."""

    prompt_tokens: int
    first_token_us: tuple[float, ...]
    token_us: tuple[tuple[float, ...], ...]
    peak_memory_bytes: int | None
    tokens: tuple[int, ...]


def generates(names: Iterable[str]) -> bool:
    """Tell whether inputs of these names are those of a decoder's step with its cache."""
    found = set(names)
    return {IDS, MASK, POSITIONS} <= found and any(name.startswith(f"{PAST}.") for name in found)


def generation(run: GenerationRun) -> dict[str, Any]:
    """Tell a run in the words of execution_summary; times in microseconds.

    The prompt goes in token by token, so the time to the first token is that of as many steps.
    """
    rates = [len(times) / (sum(times) / 1e6) for times in run.token_us if sum(times) > 0]
    return {
        "prompt_tokens": run.prompt_tokens,
        "new_tokens": len(run.tokens),
        "time_to_first_token": median(run.first_token_us),
        "tokens_per_second": median(rates) if rates else None,
        "all_first_token_times": list(run.first_token_us),
        "all_token_times": [list(times) for times in run.token_us],
        "peak_memory_bytes": run.peak_memory_bytes,
        "tokens": list(run.tokens),
    }
