"""Make small networks of many kinds, each as TFLite and as OpenVINO IR: python -m benchmarks.peer_models FOLDER.

Runs in the builder's environment. Weights are random, from a fixed seed: only their speed is looked at.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = 11


def main(folder: Path) -> None:
    import keras
    import openvino
    import tensorflow

    keras.utils.set_random_seed(SEED)
    for name, (shape, layers) in networks().items():
        if (folder / f"{name}.xml").exists():
            continue
        given = keras.Input(shape, batch_size=1)
        at = given
        for layer in layers:
            at = layer(at)
        with tempfile.TemporaryDirectory() as scratch:
            model = keras.Model(given, at)
            fixed = [tensorflow.TensorSpec((1, *shape), "float32")]
            model.export(scratch, format="tf_saved_model", verbose=False, input_signature=fixed)
            converter = tensorflow.lite.TFLiteConverter.from_saved_model(scratch)
            (folder / f"{name}.tflite").write_bytes(converter.convert())
            network = openvino.convert_model(scratch)
            openvino.save_model(network, folder / f"{name}.xml", compress_to_fp16=False)


def networks() -> dict[str, tuple[tuple[int, ...], list[Callable[[Any], Any]]]]:
    """Name ten networks of a few milliseconds a call: their input, and their layers one after the other."""
    from keras import layers as k

    def conv(filters: int, kernel: int = 3, strides: int = 1) -> Any:
        return k.Conv2D(filters, kernel, strides, padding="same", activation="relu")

    def separable(filters: int, strides: int = 1) -> list[Any]:
        return [k.DepthwiseConv2D(3, strides, padding="same", activation="relu"), conv(filters, 1)]

    def residual(filters: int) -> Callable[[Any], Any]:
        first, second = conv(filters), k.Conv2D(filters, 3, padding="same")
        return lambda at: k.ReLU()(k.Add()([at, second(first(at))]))

    def head(classes: int = 100) -> list[Any]:
        return [k.GlobalAveragePooling2D(), k.Dense(classes, "softmax")]

    def attention(width: int) -> Callable[[Any], Any]:
        mixed, inner, outer = k.MultiHeadAttention(4, width // 4), k.Dense(4 * width, "gelu"), k.Dense(width)

        def block(at: Any) -> Any:
            at = k.LayerNormalization()(at + mixed(at, at))
            return k.LayerNormalization()(at + outer(inner(at)))

        return block

    image = (96, 96, 3)
    return {
        "plain": (image, [conv(32, 3, 2), conv(64), conv(64), *head()]),
        "wide": (image, [conv(48, 5, 2), conv(96, 3, 2), conv(192), *head()]),
        "separable": (image, [conv(32, 3, 2), *separable(64), *separable(128, 2), *separable(128), *head()]),
        "residual": (image, [conv(48, 3, 2), residual(48), residual(48), *head()]),
        "pointwise": ((48, 48, 64), [conv(128, 1), conv(256, 1), conv(128, 1), *head()]),
        "kernels": ((64, 64, 16), [conv(32, 7), conv(32, 5), conv(32, 3), *head()]),
        "segmenting": (image, [conv(24), conv(48, 3, 2), conv(48), k.UpSampling2D(2), conv(8, 1)]),
        "dense": ((1024,), [k.Dense(2048, "relu"), k.Dense(2048, "relu"), k.Dense(1000)]),
        "signal": ((4000, 1), [k.Conv1D(64, 9, 4, activation="relu"), k.Conv1D(128, 9, 2, activation="relu")]),
        "attention": ((128, 128), [attention(128), attention(128), k.GlobalAveragePooling1D(), k.Dense(10)]),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
