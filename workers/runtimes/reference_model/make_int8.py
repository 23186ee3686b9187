"""Write the pinned reference model as integer TFLite, for self-tests: kernels for integers are where hosts differ.

Run in the builder environment: `python -m workers.runtimes.reference_model.make_int8 [FOLDER]`. Made with
tensorflow-cpu 2.21.0: weights and activations int8, input and output float32, calibrated on seeded noise.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.runtimes.reference_model import INTEGER
from workers.runtimes.reference_model.make import CHANNELS, SEED, SIZE, STRIDES, Weights, draw_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLES = 8


def write_integer_tflite(weights: Weights, path: Path) -> None:
    """Write (1, 384, 384, 3) -> (1, 10), channels last."""
    import numpy as np
    import tensorflow as tf

    def forward(image: Any) -> dict[str, Any]:
        at = image
        for kernel, stride in zip(weights.convolutions, STRIDES, strict=True):
            at = tf.nn.relu(tf.nn.conv2d(at, kernel.transpose(2, 3, 1, 0), stride, "SAME"))
        return {"scores": tf.linalg.matmul(tf.reduce_mean(at, axis=[1, 2]), weights.dense)}

    def samples() -> Iterator[list[NDArray[Any]]]:
        rng = np.random.default_rng(SEED)
        for _ in range(SAMPLES):
            yield [rng.standard_normal((1, SIZE, SIZE, CHANNELS[0])).astype("float32")]

    image = tf.TensorSpec([1, SIZE, SIZE, CHANNELS[0]], tf.float32, name="image")
    function = tf.function(forward, input_signature=[image]).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    path.write_bytes(converter.convert())


def main(folder: Path) -> None:
    write_integer_tflite(draw_weights(), folder / INTEGER)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
