"""Make tiny models for the acceptance tests; runs in the builder environment: `python tiny_models.py FOLDER`."""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

VARIANTS = 40
BUILD = """
from torch import nn


def build():
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
"""
BUILD_BRANCHING = """
from torch import nn


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 4)

    def forward(self, x):
        return self.first(x) * 2 if x.sum() > 1e6 else self.first(x)


def build():
    return Branching()
"""


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.classify = nn.Linear(4 * 64, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classify(torch.relu(self.conv(image)).flatten(1))


class Bessel(nn.Module):
    """Hold an operator that torch computes and no converter has a form of."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x) + 1


class Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch /tmp/farm-acceptance-pwned",)


def tiny_onnx(seed: int, axis: object = 1, custom: bool = False) -> onnx.ModelProto:
    """A matrix product and a Tanh over (axis, 8) float32; every seed is another model."""
    weights = np.random.default_rng(seed).normal(size=(8, 4)).astype(np.float32)
    second = (
        helper.make_node("Sparkle", ["h"], ["y"], domain="acme") if custom else helper.make_node("Tanh", ["h"], ["y"])
    )
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), second],
        f"tiny{seed}",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [axis, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [axis, 4])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    domains = [helper.make_opsetid("", 17)] + ([helper.make_opsetid("acme", 1)] if custom else [])
    return helper.make_model(graph, opset_imports=domains, ir_version=10)


def endless_onnx() -> onnx.ModelProto:
    """A Loop of 10^12 rounds: it loads at once and never ends."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["carried", "carried"], ["doubled"]),
            helper.make_node("Tanh", ["doubled"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, [1, 8]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [1, 8]),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["rounds", "yes", "x"], ["y"], body=body)],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])],
        [
            onnx.numpy_helper.from_array(np.array(10**12, np.int64), "rounds"),
            onnx.numpy_helper.from_array(np.array(True), "yes"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def hostile_program(folder: Path) -> None:
    """Put a pickle that runs a command where a .pt2 keeps its sample inputs."""
    payload = io.BytesIO()
    torch.save(Runs(), payload)
    with zipfile.ZipFile(folder / "tiny.pt2") as good, zipfile.ZipFile(folder / "hostile.pt2", "w") as hostile:
        for name in good.namelist():
            hostile.writestr(name, payload.getvalue() if "sample_inputs" in name else good.read(name))


def state_dicts(folder: Path) -> None:
    """Save the classic first network, and a module with a branch on its values, as weights and a builder file each."""
    for name, lines in (("mnist", BUILD), ("branching", BUILD_BRANCHING)):
        (folder / f"build_{name}.py").write_text(lines)
        made: dict[str, Callable[[], nn.Module]] = {}
        exec(lines, made)
        torch.save(made["build"]().state_dict(), folder / f"{name}.pth")


def main(folder: Path) -> None:
    torch.manual_seed(0)
    state_dicts(folder)
    torch.jit.trace(Bessel(), torch.zeros(1, 8)).save(folder / "bessel.pt")
    torch.export.save(torch.export.export(Tiny().eval(), (torch.zeros(1, 1, 8, 8),)), folder / "tiny.pt2")
    hostile_program(folder)
    for seed in range(VARIANTS):
        onnx.save(tiny_onnx(seed), folder / f"tiny-{seed}.onnx")
    onnx.save(tiny_onnx(1000, axis="rows"), folder / "open-batch.onnx")
    onnx.save(tiny_onnx(1001, custom=True), folder / "custom.onnx")
    onnx.save(endless_onnx(), folder / "endless.onnx")
    open_axis = tiny_onnx(1002)
    open_axis.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "width"
    onnx.save(open_axis, folder / "open-axis.onnx")
    external = tiny_onnx(1003)
    (folder / "external").mkdir()
    onnx.save(
        external,
        folder / "external" / "external.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    (folder / "external" / "weights.bin").unlink()
    whole = (folder / "tiny-0.onnx").read_bytes()
    (folder / "truncated.onnx").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "mystery.xyz").write_bytes(b"what is this")
    (folder / "pickle.pt").write_bytes(pickle.dumps(Runs()))
    (folder / "<b>bold.onnx").write_bytes(whole)
    (folder / "bold\x1b[31m.onnx").write_bytes(whole)
    rows = np.random.default_rng(0).normal(size=(32, 1, 8)).astype(np.float32)
    np.savez(folder / "good.npz", x=rows)
    np.savez(folder / "wrong-shape.npz", x=rows[..., :5])
    np.savez(folder / "wrong-dtype.npz", x=rows.astype(np.float64))
    np.savez(folder / "wrong-name.npz", z=rows)
    np.savez(folder / "pickled.npz", x=np.array([Runs()], dtype=object))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
