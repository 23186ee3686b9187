"""The lines of Python that load a Hugging Face folder again, for commands that repeat an export."""

from __future__ import annotations

from workers.runtimes.hugging_face import ATTENTION, Kind


def build_lines(kind: Kind) -> tuple[str, ...]:
    """Return lines that leave in `model` a module that takes the inputs in order; run them beside the folder."""
    if kind.cache is not None:
        return (
            "from workers.runtimes.hugging_face import load_folder",
            "model = load_folder('folder')[0].flat()  # one step of the decoder, with its cache going in and out",
        )
    names = ", ".join(spec.name for spec in kind.inputs)
    given = ", ".join(f"{spec.name}={spec.name}" for spec in kind.inputs)
    return (
        f"from transformers import {kind.model.__name__}",
        f"whole = {kind.model.__name__}.from_pretrained('folder', local_files_only=True, dtype=torch.float32, "
        f"attn_implementation={ATTENTION!r})",
        "whole.config.use_cache, whole.config.return_dict = False, False",
        "model = torch.nn.Module()",
        "model.whole = whole",
        f"model.forward = lambda {names}: whole({given})",
    )
