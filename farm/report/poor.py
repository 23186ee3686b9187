"""What a poor result's figures say, and what to do about it: times that do not count, numerics that fell, slowness."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from farm.domain.bisection import OTHER_HOST, OTHER_KERNELS
from farm.domain.pace import ACROSS_HOSTS
from farm.domain.recipe import BASELINE, RECIPES
from farm.report import text
from farm.report.model import Layer, Numerics, Report, Result
from farm.report.row import WHY_INVALID
from hardware_profiles.loader import load_profiles

CLIPPED = 0.01
"""Share of a layer's values from which on it is told that they are cut off."""
GOVERNORS = "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
_WAY_OUT = {
    "emulated": "Add a real host of this profile: `farm worker --profile auto` on the board.",
    "throttled": "Cool the host, or let its clock down, and measure again.",
    "hot": "Let the host cool down, or give it a fan, and measure again.",
    "loaded": "Stop other work on the host and measure again.",
    "steal": "Measure on a host that shares its processor with nobody.",
    "clock-low": "Let the clock reach its nominal rate and measure again. {governor}",
    "governor": "Set the governor and measure again. {governor}",
    "memory-pressure": "Free memory on the host and measure again.",
    "unstable": "Keep the host idle and measure again; times under a tenth of a millisecond vary the most.",
    "reference-drift": "Keep the host idle and cool, and measure again: its reference model changed pace meanwhile.",
    "unknown-state": "Give the worker read access to the host's clock and thermal state, and measure again.",
}


def _invalid(report: Report, result: Result) -> Iterator[str]:
    conditions = result.conditions
    reasons = [WHY_INVALID[reason] for reason in conditions.reasons] if conditions else []
    host = f" on host {conditions.host}" if conditions else ""
    yield f"The file is good, but its times{host} do not count: {', '.join(reasons) or 'no reason was recorded'}."


def _degraded(report: Report, result: Result) -> Iterator[str]:
    numerics, accuracy = result.numerics, result.accuracy
    limit_db = RECIPES[_recipe(result)].degraded_below_db if _recipe(result) in RECIPES else None
    if numerics is not None and numerics.sqnr_db is None:
        yield "Its outputs could not be compared with the source's."
    elif numerics is not None and limit_db is not None and (numerics.sqnr_db or 0.0) < limit_db:
        yield f"Its outputs reach {text.decibels(numerics.sqnr_db)} against the source; {limit_db:.0f} dB are needed."
    if numerics is not None and numerics.first_bad_stage:
        yield first_bad(numerics.first_bad_stage, numerics)
        yield from layers_of(numerics)
    if numerics is not None and numerics.disagreement:
        yield numerics.disagreement
    if accuracy is not None and accuracy.value != accuracy.float_value:
        now, was = text.score(accuracy.value), text.score(accuracy.float_value)
        yield f"Its {accuracy.metric} is {now} where the float source has {was}, over {accuracy.samples} samples."


def first_bad(stage: str, numerics: Numerics) -> str:
    by_stage = numerics.by_stage
    bad = next((one for one in by_stage if one.is_bad), None)
    earlier = by_stage[: by_stage.index(bad)] if bad else []
    before = [one for one in earlier if one.sqnr_db is not None]
    unseen = earlier[-1].stage if earlier and earlier[-1].not_checked else stage
    gap = f" ({unseen} before it was not compared)" if unseen != stage else ""
    was = f", after {_reached(before[-1].sqnr_db)} at {before[-1].stage}" if before else ""
    named = ""
    if numerics.first_bad_tensor:
        named = f" {'in layer' if numerics.bad_layer else 'in output'} {numerics.first_bad_tensor}"
    return f"The first stage that falls is {stage}{named}{f': {text.decibels(bad.sqnr_db)}' if bad else ''}{was}{gap}."


def _reached(sqnr_db: float | None) -> str:
    shown = text.decibels(sqnr_db)
    return "exact outputs" if shown == "exact" else shown


def layers_of(numerics: Numerics) -> Iterator[str]:
    """Name the layers that lose the most, or say why none is named."""
    worst = [f"{one.tensor} ({one.operator}) {text.decibels(one.sqnr_db)}" for one in numerics.worst_layers]
    if worst:
        yield f"The layers furthest from the float model's, on one sample: {', '.join(worst)}."
    bad = numerics.bad_layer
    if bad is not None and _is_cut_off(bad):
        yield (
            f"{bad.clipped_share:.0%} of the values of {bad.tensor} are cut off: they lie beyond the range that the "
            "quantized file has for them, as after calibration on samples smaller than those in use."
        )
    if numerics.per_layer_note:
        yield f"{'Of its layers' if worst else 'Its layers are not compared'}: {numerics.per_layer_note}"


def _is_cut_off(layer: Layer | None) -> bool:
    return layer is not None and layer.clipped_share >= CLIPPED


def _slower(report: Report, result: Result) -> Iterator[str]:
    summary, conditions = result.execution_summary, result.conditions
    if summary is not None and summary.versus_float:
        apart = any(note.startswith(ACROSS_HOSTS) for note in result.notes)
        yield (
            f"It takes {1 / summary.versus_float:.2f}x the time of {BASELINE} under {result.target_runtime}"
            f"{'' if apart else ' on the same host'} (median {text.milliseconds(summary.p50)} ms)."
        )
    cpu = f" ({conditions.cpu})" if conditions and conditions.cpu else ""
    yield f"Integer kernels pay only where processor{cpu} and runtime have fast ones for the model's operators."
    if (best := _fastest(report, result)) is not None:
        yield f"In this job {best.target_runtime} {best.recipe} is the fastest valid one for this model and target."


def _act_on_measurement(report: Report, result: Result) -> str:
    reasons = result.conditions.reasons if result.conditions else []
    if not reasons:
        return "Measure again, and see what the host's conditions were."
    return _WAY_OUT[reasons[0]].format(governor=f"As root on the host: {governor_command(result)}")


def governor_command(result: Result) -> str:
    """Write the shell line that sets what the profile asks for, on every core: no worker changes a host's clocks."""
    profile = load_profiles().get(result.conditions.profile) if result.conditions else None
    wanted = (profile.measurement.governor if profile else None) or "performance"
    return f"echo {shlex.quote(wanted)} | tee {GOVERNORS}"


def _act_on_numerics(report: Report, result: Result) -> str:
    if result.numerics is not None and result.numerics.disagreement:
        return OTHER_KERNELS if _recipe(result) in RECIPES and RECIPES[_recipe(result)].in_integers else OTHER_HOST
    if _recipe(result) == BASELINE:
        return f"Take another route or runtime: see what leads from the model's format to {result.target_runtime}."
    if result.numerics is not None and _is_cut_off(result.numerics.bad_layer):
        return (
            "Calibrate with samples that span the range in use, as large and as dark as those that the model will see."
        )
    return "Give more and more typical calibration samples, or let the farm search for a recipe that keeps the quality."


def _act_on_speed(report: Report, result: Result) -> str:
    best = _fastest(report, result)
    other = f"{best.target_runtime} {best.recipe}" if best else f"the {BASELINE} file"
    return f"Use {other} for speed; keep this one only where its size of {_size(result)} matters."


def command_for(verdict: str, report: Report, result: Result) -> str:
    job, target = shlex.quote(report.job), shlex.quote(result.target)
    if verdict == "invalid-measurement":
        return f"farm retry {job} --wait"
    if verdict == "degraded" and _recipe(result) == BASELINE:
        return f"farm routes --to {shlex.quote(result.target_runtime)}"
    if verdict == "degraded":
        return f"farm submit MODEL --target {target} --recipe auto --calibration SAMPLES.npz"
    return f"farm download {job}"


def _fastest(report: Report, result: Result) -> Result | None:
    """Find the fastest valid result for the same model and target that no verdict speaks against."""
    same = [r for r in report.results if (r.model, r.target) == (result.model, result.target) and r.verdict == "ok"]
    timed = [(r.execution_summary.p50, n) for n, r in enumerate(same) if r.execution_summary and r.is_valid]
    return same[min(timed)[1]] if timed else None


def _recipe(result: Result) -> str:
    return result.recipe.partition("+")[0]


def _size(result: Result) -> str:
    return text.size(result.artifact.size_bytes) if result.artifact else text.UNKNOWN


TELLERS = {"invalid-measurement": _invalid, "degraded": _degraded, "slower-than-float": _slower}
ACTIONS = {
    "invalid-measurement": _act_on_measurement,
    "degraded": _act_on_numerics,
    "slower-than-float": _act_on_speed,
}
