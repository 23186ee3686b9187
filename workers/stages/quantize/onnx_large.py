"""Dynamic int8 of an ONNX model whose weights lie beside it: each is in memory while it is quantized, and no longer.

Tool: the quantizer behind onnxruntime.quantization.quantize_dynamic, onnxruntime 1.32.0, which reads all weights first:
of a model of 475 MiB it held 3.7 times its size.
Limits: weights of the main graph; a model with graphs inside of nodes goes to the tool as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx


def streams(prepared: Path) -> bool:
    """Tell whether a file has its weights beside it, and none in graphs within."""
    import onnx

    graph = onnx.load(prepared, load_external_data=False).graph
    inner = any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute)
    return not inner and any(_lies_beside(tensor) for tensor in graph.initializer)


def quantize_dynamic(prepared: Path, path: Path, operators: Sequence[str], *, narrow: bool) -> None:
    """Write `path` as quantize_dynamic would, per channel and to 8 bits, or 7 where `narrow`."""
    import onnx
    from onnx.external_data_helper import load_external_data_for_model
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
    from onnxruntime.quantization.quant_utils import QuantizationMode

    kinds: tuple[Any, ...] = (QuantizationMode.IntegerOps, True, QuantType.QInt8, QuantType.QUInt8)
    options = {"MatMulConstBOnly": True}
    quantizer = ONNXQuantizer(_inferred(prepared), True, narrow, *kinds, None, [], [], list(operators), options)
    quantizer.static = False  # From the start, it would copy the model and read it anew, for what `_inferred` has done.
    _read_late(quantizer, prepared.parent)
    quantizer.quantize_model()
    load_external_data_for_model(quantizer.model.model, str(prepared.parent))
    onnx.save(quantizer.model.model, path)


def _inferred(prepared: Path) -> onnx.ModelProto:
    """Return the model with every shape and without a Gemm, its other weights left where they are."""
    import onnx
    from onnx.external_data_helper import load_external_data_for_tensor
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.quantization.quant_utils import add_infer_metadata

    model = onnx.load(prepared, load_external_data=False)
    turned = {node.input[1] for node in model.graph.node if node.op_type == "Gemm" and _turns(node)}
    for tensor in model.graph.initializer:
        if tensor.name in turned and _lies_beside(tensor):
            load_external_data_for_tensor(tensor, str(prepared.parent))
    ONNXModel(model).replace_gemm_with_matmul()
    path = prepared.with_name("inferred.onnx")
    onnx.save(model, path)
    onnx.shape_inference.infer_shapes_path(path, path)
    model = onnx.load(path, load_external_data=False)
    add_infer_metadata(model)
    return model


def _turns(gemm: onnx.NodeProto) -> bool:
    """Tell whether a Gemm transposes its weight, which takes the weight's values to undo."""
    return any(attribute.name == "transB" and attribute.i for attribute in gemm.attribute)


def _read_late(quantizer: Any, folder: Path) -> None:
    """Have a quantizer read each weight from `folder` when its turn comes.

    It is given a copy to read: what a tensor of the model held once, the model's memory holds to its end.
    """
    by_tensor, by_name, model = (
        quantizer.quantize_initializer_impl,
        quantizer.quantize_weight_per_channel_impl,
        quantizer.model,
    )
    tensors = {tensor.name: tensor for tensor in model.initializer()}

    def quantize_tensor(weight: onnx.TensorProto, *arguments: Any, **named: Any) -> Any:
        return by_tensor(_with_values(weight, folder), *arguments, **named)

    def quantize_channels(name: str, *arguments: Any, **named: Any) -> Any:
        weight = _with_values(tensors[name], folder)
        model.initializer = lambda: [weight]
        try:
            return by_name(name, *arguments, **named)
        finally:
            del model.initializer

    quantizer.quantize_initializer_impl = quantize_tensor
    quantizer.quantize_weight_per_channel_impl = quantize_channels


def _with_values(tensor: onnx.TensorProto, folder: Path) -> onnx.TensorProto:
    import onnx
    from onnx.external_data_helper import load_external_data_for_tensor

    copied = onnx.TensorProto()
    copied.CopyFrom(tensor)
    if _lies_beside(copied):
        load_external_data_for_tensor(copied, str(folder))
    return copied


def _lies_beside(tensor: onnx.TensorProto) -> bool:
    import onnx

    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)
