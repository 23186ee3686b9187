"""Builder files and checkpoints that are wrong or hostile: each is told by name and line, and nothing leaks."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.stage_fixtures import Answer, Call, models, run_calls, spec
from tests.stage_models import NET

pytestmark = pytest.mark.toolchain

INSPECT, EXPORT, TRACE = (
    "inspect-torch-state-dict",
    "torch-state-dict-to-torch-exported-program",
    "torch-state-dict-to-torchscript",
)
SEQUENTIAL = "torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))"
REFUSES = NET.replace(
    "        features", "        if image.shape[2] == 8:\n            raise ValueError('not 8')\n        features"
)


BLAMES = """from farm.domain.errors import HostError, JobCancelled
def blame(*args, **kwargs):
    raise JobCancelled("Stop.")
"""
INPUTS_OF = NET.replace("INPUTS", "OTHERS") + "\nINPUTS = {}\n"
TRACED = NET.replace("return Net()", "return torch.jit.trace(Net().eval(), torch.zeros(1, 3, 8, 8))")
"""A builder whose module tells no arguments of its forward."""


@dataclass(frozen=True)
class Case:
    """A builder file, what is said of it, and by which error."""

    code: str
    says: tuple[str, ...]
    kind: str = "bad-request"
    options: dict[str, Any] = field(default_factory=dict)


CASES = {
    "raises": Case(
        "def build():\n    return 1 / 0\n", ("build() raised ZeroDivisionError", "line 2, in build: return 1")
    ),
    "syntax": Case("def build(:\n", ("its own lines raised SyntaxError", "line 1")),
    "loops": Case(
        "def build():\n    count = 0\n    while True:\n        count += 1\n",
        ("build() did not end within 2 s", "in build"),
        options={"builder_limit_s": 2.0},
    ),
    "exits": Case("import sys\nsys.exit(3)\n", ("asked to end the process (line 2",)),
    "leaves": Case("import os\ndef build():\n    os._exit(0)\n", ("build() asked to end the process (line 3",)),
    "environment": Case(
        "import os\ndef build():\n    return os.environ['FARM_TOKEN']\n",
        ("build() raised KeyError: 'FARM_TOKEN'", "line 3, in build"),
    ),
    "blames the host": Case(
        f"{BLAMES}{NET.partition('def build')[0]}def build():\n    raise HostError('The disk broke.')\n",
        ("build() raised HostError: The disk broke.",),
    ),
    "blames in a hook": Case(
        f"{BLAMES}{NET}".replace("return Net()", "net = Net()\n    net.state_dict = blame\n    return net"),
        ("loading the weights raised JobCancelled: Stop.",),
    ),
    "blames in forward": Case(
        f"{BLAMES}{REFUSES}".replace("ValueError('not 8')", "HostError('not 8')"),
        ("forward() on image:float32[1, 3, 8, 8] raised HostError: not 8",),
    ),
    "number of inputs": Case(INPUTS_OF.format("5"), ("build.py: INPUTS is of type int, not a list of texts",)),
    "no input": Case(NET + "\nRANGES = {'ids': (0, 9)}\n", ("RANGES names ids; the inputs are image.",)),
    "no signature": Case(
        TRACED.replace("INPUTS", "OTHERS"), ("forward() can't be read from the TopLevelTracedModule",)
    ),
    "nothing": Case("import torch\ndef make_net(): ...\n", ("does not say what to build; it has make_net().",)),
    "arguments": Case(NET.partition("def build")[0].replace("(self):", "(self, size):"), ("it has class Net.",)),
    "no module": Case("def build():\n    return {}\n", ("build() gave a dict, not a torch.nn.Module",)),
    "inputs": Case(NET.replace("float32[", "float33["), ("INPUTS holds 'image:float33[batch,3,8,8]'",)),
    "ranges": Case(NET + "\nRANGES = {'image': (3, 1)}\n", ("RANGES is not of the form",)),
    "refuses": Case(REFUSES, ("forward() on image:float32[1, 3, 8, 8] raised ValueError: not 8", "in forward")),
    "unfit": Case(
        f"import torch\ndef build():\n    return {SEQUENTIAL}\n",
        ("weights.pth does not fit the module that build.py builds", "missing from it (0.weight", "conv.weight"),
    ),
    "sizes": Case(
        NET.replace("Linear(4, 5)", "Linear(4, 6)"),
        ("2 of other sizes (head.weight is (5, 4) in the checkpoint and (6, 4) in the module",),
    ),
}


def folder(root: Path, name: str, code: str | None, weights: str = "good_state/weights.pth") -> Path:
    """Lay a builder beside weights."""
    made = root / name
    made.mkdir()
    if weights:
        (made / Path(weights).name).write_bytes((models() / weights).read_bytes())
    if code is not None:
        (made / "build.py").write_text(code)
    return made


def checkpoints(root: Path) -> dict[str, Path]:
    """Folders that are wrong beside the builder."""
    two = folder(root, "two weights", NET)
    (two / "other.pt").write_bytes(b"x")
    cut = folder(root, "cut", NET)
    (cut / "weights.pth").write_bytes((cut / "weights.pth").read_bytes()[:900])
    half = folder(root, "half an archive", NET)
    whole = (half / "weights.pth").read_bytes()
    (half / "weights.pth").write_bytes(whole[: len(whole) // 2] + whole[-22:])
    assert zipfile.is_zipfile(half / "weights.pth"), "it ends like an archive"
    return {
        "half an archive": half,
        "alone": models() / "good_state" / "weights.pth",
        "no builder": folder(root, "no builder", None),
        "no weights": folder(root, "no weights", NET, ""),
        "two weights": two,
        "cut": cut,
        "hostile": folder(root, "hostile", NET, "raw_pickle.pt"),
        "module": folder(root, "module", NET, "module.pt"),
        "script": folder(root, "script", NET, "good.pt"),
    }


TOLD = {
    "alone": ("missing-file", "holds weights only", "--builder FILE.py"),
    "no builder": ("missing-file", "no Python file that builds the module", "--builder FILE.py"),
    "no weights": ("missing-file", ".safetensors", ""),
    "two weights": ("corrupt-model", "holds 2 .pt or .pth", ""),
    "cut": ("corrupt-model", "weights.pth cannot be read as weights", "Save the weights again"),
    "hostile": ("unsafe-model", "which could run code", "state_dict"),
    "module": ("unsafe-model", "which could run code", "state_dict"),
    "script": ("unknown-format", "a whole program of torch", "without a builder"),
    "half an archive": ("corrupt-model", "weights.pth cannot be read as weights", "Save the weights again"),
}
MAKE = {
    "wrapped": "torch.save({'epoch': 3, 'model_state_dict': {f'module.{n}': t for n, t in s.items()}}, f)",
    "trainer": "torch.save({'state_dict': {f'model.{n}': t for n, t in s.items()}}, f)",
    "safe": "__import__('safetensors.torch').torch.save_file(s, f)",
}
CHATTY = NET + "\nfor _ in range(100_000):\n    print('x' * 100)\n"
UNTOLD = NET.replace("INPUTS", "OTHERS").replace("def build():\n    return Net()\n", "")
EXAMPLE = NET.replace("INPUTS", "OTHERS") + "\ndef example_inputs():\n    return torch.zeros(2, 3, 8, 8)\n"
BRANCH = NET.replace(
    "        return self", "        if features.sum() > -1e9:\n            features = features + 1\n        return self"
)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """Answer every case in one process, a good one last."""
    root = tmp_path_factory.mktemp("builders")
    calls = {
        name: Call(INSPECT, {"model": folder(root, name, case.code)}, case.options) for name, case in CASES.items()
    }
    calls |= {name: Call(INSPECT, {"model": path}) for name, path in checkpoints(root).items()}
    for name, code in {"chatty": CHATTY, "untold": UNTOLD, "example": EXAMPLE, "traced": TRACED}.items():
        calls[name] = Call(INSPECT, {"model": folder(root, name, code)})
    for name, file in saved(root).items():
        calls[name] = Call(INSPECT, {"model": file})
    image = {"input_specs": [spec("image", "float32", 1, 3, 8, 8)]}
    branching = folder(root, "branching", BRANCH)
    calls["branch exported"], calls["branch traced"] = (Call(s, {"model": branching}, image) for s in (EXPORT, TRACE))
    calls["export refused"] = Call(EXPORT, {"model": folder(root, "export refused", REFUSES)}, image)
    calls["good"] = Call(INSPECT, {"model": models() / "good_state"})
    return run_calls("builder", calls, tmp_path_factory.mktemp("answers"))


def saved(root: Path) -> dict[str, Path]:
    """Save the good weights in the other ways that people save them."""
    import subprocess

    from tests.stage_fixtures import PREPARED, ROOT

    made = {name: folder(root, name, NET, "") for name in MAKE}
    lines = ["import torch", f"s = torch.load({str(models() / 'good_state' / 'weights.pth')!r}, weights_only=True)"]
    for name, how in MAKE.items():
        lines += [f"f = {str(made[name] / ('w.safetensors' if name == 'safe' else 'w.ckpt'))!r}", how]
    python = ROOT / ".envs" / "builder" / "bin" / "python"
    subprocess.run([python, "-c", "\n".join(lines)], env=PREPARED, check=True)
    return made


@pytest.mark.parametrize("name", CASES)
def test_what_a_builder_does_wrong_is_told_by_its_line(answers: dict[str, Answer], name: str) -> None:
    failure, case = answers[name].failure, CASES[name]

    assert failure["code"] == case.kind, failure
    for said in case.says:
        assert said in failure["message"]
    assert failure["remedy"]
    assert failure["who_must_act"] == "submitter"
    assert "Traceback" not in failure["message"]


def test_the_end_of_the_traceback_comes_along(answers: dict[str, Answer]) -> None:
    tail = answers["raises"].failure["evidence"]["log_tail"]

    assert tail.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert 'File "build.py", line 2, in build' in tail


@pytest.mark.parametrize("name", TOLD)
def test_a_submission_that_is_no_pair_says_what_is_needed(answers: dict[str, Answer], name: str) -> None:
    code, says, remedy = TOLD[name]
    failure = answers[name].failure

    assert (failure["code"], failure["who_must_act"]) == (code, "submitter"), failure
    assert says in failure["message"]
    assert remedy in (failure["remedy"] or "")
    assert not list(models().glob("*_RAN"))


@pytest.mark.parametrize("name", MAKE)
def test_checkpoints_prefixes_and_safetensors_fit(answers: dict[str, Answer], name: str) -> None:
    facts, good = answers[name].facts, answers["good"].facts
    key, prefix = {"wrapped": ("model_state_dict", "module."), "trainer": ("state_dict", "model.")}.get(
        name, (None, "")
    )

    assert (facts["extra"]["checkpoint_key"], facts["extra"]["dropped_prefix"]) == (key, prefix)
    assert facts["parameters"] == good["parameters"]


def test_what_a_builder_prints_is_cut(answers: dict[str, Answer]) -> None:
    assert answers["chatty"].facts["outputs"] == answers["good"].facts["outputs"]


def test_inputs_come_from_the_example_or_stay_unknown(answers: dict[str, Answer]) -> None:
    """Given no function either, the only class without arguments is built."""
    assert answers["example"].facts["inputs"] == [spec("image", "float32", 2, 3, 8, 8)]
    assert answers["untold"].facts["extra"]["entry"] == "Net()"
    assert answers["traced"].facts["inputs"] == answers["good"].facts["inputs"]
    (found,) = answers["untold"].facts["inputs"]
    assert (found["name"], found["dtype"], found["shape"]) == ("image", "unknown", None)


def test_a_branch_on_values_takes_the_second_way(answers: dict[str, Answer]) -> None:
    """torch.export refuses it as the toolchain's failure, so the next route is tried; the trace is proven."""
    assert answers["branch exported"].failure["who_must_act"] == "toolchain"
    assert answers["branch traced"].facts["sqnr_db"] > 60


def test_inputs_that_forward_refuses_are_the_submitters_to_mend(answers: dict[str, Answer]) -> None:
    failure = answers["export refused"].failure

    assert (failure["code"], failure["who_must_act"]) == ("bad-request", "submitter")
    assert "not 8" in failure["message"]
