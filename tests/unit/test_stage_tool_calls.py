"""What a toolchain says while it runs: whatever it is known to mean, another route may be tried."""

from __future__ import annotations

import pytest

from farm.domain.errors import BadRequest, ConversionFailed, EnvironmentMissing, FarmError
from farm.domain.progress import may_fall_back
from farm.knowledge import KnownMessage, diagnose, known_messages
from tests.matrix import disproves_nothing
from workers.stages.tool_calls import tool_call

SAID = [entry for entry in known_messages() if entry.example]


@pytest.mark.parametrize("entry", SAID, ids=lambda entry: entry.id)
def test_every_known_message_of_a_tool_lets_another_route_be_tried(entry: KnownMessage) -> None:
    with pytest.raises(FarmError) as caught, tool_call(entry.tool):
        raise RuntimeError(entry.example)

    assert caught.value.evidence["knowledge"] == entry.id
    assert caught.value.remedy == entry.remedy
    assert may_fall_back(caught.value.failure)


def test_what_a_stage_refuses_on_its_own_passes_through() -> None:
    with pytest.raises(BadRequest) as caught, tool_call("numpy"):
        raise BadRequest("No such option.")

    assert not may_fall_back(caught.value.failure)


@pytest.mark.parametrize(
    "text",
    [
        "TypeError: convert() got an unexpected keyword argument 'axis'",
        "TypeError: Conv2D.__init__() got an unexpected keyword argument 'groups'",
    ],
)
def test_a_tools_own_wrong_call_is_not_the_submitters(text: str) -> None:
    assert diagnose(text, "tensorflow") is None
    assert diagnose(text) is None


def test_a_layers_unknown_setting_is_the_models() -> None:
    found = diagnose("Exception encountered: Dense.__init__() got an unexpected keyword argument 'future'", "keras")

    assert found is not None
    assert found.entry == "keras-argument"


def test_a_cell_of_the_matrix_is_refused_only_when_a_tool_is_not_here() -> None:
    """Given a tool that ran and missed a library; then the cell failed: it was tried."""
    absent = EnvironmentMissing("edgetpu_compiler is not installed.").failure
    ran = EnvironmentMissing("No module named 'torchvision'", tool="onnx2torch", version="1.5.15").failure

    assert disproves_nothing([])
    assert disproves_nothing([None])
    assert disproves_nothing([absent, ConversionFailed("No.").failure])
    assert not disproves_nothing([ran])
