"""Optimize an ONNX model with Olive: `python olive.py MODEL.onnx SAMPLES.npz FOLDER`; writes olive.json after each way.

Tool: olive-ai 0.13.0, its workflow API, one run for each way, as a user would try them: static int8 per tensor and per
channel with two calibrations, dynamic int8, float16. It gets the float32 ONNX and the same calibration samples as the
farm, and is not judged here.
Document: https://microsoft.github.io/Olive/reference/pass.html
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

STATIC = {"type": "OnnxStaticQuantization", "data_config": "calibration", "quant_format": "QDQ", "precision": "int8"}
FREE = {**STATIC, "prepare_qdq_config": False, "activation_type": "uint8"}
"""Olive's own choice of QDQ options overrides what is asked for: without it they count."""
WAYS: dict[str, dict[str, Any]] = {
    "static int8": STATIC,
    "static int8, per tensor": {**FREE, "per_channel": False},
    "static int8, per channel": {**FREE, "per_channel": True},
    "static int8, per channel, reduced range": {**FREE, "per_channel": True, "reduce_range": True},
    "static int8, per channel, percentile": {**FREE, "per_channel": True, "calibrate_method": "Percentile"},
    "dynamic int8": {"type": "OnnxDynamicQuantization"},
    "float16": {"type": "OnnxFloatToFloat16", "keep_io_types": True},
}
TIDY = {"type": "OnnxPeepholeOptimizer"}
"""Without it weights that are constant nodes count as activations, and per channel means nothing."""
OPSET = {"type": "OnnxOpVersionConversion", "target_opset": 17}
"""Per-channel scales written below opset 13 load nowhere, so older models are raised first."""
SCRIPT = """
import numpy as np
from olive.data.registry import Registry


class Samples:
    def __init__(self, path):
        with np.load(path) as archive:
            self.columns = {name: archive[name] for name in archive.files}

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, row):
        return {name: column[row] for name, column in self.columns.items()}, 0


@Registry.register_dataset()
def bench_samples(data_dir=None, **kwargs):
    return Samples(data_dir)
"""


class _Heard(logging.Handler):
    """Keep what Olive logs of a failure, since it raises none."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        raised = record.exc_info[1] if record.exc_info else None
        self.last = f"{type(raised).__name__}: {raised}"[:300] if raised is not None else record.getMessage()[:300]


def main(model: Path, samples: Path, folder: Path) -> dict[str, Any]:
    run = importlib.import_module("olive.workflows").run
    script, found = folder / "bench_samples.py", {}
    script.write_text(SCRIPT)
    heard = _Heard(logging.ERROR)
    logging.getLogger("olive").addHandler(heard)
    for number, (name, way) in enumerate(WAYS.items()):
        heard.last = ""
        into = folder / f"way{number}"
        started = time.monotonic()
        try:
            run(_config(model, samples, script, way, into))
            made = sorted(path for path in into.rglob("*.onnx"))
            why = f"it wrote no file: {heard.last or 'it does not say why'}"
            told: dict[str, Any] = {"path": str(made[0])} if made else {"error": why}
        except Exception as exc:
            told = {"error": f"{type(exc).__name__}: {exc}"[:300]}
        found[name] = told | {"seconds": time.monotonic() - started}
        (folder / "olive.json").write_text(json.dumps(found))
    return found


def _config(model: Path, samples: Path, script: Path, way: dict[str, Any], into: Path) -> dict[str, Any]:
    data = {
        "name": "calibration",
        "user_script": str(script),
        "load_dataset_config": {"type": "bench_samples", "params": {"data_dir": str(samples)}},
        "pre_process_data_config": {"type": "skip_pre_process"},
        "post_process_data_config": {"type": "skip_post_process"},
        "dataloader_config": {"type": "no_auto_batch_dataloader"},
    }
    return {
        "input_model": {"type": "ONNXModel", "model_path": str(model)},
        "systems": {
            "here": {
                "type": "LocalSystem",
                "accelerators": [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}],
            }
        },
        "host": "here",
        "target": "here",
        "data_configs": [data],
        "passes": {"tidy": TIDY, "opset": OPSET, "way": way},
        "output_dir": str(into),
        "cache_dir": str(into.with_suffix(".cache")),
        "log_severity_level": 2,
    }


if __name__ == "__main__":
    main(*(Path(text).resolve() for text in sys.argv[1:4]))
