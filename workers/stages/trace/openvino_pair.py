"""Inner tensors of OpenVINO models, read as outputs that are added to both graphs.

Tool: openvino 2026.4.1, `Model.add_outputs`. Document:
https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/quantizing-models-post-training.html
(NNCF keeps the friendly names of operators; a quantized output of X is the FakeQuantize X/fq_output_0).
Limits: operators of the main graph with one name in both. In a model with quantized activations only those and the
outputs are read: the CPU plugin computes zeros, without a word, behind an int8 convolution that is shown before the
activation it is fused with. So it is checked that showing tensors leaves the model's outputs as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.domain.errors import ArtifactBroken
from workers.runtimes.files import entry_file
from workers.runtimes.openvino import DEVICE, SUFFIXES, OpenVinoSession, named_ports, plugin_configuration
from workers.stages.contracts import sqnr_db
from workers.stages.samples import Feeds
from workers.stages.trace.pairs import Tap

if TYPE_CHECKING:
    import openvino
    from numpy.typing import NDArray

    from workers.stages.trace.pairs import Compared

NO_LAYERS = ("Constant", "Parameter", "Result")
SEEN_AS = "{}/fq_output_0"
SAME_DB = 20.0
"""What outputs must reach, with and without inner tensors shown, to count as the same: fusing may move a quantum."""


class OpenVinoPair:
    """Two graphs; each group of taps compiles both anew, so that no more values are held than it has."""

    def __init__(self, before: Path, after: Path, work: Path) -> None:
        self._before, self._after = entry_file(before, SUFFIXES), entry_file(after, SUFFIXES)
        self.inputs = OpenVinoSession(before).inputs
        after_model = _read(self._after)
        held = {one.friendly_name for one in _layers(after_model)}
        self._fuses = any(one.get_type_name() == "FakeQuantize" for one in _layers(after_model))
        if self._fuses:
            held = {name for name in held if name.endswith(SEEN_AS.format(""))} | set(_shown(after_model))
        layers = [(one.friendly_name, one.get_type_name()) for one in _layers(_read(self._before))]
        self.total = len(layers)
        self.taps = tuple(
            Tap(name, kind, name, seen)
            for name, kind in layers
            if (seen := next((one for one in (SEEN_AS.format(name), name) if one in held), None)) is not None
        )
        self._plain: list[NDArray[Any]] | None = None

    def values(self, taps: Sequence[Tap], before: Feeds, after: Feeds) -> Iterator[Compared]:
        expected, actual = [tap.before for tap in taps], [tap.after for tap in taps]
        float_request, float_shown = _inferred(self._before, expected, before)
        request, shown = _inferred(self._after, actual, after)
        if self._fuses:
            self._check_outputs(request, after)
        for tap, one, other in zip(taps, expected, actual, strict=True):
            yield tap, _value(float_request, float_shown.index(one)), _value(request, shown.index(other))

    def _check_outputs(self, request: openvino.InferRequest, feeds: Feeds) -> None:
        """Hold the quantized model's outputs against those that it has when nothing more is shown.

        Raises:
            ArtifactBroken: they differ.
        """
        if self._plain is None:
            plain, shown = _inferred(self._after, [], feeds)
            self._plain = [_value(plain, at) for at in range(len(shown))]
        for at, expected in enumerate(self._plain):
            if sqnr_db(expected, _value(request, at)) < SAME_DB:
                name = self._after.name
                raise ArtifactBroken(f"OpenVINO computes something else of {name} when inner tensors are shown.")


def _read(path: Path) -> openvino.Model:
    import openvino

    return openvino.Core().read_model(path)


def _layers(model: openvino.Model) -> list[Any]:
    """List the operators with one output that is no constant, in the order of execution."""
    return [
        one
        for one in model.get_ordered_ops()
        if one.get_type_name() not in NO_LAYERS and one.get_output_size() == 1 and not _folds(one)
    ]


def _folds(operator: Any) -> bool:
    """Tell whether an operator computes on constants alone, as those that unpack weights do."""
    pending, seen = [operator], 0
    while pending and seen < 8:
        one, seen = pending.pop(), seen + 1
        sources = [given.get_source_output().get_node() for given in one.inputs()]
        if one.get_type_name() == "Parameter":
            return False
        pending += [source for source in sources if source.get_type_name() != "Constant"]
    return not pending


def _shown(model: openvino.Model) -> list[str]:
    """Name the operators whose outputs are the model's, in their order."""
    return [result.input_value(0).get_node().friendly_name for result in model.results]


def _value(request: openvino.InferRequest, at: int) -> NDArray[Any]:
    value: NDArray[Any] = request.get_output_tensor(at).data.copy()
    return value


def _inferred(path: Path, names: Sequence[str], feeds: Feeds) -> tuple[openvino.InferRequest, list[str]]:
    """Run a model once with the named operators shown; return the request, and whose outputs it has, in order."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    by_name = {one.friendly_name: one for one in model.get_ordered_ops()}
    indices = {name: at for at, (_, name) in enumerate(named_ports(model.inputs))}
    shown = _shown(model)
    added = [name for name in names if name not in shown]
    model.add_outputs([by_name[name].output(0) for name in added])
    compiled = core.compile_model(model, DEVICE, plugin_configuration(1))
    request = compiled.create_infer_request()
    for name, array in feeds.items():
        request.set_input_tensor(indices[name], openvino.Tensor(array))
    request.infer()
    return request, [*shown, *added]
