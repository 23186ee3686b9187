"""Convert ONNX to float TFLite through a torch module: onnx2torch, then litert-torch.

Tools: onnxslim 0.1.98, onnx2torch 1.5.15 (https://github.com/ENOT-AutoDL/onnx2torch), then those of
workers/stages/litert_torch_call.py.
Limits: layouts stay NCHW; every axis is fixed; fewer operators than onnx2tf (no LSTM or GRU, no reflect padding across
three axes), and about 15 s where onnx2tf takes 2.

onnx2torch imports torchvision for non-maximum suppression and RoiAlign alone. Its builds don't load beside this torch,
so a stand-in without a single function takes its place while it is imported, and models with those operators are
refused. onnx2torch also reads shapes from tensors at run time; tracing it with these tensors as constants removes that.
"""

from __future__ import annotations

import operator
import sys
import types
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.facts import Format, ModelFacts, TensorSpec
from farm.domain.stage import Kind, StageInput, StageOutput, Verdict, stage
from workers.stages.convert.onnx_operators import refused_operators
from workers.stages.litert_torch_call import PRELOAD, TOOLS, convert_module
from workers.stages.onnx_files import fix_axes, load_inlined, named_in_commands
from workers.stages.samples import Ranges, example_tensors
from workers.stages.tool_calls import python_command, python_specs, tool_call
from workers.stages.transforms import given_contract, proven, ranges_of

if TYPE_CHECKING:
    import onnx
    import torch

NEEDS_TORCHVISION = frozenset({"NonMaxSuppression", "RoiAlign"})
UNKNOWN = frozenset({"LSTM", "GRU", "RNN"})
MAX_CONSTANT_ELEMENTS = 4096
"""Integer tensors up to this size are taken for shapes, axes and indices, and become constants."""


def check(facts: ModelFacts, profile: Mapping[str, Any], options: Any) -> Verdict:
    return refused_operators(facts, "onnx2torch", NEEDS_TORCHVISION | UNKNOWN)


@stage(
    name="onnx-to-tflite-via-torch",
    version="3",
    kind=Kind.CONVERT,
    environment="builder",
    source=Format.ONNX,
    target=Format.TFLITE,
    tools=(*TOOLS, "onnx2torch", "onnxslim", "onnx"),
    preload=(*PRELOAD, "onnx"),
    cost=20,
)
def run(given: StageInput) -> StageOutput:
    """Write model.tflite, in the layout of the ONNX file.

    Raises:
        ConversionFailed: an operator that either tool does not know.
        NumericsBroken: the file does not compute the model's function.
    """
    inputs = tuple(binding.artifact for binding in given_contract(given).inputs)
    path = given.work / "model.tflite"
    convert(given.files["model"], inputs, path, ranges=ranges_of(given))
    return proven(
        given,
        path,
        source=Format.ONNX,
        target=Format.TFLITE,
        inputs_as="args",
        reproduce=python_command(
            "from pathlib import Path",
            "from farm.domain.facts import TensorSpec",
            "from workers.stages.convert.onnx_to_tflite_via_torch import convert",
            f"convert(Path({named_in_commands(given.files['model'])!r}), {python_specs(inputs)}, Path('model.tflite'), "
            f"ranges={ranges_of(given)!r})",
        ),
    )


def convert(source: Path, inputs: tuple[TensorSpec, ...], path: Path, *, ranges: Ranges | None = None) -> None:
    """Write `path` from the ONNX file `source`, whose axes are fixed as `inputs` say."""
    convert_module(torch_module(source, inputs, ranges), inputs, path, ranges=ranges)


def torch_module(source: Path, inputs: tuple[TensorSpec, ...], ranges: Ranges | None = None) -> torch.fx.GraphModule:
    """Return an ONNX file as a torch module of fixed axes.

    Raises:
        ConversionFailed: onnxslim can't fold it, or an operator that onnx2torch does not know.
    """
    model = load_inlined(source)
    fix_axes(model, inputs)
    folded = _folded(model)
    with tool_call("onnx2torch"):
        return _traced(_to_torch(folded), example_tensors(inputs, ranges))


def _folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold what is constant once every axis is fixed: onnx2torch takes weights from initializers alone."""
    import onnxslim

    with tool_call("onnxslim"):
        slim: onnx.ModelProto = onnxslim.slim(model)
    return slim


def _to_torch(model: onnx.ModelProto) -> torch.fx.GraphModule:
    with _without_torchvision():
        import onnx2torch

    module: torch.fx.GraphModule = onnx2torch.convert(model).eval()
    return module


@contextmanager
def _without_torchvision() -> Iterator[None]:
    """Let onnx2torch be imported; the stand-in is taken away again, since transformers asks whether there is one."""
    package, ops = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")
    vars(ops)["roi_align"] = None
    with ExitStack() as held:
        for module in (package, ops):
            if module.__name__ not in sys.modules:
                sys.modules[module.__name__] = module
                held.callback(sys.modules.pop, module.__name__)
        yield


def _traced(module: torch.fx.GraphModule, arguments: tuple[torch.Tensor, ...]) -> torch.fx.GraphModule:
    """Record one run of its modules as plain tensor operations, shapes and indices frozen at what they were."""
    import torch
    from torch.fx.experimental import proxy_tensor

    _mark_constants(module)
    proxy_tensor.CONSTANT_NUMEL_LIMIT = MAX_CONSTANT_ELEMENTS
    with torch.no_grad():
        return proxy_tensor.make_fx(module)(*arguments)


def _mark_constants(module: torch.fx.GraphModule) -> None:
    """Pass small integer weights through lift_fresh_copy, which tells the tracer that their values are known."""
    import torch

    for node in [node for node in module.graph.nodes if node.op == "get_attr"]:
        weight = operator.attrgetter(node.target)(module)
        if weight.is_floating_point() or weight.numel() > MAX_CONSTANT_ELEMENTS:
            continue
        with module.graph.inserting_after(node):
            lifted = module.graph.call_function(torch.ops.aten.lift_fresh_copy.default, (node,))
        node.replace_all_uses_with(lifted, delete_user_cb=lambda user, lifted=lifted: user is not lifted)
    module.recompile()
