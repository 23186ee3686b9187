"""The matrix as a document can be read back."""

from __future__ import annotations

from tests.matrix_page import Cell, page, read_stages, read_states, read_totals, read_unmade


def test_a_page_can_be_read_back() -> None:
    cells = [
        Cell("onnx", "tflite", "float32", "succeeded", "onnx-to-tflite", sqnr_db=120.4, before=("a: it fell",)),
        Cell("onnx", "ort", "float32", "failed", "/tmp/x/y/tool: conversion-failed: no | way\nat all"),
        Cell("onnx", "onnx", "float32", "succeeded", ""),
        Cell("onnx", "tflite", "sparse-2-4", "refused", "no stage applies sparse-2-4", reachable=False),
    ]
    text = page(cells, ["onnx-to-tflite 1", "x 2"])

    assert read_totals(text) == (4, 2, 1, 1)
    assert read_stages(text) == ["onnx-to-tflite 1", "x 2"]
    assert read_states(text) == {
        ("onnx", "tflite", "float32"): "succeeded",
        ("onnx", "ort", "float32"): "failed",
        ("onnx", "onnx", "float32"): "succeeded",
    }
    assert read_unmade(text) == {("onnx", "tflite", "sparse-2-4")}
    assert "| onnx | 120 dB | **failed** | as it is |" in text
    assert "tool: conversion-failed: no \\| way at all" in text
    assert "/tmp/x" not in text


def test_cells_that_fail_are_explained_or_said_not_to_be() -> None:
    cells = [
        Cell("tflite-int8", "tf-savedmodel", "float32", "failed", "onnx2torch: no DequantizeLinear"),
        Cell("onnx", "ort", "float32", "failed", "something new"),
        Cell("torch-state-dict", "ort", "sparse-structured", "failed", "No channel of this model can be removed: …"),
    ]
    text = page(cells, [])

    assert "- `tflite-int8` → `tf-savedmodel`, `float32`: onnx2torch, the only tool" in text
    assert "- `torch-state-dict` → `ort`, `sparse-structured`: Structured pruning takes whole channels away" in text
    assert "- `onnx` → `ort`, `float32`: not explained yet" in text
