"""Metrics by name, as far as a plan and a verdict must know them; workers/stages/evaluate computes them."""

from __future__ import annotations

DEFAULT_METRIC = "top1"
LABEL_FREE_METRICS = ("agreement",)
"""Metrics that hold an artifact against the source's outputs instead of labels."""
LOWER_IS_BETTER = ("mae", "wer")
"""Metrics of errors; every other one grows with quality."""
METRICS = ("agreement", "auroc", "f1", "mae", "map", "top1", "top5", "wer")
"""Every metric there is."""
