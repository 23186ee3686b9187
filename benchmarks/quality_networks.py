"""Make networks as FACTS names them: python -m benchmarks.quality_networks NAME SAMPLES.npz FILE.pt2.

Runs in the builder's environment. They are made from configurations, with random weights from a fixed seed. Batch
normalization takes its statistics from the samples: without that the activations of a deep network vanish, and there is
no fidelity to lose.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

SEED, CLASSES, WORDS = 0, 100, 1000
GIVEN = {"mobilenet-v2": "pixel_values", "resnet-18": "pixel_values", "transformer": "input_ids"}
"""What each network calls its input."""


def network(name: str) -> torch.nn.Module:
    """Make one of mobilenet-v2, resnet-18 and transformer; all give scores of shape (1, 100)."""
    import transformers as hf

    text = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
    basic = {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512], "embedding_size": 64}
    makers: dict[str, Callable[[], torch.nn.Module]] = {
        "mobilenet-v2": lambda: hf.MobileNetV2ForImageClassification(
            hf.MobileNetV2Config(num_labels=CLASSES, tf_padding=False, return_dict=False)
        ),
        "resnet-18": lambda: hf.ResNetForImageClassification(
            hf.ResNetConfig(num_labels=CLASSES, return_dict=False, **basic)
        ),
        "transformer": lambda: hf.BertForSequenceClassification(
            hf.BertConfig(vocab_size=WORDS, num_labels=CLASSES, attn_implementation="eager", return_dict=False, **text)
        ),
    }
    return makers[name]()


def main(name: str, samples: Path, target: Path) -> None:
    import torch

    torch.manual_seed(SEED)
    model = network(name)
    with np.load(samples, allow_pickle=False) as archive:
        rows = torch.from_numpy(archive[GIVEN[name]])
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    if any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()):
        model.train()
        with torch.no_grad():
            model(rows)
    torch.export.save(torch.export.export(model.eval(), (rows[:1],)), target)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
