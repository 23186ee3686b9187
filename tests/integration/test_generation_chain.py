"""A decoder from a Hugging Face folder to text: exported with its cache, quantized, and run by ONNX Runtime."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from farm.domain.generation import PROMPT_TOKENS, GenerationRun, generation
from tests.stage_fixtures import PREPARED, ROOT, Answer, Call, run_call

pytestmark = [pytest.mark.toolchain, pytest.mark.slow, pytest.mark.timeout(1800)]

PYTHON = ROOT / ".envs" / "builder" / "bin" / "python"
MAKE = """
import sys, torch, transformers as hf
torch.manual_seed(0)
sizes = {"small": {"vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 2}, "gpt2": {}}[sys.argv[1]]
model = hf.GPT2LMHeadModel(hf.GPT2Config(**sizes)).eval()
model.generation_config.cache_implementation, model.generation_config.max_length = "static", 64
model.save_pretrained(sys.argv[2])
"""
WRITE = """
import json, sys, numpy as np, torch, transformers as hf
from workers.stages.samples import SEED
model = hf.GPT2LMHeadModel.from_pretrained(sys.argv[1]).eval()
prompt = np.random.default_rng(SEED).integers(0, model.config.vocab_size, int(sys.argv[2]))
ids = torch.tensor(prompt)[None]
with torch.no_grad():
    for _ in range(int(sys.argv[3])):
        ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1:].argmax(-1)], 1)
print(json.dumps(ids[0, len(prompt):].tolist()))
"""
CHAIN = ("hugging-face-to-torch-exported-program", "torch-exported-program-to-onnx")


def python(code: str, *arguments: str | Path) -> str:
    command = [PYTHON, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=PREPARED, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def written(made: Answer, specs: dict[str, Any], folder: Path) -> GenerationRun:
    """Have an artifact make text in its runtime's own environment."""
    call = Call(
        "measure-onnxruntime",
        {"model": made.output("model")},
        specs | {"mode": "generation"},
        made.result["contract"],
    )
    facts = run_call("onnxruntime", call, folder).facts
    times = tuple(tuple(one) for one in facts["token_us"])
    return GenerationRun(
        facts["prompt_tokens"],
        tuple(facts["first_token_us"]),
        times,
        facts["peak_memory_bytes"],
        tuple(facts["tokens"]),
    )


@pytest.mark.parametrize("size", ["small", "gpt2"])
def test_a_decoder_writes_what_its_source_writes_without_a_cache(size: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    python(MAKE, size, folder)
    inspected = run_call("builder", Call("inspect-hugging-face", {"model": folder}), tmp_path / "inspect")
    specs = {"input_specs": inspected.facts["inputs"], "output_specs": inspected.facts["outputs"]}
    made, contract = folder, None
    for stage in CHAIN:
        answer = run_call("builder", Call(stage, {"model": made}, specs, contract), tmp_path / stage)
        made, contract = answer.output("model"), answer.result["contract"]
        assert answer.facts["sqnr_db"] > 60

    run = written(answer, specs, tmp_path / "float")
    count = len(run.tokens)
    assert list(run.tokens) == json.loads(python(WRITE, folder, PROMPT_TOKENS, count))
    told = generation(run)
    assert told["tokens_per_second"] > 0
    assert told["time_to_first_token"] > max(run.token_us[0][:1])
    assert told["peak_memory_bytes"] > made.stat().st_size

    for stage in ("quantize-onnx-int8-dynamic", "quantize-onnx-int4-weights"):
        quantized = run_call("builder", Call(stage, {"model": made}, specs, contract), tmp_path / stage)
        again = written(quantized, specs, tmp_path / f"{stage}-text")
        assert quantized.output("model").stat().st_size < made.stat().st_size
        assert len(again.tokens) == count
