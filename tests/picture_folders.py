"""Folders of pictures as users keep them, packed as the client packs them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from farm.client.pictures import pack

DECLARED: dict[str, Any] = {"input": "image", "resize": [8, 8], "classes": ["dark", "bright"]}


def draw(folder: Path, *levels: int, size: tuple[int, int] = (12, 10), mode: str = "RGB", suffix: str = "png") -> Path:
    """Draw a picture for each brightness, a little noisy, numbered by place."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, level in enumerate(levels):
        noise = np.random.default_rng(number).integers(0, 20, (size[1], size[0], len(mode) if mode == "RGB" else 1))
        pixels = np.clip(level + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels if mode == "RGB" else pixels[:, :, 0], mode).save(folder / f"{number:03}.{suffix}")
    return folder


def label(folder: Path, *lines: str) -> Path:
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def packed(folder: Path, declared: Mapping[str, Any] = DECLARED) -> Path:
    into = folder.with_name(f"{folder.name}-packed")
    into.mkdir(exist_ok=True)
    return pack(folder, into, declared, what="evaluation")
