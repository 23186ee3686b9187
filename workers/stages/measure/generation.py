"""Make text with a decoder's step: feed a prompt, take the best token, feed it back with the cache."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from farm.domain.artifact import Contract
from farm.domain.errors import ArtifactBroken
from farm.domain.generation import (
    IDS,
    LOGITS,
    MASK,
    NEW_TOKENS,
    PAST,
    POSITIONS,
    PRESENT,
    PROMPT_TOKENS,
    ROUNDS,
    GenerationRun,
)
from workers.runtimes import Session
from workers.runtimes.binding import to_artifact, to_source
from workers.stages.measure.memory import peak_bytes
from workers.stages.samples import SEED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]


class Decoder:
    """A session that is called token by token; the cache starts empty."""

    def __init__(self, session: Session, contract: Contract) -> None:
        import numpy as np

        self._session, self._contract = session, contract
        specs = {binding.source.name: binding.source for binding in contract.inputs}
        self.length = specs[MASK].static_shape[1] - 1
        self._filled = 0
        self._state: Arrays = {name: np.zeros(spec.static_shape, dtype=spec.dtype) for name, spec in specs.items()}

    def feed(self, token: int) -> NDArray[Any]:
        """Take one token; return the logits of the next, (vocabulary,).

        Raises:
            ArtifactBroken: they are not finite.
        """
        import numpy as np

        state = self._state
        state[IDS][...] = token
        state[POSITIONS][...] = self._filled
        state[MASK][0, self.length - self._filled :] = 1
        found = to_source(self._session.run(to_artifact(state, self._contract.inputs)), self._contract.outputs)
        for name in [name for name in state if name.startswith(f"{PAST}.")]:
            state[name] = found[PRESENT + name.removeprefix(PAST)]
        self._filled = min(self._filled + 1, self.length - 1)
        logits: NDArray[Any] = found[LOGITS].reshape(-1)
        if not np.isfinite(logits).all():
            raise ArtifactBroken(f"Logits of token {self._filled} hold values that are not finite.")
        return logits


def generate(session: Session, contract: Contract) -> GenerationRun:
    """Make text several times from one seeded prompt, the best token each time."""
    import numpy as np

    vocabulary = next(b.source for b in contract.outputs if b.source.name == LOGITS).static_shape[-1]
    length = Decoder(session, contract).length
    asked = min(PROMPT_TOKENS, max(1, length // 2))
    prompt = np.random.default_rng(SEED).integers(0, vocabulary, asked).tolist()
    first, further, tokens = [], [], []
    for _ in range(ROUNDS):
        decoder, times = Decoder(session, contract), []
        started_ns = time.perf_counter_ns()
        for token in prompt:
            logits = decoder.feed(token)
        tokens = [int(logits.argmax())]
        first.append((time.perf_counter_ns() - started_ns) / 1000)
        for _ in range(min(NEW_TOKENS, length - asked) - 1):
            started_ns = time.perf_counter_ns()
            tokens.append(int(decoder.feed(tokens[-1]).argmax()))
            times.append((time.perf_counter_ns() - started_ns) / 1000)
        further.append(tuple(times))
    return GenerationRun(asked, tuple(first), tuple(further), peak_bytes(), tuple(tokens))
