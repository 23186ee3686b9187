"""What is known of the Edge TPU and of its last compiler.

Sources, named where a fact is used: Coral documentation, "TensorFlow models on the Edge TPU" (supported operations) and
"Edge TPU Compiler"; Axis ARTPEC-7 supported operations (an Edge TPU); issues of google-coral/edgetpu; what compiler
16.0.384591198 made of public models.
"""

from __future__ import annotations

from enum import StrEnum

LAST_COMPILER = "16.0.384591198"
DEFAULT_MIN_RUNTIME_VERSION = 14
"""The compiler's own default of --min_runtime_version. Source: google-coral/edgetpu#439."""

SRAM_BYTES = 8_388_608
"""On-chip memory for executable, activations and parameters, about 8 MB. Source: Coral documentation, Edge TPU
Compiler, "Parameter data caching"."""
LARGEST_CACHE_BYTES = int(7.9 * 1024 * 1024)
SMALLEST_CACHE_BYTES = int(1.74 * 1024 * 1024)
"""What is left for parameters, as the compiler prints it (used and remaining): 6.9 to 8.0 MiB beside small activations,
1.74 MiB beside the largest seen (1920 x 1058 x 3). Source: logs in issues of google-coral/edgetpu."""
FULL_CACHE_BYTES = int(6.8 * 1024 * 1024)
"""What a model that does not fit gets at most, as the compiler prints it for six networks: 6.15 to 7.16 MiB. Source:
google-coral/edgetpu#60 #512 #518, PINTO0309/openvino2tensorflow#21 #28."""

MAX_SOFTMAX_ELEMENTS = 16_384
"""Of the innermost axis. The documentation (supported operations, Softmax) says 16,000 and bars a second axis; compiler
16.0 maps 128 x 128 values in one axis, and 4 x 756 rows of 16. Source: ricardodeazambuja/LibrEdgeTPU, the compiled
bright_128x128.tflite; jveitchmichaelis/edgetpu-yolo, logs of YOLOv8n with images of 160 and 192 pixels."""
MAX_TRANSPOSED_ELEMENTS = 131_072
"""1 x 784 x 3 x 85 is refused beside 1 x 196 x 3 x 85, which is mapped, and nothing is published; the power of two
between them. Source: compiler logs of YOLOv5s with images of 224 pixels, as google-coral/edgetpu#512 has them too."""
STREAMED_DENSE_DEPTH = 16_384
"""A fully-connected layer that reads so many values is streamed, however small it is; one of 4096 is cached. Source:
ricardodeazambuja/LibrEdgeTPU, the trackers of 128 x 128 and 64 x 64 pixels."""
MEAN_DEPTH_MULTIPLE = 4
"""A mean over the depth needs a depth of a multiple of this. Source: supported operations, Mean."""
MAX_MEAN_WINDOW = 16_384
"""A mean over 256 x 128 is refused and one over 64 x 128 is mapped; the documentation gives no number. Source:
google-coral/edgetpu#461."""
MAX_RESIZED_SIDE = 255
"""An up-sampling to 256 is refused and one to 128 is mapped. The documentation gives no number ("to avoid loss in
precision"); source: google-coral/edgetpu#31, #187."""
MAX_RESIZE_FACTOR = 8.0
"""Factors up to 2 are seen mapped, 15 and more refused; between them nothing is published."""
FIRST_UNKNOWN_BUILTIN = 150
"""Builtin operators from here are out of the range of the compiler's schema. Source: google-coral/edgetpu#862."""

_SEEN_REFUSED = {"CONV_2D": 6, "TRANSPOSE_CONV": 4, "QUANTIZE": 3, "EXP": 2}
_NEWER_THAN_2022 = {
    **{"FULLY_CONNECTED": 10, "DEPTHWISE_CONV_2D": 7, "ADD": 6, "SUB": 6, "MUL": 7, "BATCH_MATMUL": 4, "MEAN": 4},
    **{"CONCATENATION": 4, "SOFTMAX": 4, "LOGISTIC": 4, "TANH": 4, "RELU": 4, "RELU6": 4, "PAD": 5, "TRANSPOSE": 6},
    **{"AVERAGE_POOL_2D": 4, "MAX_POOL_2D": 4, "RESIZE_BILINEAR": 5, "RESIZE_NEAREST_NEIGHBOR": 5, "SPLIT": 5},
    **{"REDUCE_MAX": 4, "REDUCE_MIN": 4, "ARG_MAX": 3, "DEQUANTIZE": 5, "LEAKY_RELU": 3, "SQUARED_DIFFERENCE": 3},
}
REFUSED_VERSIONS = _NEWER_THAN_2022 | _SEEN_REFUSED
"""First version of an operator with which the compiler does not read the model at all. Sources: google-coral/edgetpu
#631 #845 #879, libedgetpu#71; for the others TensorFlow Lite of 2022 (kernels/register_ref.cc), which is younger than
the compiler's own and does not read them either."""

DYNAMIC_RESULTS = frozenset(("UNIQUE", "WHERE"))
"""Operators whose results have no size before they run. Source: TensorFlow Lite, their kernels' Prepare."""

KNOWN_CUSTOM = frozenset(
    ("TFLite_Detection_PostProcess", "PosenetDecoderOp", "AudioSpectrogram", "Mfcc", "NumericVerify")
)
"""Custom operators that the compiler's interpreter prepares; with any other it fails on the whole model. Source:
TensorFlow Lite, kernels/register.cc (AddCustom), and compiled models of google-coral/test_data for the decoder."""

_SINCE_FIRST_RUNTIME = """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED L2_NORMALIZATION LOGISTIC
    MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL PAD RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR
    RESIZE_NEAREST_NEIGHBOR SLICE SOFTMAX SPACE_TO_DEPTH SPLIT SQUEEZE STRIDED_SLICE SUB TANH TILE
"""
_SINCE_RUNTIME_13 = ("EXPAND_DIMS", "PACK", "PRELU", "QUANTIZE", "SUM", "TRANSPOSE_CONV")
_SINCE_RUNTIME_14 = (
    "REDUCE_MAX",
    "REDUCE_MIN",
    "RSQRT",
    "SQUARED_DIFFERENCE",
    "TRANSPOSE",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
)
MIN_RUNTIME_VERSION = (
    dict.fromkeys(_SINCE_FIRST_RUNTIME.split(), 0)
    | dict.fromkeys(_SINCE_RUNTIME_13, 13)
    | dict.fromkeys(_SINCE_RUNTIME_14, 14)
)
"""Supported operators and the first Edge TPU runtime that has them (0: all). TILE is undocumented, but seen mapped."""


class Status(StrEnum):
    """The compiler's own words for what became of an operator."""

    MAPPED = "Mapped to Edge TPU"
    ONE_SUBGRAPH = "More than one subgraph is not supported"
    UNSUPPORTED = "Operation not supported"
    VERSION = "Operation version not supported"
    DATA_TYPE = "Operation is working on an unsupported data type"
    LIMITATION = "Operation is otherwise supported, but not mapped due to some unspecified limitation"
    RANK = "Tensor has unsupported rank (up to 3 innermost dimensions mapped)"
