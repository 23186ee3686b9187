"""Run TFLite models with tflite-runtime, LiteRT's former name: the last one with a wheel for 32-bit ARM.

Tested with tflite-runtime 2.14.0 on x86-64 and on emulated 32-bit ARM. Source: TensorFlow Lite Python API.
Operators that are younger than TensorFlow 2.14 are unknown to it.
"""

from __future__ import annotations

from farm.domain.facts import Format
from workers.runtimes import Runtime
from workers.runtimes.litert import LiteRtSession


class TfliteRuntimeSession(LiteRtSession):
    """One interpreter with allocated tensors."""

    library = "tflite_runtime.interpreter"


RUNTIME = Runtime(
    name="tflite-runtime",
    accepts=(Format.TFLITE,),
    environment="tflite-runtime",
    builds_in="tflite-runtime",
    tools=("tflite-runtime",),
    preload=("numpy", "tflite_runtime.interpreter"),
    deployable=True,
    load=TfliteRuntimeSession,
)
