"""The lines of Python that build a submitter's module again, for commands that repeat an export."""

from __future__ import annotations

from pathlib import PurePath

from workers.runtimes.torch_state_dict import Built


def build_lines(built: Built) -> tuple[str, ...]:
    """Return lines that leave the module in `model`; run them in the folder of the weights."""
    name, weights = built.builder.entry.removesuffix("()"), built.weights
    read = f"torch.load({built.file!r}, map_location='cpu', weights_only=True)"
    if built.file.endswith(".safetensors"):
        read = f"__import__('safetensors.torch').torch.load_file({built.file!r})"
    key = f"[{weights.key!r}]" if weights.key else ""
    names = f"name.removeprefix({weights.prefix!r})" if weights.prefix else "name"
    return (
        f"from {PurePath(built.builder.file).stem} import {name}",
        f"model = {built.builder.entry}",
        f"model.load_state_dict({{{names}: tensor for name, tensor in {read}{key}.items()}})",
    )
