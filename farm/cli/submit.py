"""farm submit and farm inspect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from farm.cli import measuring as how
from farm.cli import preprocessing as pictures
from farm.cli.output import Json
from farm.domain.errors import BadRequest, FarmError

if TYPE_CHECKING:
    from farm.cli.jobfile import JobFile
    from farm.client import Client, Job
    from farm.client.client import Measuring

SUBMIT_EXAMPLES = """
Examples:

  farm submit model.onnx --target auto --wait

  farm submit det.onnx -t raspberry-pi-5 --recipe int8-static --calibration c.npz

  farm submit det.onnx -t auto --input 'x:float32[1,3,640,640]'

  farm submit bert.onnx -t auto --input 'ids:int64[1,128] in 0..30521'

  farm submit digits.pt2 -t auto --evaluation test.npz --metric top1

  farm submit photos.onnx -t auto --evaluation photos/ --preprocessing photos.yaml --metric top1

  farm submit model.onnx -t auto --max-measurement-age 24h --wait --json

  farm submit model.onnx -t raspberry-pi-5 --host pi-kitchen --wait

  farm submit weights.pth --builder build.py -t auto --wait

  farm submit model.onnx -t auto --scenario server --target-qps 50 --latency-bound-ms 20

  farm submit model.onnx -t auto --threads 1,2,4 --sustained 60s --wait

  farm submit m.onnx -t auto --recipe int8-static --calibration c.npz --option int8-static.preset=performance

  farm submit det.onnx -t auto --force-channel-last-input image --narrow-64-bit --weights-dtype float16

  farm submit faces.tflite hands.tflite -t coral-usb --co-compile --wait

  farm submit -f job.toml --wait

A builder file has a function build() (or build_model(), a module-level `model`, or one torch.nn.Module class that
takes no arguments). It may say INPUTS = ["image:float32[batch,1,28,28]"], or example_inputs(), so that --input is not
needed, and RANGES = {"ids": (0, 999)} for the values of an input. It runs only in the sandbox: no files, no network.
"""
INSPECT_EXAMPLES = """
Examples:

  farm inspect model.onnx

  farm inspect saved_model/ --json

  farm inspect weights.pth --builder build.py
"""
Objective = Literal["latency", "size", "accuracy", "memory"]
Models = Annotated[
    list[Path] | None, typer.Argument(metavar="MODEL…", help="Model files or folders.", show_default=False)
]
Targets = Annotated[list[str] | None, typer.Option("--target", "-t", help="Profile, or auto: this machine's host.")]
Runtimes = Annotated[list[str] | None, typer.Option("--runtime", "-r", help="All of the profile's by default.")]
Recipes = Annotated[list[str] | None, typer.Option("--recipe", help="float32 by default; auto searches.")]
Formats = Annotated[
    list[str] | None, typer.Option("--format", help="Of the artifact, for example ort; what a runtime likes best.")
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input", metavar="NAME:DTYPE[D,D,…]", help="What the file leaves open; 'in LOW..HIGH' after it: its values."
    ),
]
Calibration = Annotated[
    Path | None, typer.Option(metavar="F.npz", help="Calibration arrays by input name, or a folder of pictures.")
]
Evaluation = Annotated[
    Path | None,
    typer.Option(metavar="F.npz", help="Evaluation arrays with labels, or a folder of pictures with labels.csv."),
]
Builder = Annotated[
    Path | None,
    typer.Option(metavar="build.py", help="Python file whose build() returns the module of a state_dict (.pth …)."),
]
Labels = Annotated[list[str] | None, typer.Option("--label", metavar="K=V", help="Label of the job.")]
Constraints = Annotated[
    list[str] | None,
    typer.Option("--constraint", help='For example "p90 <= 20ms", "accuracy >= 0.99*float".'),
]
Host = Annotated[str | None, typer.Option(metavar="NAME", help="Run on this one host of the target (farm hosts).")]
StageOptions = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="RECIPE.NAME=VALUE", help="Option of a recipe's stages, or of one stage."),
]
WeightsDtype = Annotated[
    str | None, typer.Option(metavar="int8", help="Instead of --recipe: the recipes whose weights are of this type.")
]
ActivationsDtype = Annotated[
    str | None, typer.Option(metavar="int8", help="Instead of --recipe: those whose activations are of this type.")
]
ChannelLast = Annotated[
    list[str] | None, typer.Option(metavar="NAMES", help="Channels last (NHWC) in these; of ONNX, ORT, OpenVINO files.")
]
Narrow = Annotated[bool, typer.Option("--narrow-64-bit", help="int32 and float32 for 64-bit inputs and outputs.")]
CoCompile = Annotated[
    bool, typer.Option("--co-compile", help="Compile the models together: they share an Edge TPU's memory.")
]
MaxAge = Annotated[str | None, typer.Option(metavar="24h", help="Reuse measurements up to this age.")]


@dataclass(frozen=True, slots=True)
class _Flags:
    """The flags of one `farm submit`; a flag that is given wins over the job file."""

    models: Sequence[Path]
    target: Sequence[str]
    runtime: Sequence[str]
    recipe: Sequence[str]
    format: Sequence[str]
    constraint: Sequence[str]
    objective: Objective | None
    name: str | None
    label: Sequence[str]
    host: str | None
    max_measurement_age: str | None
    data: dict[str, Any]
    measuring: Measuring
    option: Sequence[str] = ()
    co_compile: bool = False


def add_to(app: typer.Typer, panel: str) -> None:
    app.command("submit", rich_help_panel=panel, epilog=SUBMIT_EXAMPLES)(submit)
    app.command("inspect", rich_help_panel=panel, epilog=INSPECT_EXAMPLES)(inspect)


def submit(
    models: Models = None,
    target: Targets = None,
    runtime: Runtimes = None,
    recipe: Recipes = None,
    format_: Formats = None,
    input_: Inputs = None,
    calibration: Calibration = None,
    evaluation: Evaluation = None,
    metric: Annotated[str | None, typer.Option(help="Metric of the evaluation, for example top1.")] = None,
    preprocessing: pictures.Preprocessing = None,
    builder: Builder = None,
    constraint: Constraints = None,
    objective: Annotated[Objective | None, typer.Option(help="What to make best.")] = None,
    max_measurement_age: MaxAge = None,
    scenario: how.Scenario = None,
    threads: how.Threads = None,
    sustained: how.Sustained = None,
    samples_per_query: how.SamplesPerQuery = None,
    target_qps: how.TargetQps = None,
    latency_bound_ms: how.LatencyBound = None,
    name: Annotated[str | None, typer.Option(help="Name of the job.")] = None,
    label: Labels = None,
    host: Host = None,
    option: StageOptions = None,
    weights_dtype: WeightsDtype = None,
    activations_dtype: ActivationsDtype = None,
    force_channel_last_input: ChannelLast = None,
    force_channel_last_output: ChannelLast = None,
    narrow_64_bit: Narrow = False,
    co_compile: CoCompile = False,
    file: Annotated[Path | None, typer.Option("--file", "-f", metavar="job.toml", help="Read a job file.")] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Show progress until the job has ended.")] = False,
    json: Json = False,
) -> None:
    """Submit models: one job over models x targets x runtimes x recipes."""
    said = dict(locals())
    with _told_as_json(json):
        flags = _flags(said)
        flags.data.update(pictures.read(preprocessing))
        _submit(_merged(flags, file), wait=wait, json=json)


def _flags(said: Mapping[str, Any]) -> _Flags:
    """Read the flags of a submission by the names of their parameters.

    Raises:
        RequestError: a value does not read, or no recipe has the types asked for.
    """
    from farm.domain.recipe import holding

    dtypes = (said["weights_dtype"], said["activations_dtype"])
    data = {name: said[name] for name in ("calibration", "evaluation", "metric", "builder")}
    data["inputs"] = tuple(said["input_"] or ())
    recipes = [*(said["recipe"] or ()), *(holding(*dtypes) if any(dtypes) else ())]
    return _Flags(
        models=said["models"] or (),
        target=said["target"] or (),
        runtime=said["runtime"] or (),
        recipe=recipes,
        format=said["format_"] or (),
        constraint=said["constraint"] or (),
        label=said["label"] or (),
        option=[*(said["option"] or ()), *_edges(said)],
        data={key: value for key, value in data.items() if value},
        measuring=how.measuring_of(said),
        **{name: said[name] for name in ("objective", "name", "host", "max_measurement_age", "co_compile")},
    )


def _edges(said: Mapping[str, Any]) -> Iterator[str]:
    """Say what inputs and outputs are to be, as options of the stage that changes them."""
    from farm.domain.routes import EDGES

    for side in ("input", "output"):
        if names := said[f"force_channel_last_{side}"]:
            yield f"{EDGES}.channel_last_{side}s={','.join(names)}"
    if said["narrow_64_bit"]:
        yield f"{EDGES}.narrow_64_bit=true"


def inspect(
    model: Annotated[Path, typer.Argument(help="A model file or folder.", show_default=False)],
    builder: Builder = None,
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="Say what this profile would do with it.")
    ] = None,
    json: Json = False,
) -> None:
    """Show a model's facts: format, inputs, outputs, operators, parameters, size (read in the sandbox)."""
    from farm.cli.facts import facts_json, print_facts
    from farm.cli.output import print_json
    from farm.cli.progress import transfer_bars
    from farm.client import Client

    with Client() as client:
        with transfer_bars("Uploading") as on_bytes:
            view = client.inspect(model, builder=builder, on_bytes=on_bytes)
        profile = client.target(target) if target else None
    if json:
        print_json(facts_json(view, profile))
    else:
        print_facts(view, profile)


def _submit(asked: JobFile, *, wait: bool, json: bool) -> None:
    from farm.client import Client

    with Client() as client:
        job = _send(client, asked)
        _after(job, wait=wait, json=json)


def _send(client: Client, asked: JobFile) -> Job:
    from farm.cli.progress import transfer_bars

    with transfer_bars("Uploading") as on_bytes:
        return client.submit(
            asked.models,
            asked.target,
            runtimes=asked.runtime,
            recipes=asked.recipe,
            formats=asked.format,
            constraints=asked.constraint,
            objective=asked.objective,
            max_measurement_age=asked.max_measurement_age or 0.0,
            max_runtime_seconds=asked.max_runtime_seconds,
            name=asked.name,
            labels=asked.label,
            host=asked.host,
            options=asked.option,
            co_compile=asked.co_compile,
            on_bytes=on_bytes,
            **asked.measuring,
        )


@contextmanager
def _told_as_json(json: bool) -> Iterator[None]:
    """Print what is refused before there is a job as JSON too, where JSON is asked for; the error goes its way."""
    from farm.cli.errors import REFUSED, exit_code, reasons_of
    from farm.cli.output import print_json

    try:
        yield
    except FarmError as error:
        if json and exit_code(error) == REFUSED:
            print_json({"job": None, "state": "refused", "reasons": reasons_of(error)})
        raise


def _after(job: Job, *, wait: bool, json: bool) -> None:
    from farm.cli.errors import REFUSED
    from farm.cli.output import print_json, say
    from farm.cli.watching import is_refused_soon, print_refusal, watch_to_end

    if wait:
        say(f"Submitted job {job.id}.")
        watch_to_end(job, json=json)
    elif is_refused_soon(job):
        print_refusal(job, json=json)
        raise typer.Exit(REFUSED)
    elif json:
        print_json({"job": job.id})
    else:
        typer.echo(job.id)
        say(f"Submitted. Follow it with: farm watch {job.id}")


def _merged(flags: _Flags, file: Path | None) -> JobFile:
    """Combine the flags with the job file, where there is one.

    Raises:
        BadRequest: no model or no target was given, or a value does not read.
    """
    from farm.cli.jobfile import JobFile, read
    from farm.client import Model

    base = read(file) if file else JobFile(models=())
    models = [replace(model, **flags.data) for model in base.models]
    models += [Model(path, **flags.data) for path in flags.models]
    if not models:
        raise BadRequest("No model was given.", remedy="Name a model file or folder, or a job file with -f job.toml.")
    target = tuple(flags.target) or base.target
    if not target:
        raise BadRequest("No target was given.", remedy="Add --target with a profile from `farm targets`, or auto.")
    return JobFile(
        models=tuple(models),
        target=target,
        runtime=tuple(flags.runtime) or base.runtime,
        recipe=tuple(flags.recipe) or base.recipe,
        format=tuple(flags.format) or base.format,
        constraint=tuple(flags.constraint) or base.constraint,
        objective=flags.objective or base.objective,
        name=flags.name or base.name,
        label={**base.label, **_labels(flags.label)},
        host=flags.host or base.host,
        option=_options(base.option, flags.option),
        max_measurement_age=flags.max_measurement_age or base.max_measurement_age,
        max_runtime_seconds=base.max_runtime_seconds,
        co_compile=flags.co_compile or base.co_compile,
        measuring={**base.measuring, **flags.measuring},
    )


def _options(base: Mapping[str, Mapping[str, Any]], texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Add RECIPE.NAME=VALUE to the job file's options; the farm reads the values by the options' types.

    Raises:
        BadRequest: a text has another form.
    """
    found = {section: dict(named) for section, named in base.items()}
    for text in texts:
        name, equals, value = text.partition("=")
        section, dot, option = name.rpartition(".")
        if not (equals and dot and section and option):
            raise BadRequest(
                f"Option {text!r} is not of the form RECIPE.NAME=VALUE.",
                remedy="For example: --option int8-static.calibration_method=Percentile",
            )
        found.setdefault(section.strip(), {})[option.strip()] = value.strip()
    return found


def _labels(texts: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for text, (key, equals, _) in zip(texts, pairs, strict=True):
        if not (key and equals):
            raise BadRequest(f"Label {text!r} is not of the form KEY=VALUE.")
    return {key: value for key, _, value in pairs}
