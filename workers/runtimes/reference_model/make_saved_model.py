"""Write the pinned reference model as a SavedModel, from the weights of its other forms.

Run in the builder environment: `python -m workers.runtimes.reference_model.make_saved_model [FOLDER]`. Made with
tensorflow-cpu 2.21.0.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from farm.domain.facts import Format
from workers.runtimes.reference_model import FILES
from workers.runtimes.reference_model.make import CHANNELS, SIZE, STRIDES, Weights, draw_weights


def write_saved_model(weights: Weights, folder: Path) -> None:
    """Write (1, 384, 384, 3) -> (1, 10), channels last."""
    import tensorflow as tf

    def forward(image: Any) -> dict[str, Any]:
        at = image
        for kernel, stride in zip(weights.convolutions, STRIDES, strict=True):
            at = tf.nn.relu(tf.nn.conv2d(at, kernel.transpose(2, 3, 1, 0), stride, "SAME"))
        return {"scores": tf.linalg.matmul(tf.reduce_mean(at, axis=[1, 2]), weights.dense)}

    image = tf.TensorSpec([1, SIZE, SIZE, CHANNELS[0]], tf.float32, name="image")
    module = tf.Module()
    module.forward = tf.function(forward, input_signature=[image])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.forward})


def main(folder: Path) -> None:
    write_saved_model(draw_weights(), folder / FILES[Format.TF_SAVEDMODEL])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
