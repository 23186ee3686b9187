"""Numerics stage by stage: where a route first leaves its source, and whether two hosts disagree about one file.

Figures are those of comparisons with the source's reference samples, in the order of the route: every stage's output on
a build host, and last the result's file on the target's own host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from farm.domain.plan import SOURCE
from farm.domain.verdict import is_empty

DISAGREEMENT_DB = 6.0
"""How much less one file must reach on the target's host before two hosts are said to disagree: half the signal."""
OTHER_HOST = "Run it on another host of this profile; if only this one disagrees, take it out of rotation."
"""What to do about hosts that disagree."""
OTHER_KERNELS = (
    "Run it on another host of this profile. If that one agrees with this, its integer kernels saturate: take "
    "int8-mixed, or weights of a reduced range. If this host alone disagrees, take it out of rotation."
)
"""The same for files in integers: on one CPU without VNNI, two kernels gave 8.4 dB apart for a sound U8S8 file."""
FIGURES = ("sqnr_db", "psnr_db", "cosine", "max_abs_error", "worst_output")

Where = Literal["build", "target"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One comparison: what `stage` made, opened by `runtime` on `host`.

    `limit_db` is the SQNR (dB) under which it counts as bad. A file `in_integers` may differ by the kernels that a
    processor has for it. `numerics` is empty when it was not compared, and
    `not_checked` then says why.
    """

    stage: str
    format: str | None
    runtime: str | None
    where: Where
    host: str | None
    limit_db: float
    numerics: Mapping[str, Any] = field(default_factory=dict)
    not_checked: str | None = None
    in_integers: bool = False

    @property
    def sqnr_db(self) -> float | None:
        return self.numerics.get("sqnr_db")

    @property
    def is_fine(self) -> bool:
        return self.sqnr_db is not None and self.sqnr_db >= self.limit_db

    @property
    def is_bad(self) -> bool:
        return bool(self.numerics) and not self.is_fine and not is_empty(self.numerics)

    @property
    def told(self) -> dict[str, Any]:
        """Give the report's entry."""
        entry: dict[str, Any] = {
            "stage": self.stage,
            "format": self.format,
            "runtime": self.runtime,
            "where": self.where,
            "host": self.host,
            **{name: self.numerics.get(name) for name in FIGURES},
            "limit_db": self.limit_db,
        }
        return entry if self.not_checked is None else {**entry, "not_checked": self.not_checked}


@dataclass(frozen=True, slots=True)
class LayerFigures:
    """What a quantized model's inner tensors reach against the float one's, in the order of execution.

    `stage` is the one that quantized. Each of `rows` holds tensor, operator, sqnr_db, cosine, max_abs_error and
    max_abs_value; they are None where nothing was compared, and `note` then says why.
    """

    stage: str
    rows: Sequence[Mapping[str, Any]] | None = None
    note: str | None = None

    def first_below(self, limit_db: float) -> str | None:
        """Name the first tensor under a line."""
        return next((row["tensor"] for row in self.rows or () if row["sqnr_db"] < limit_db), None)


def bisect(figures: Sequence[Figure], target: str, layers: LayerFigures | None = None) -> dict[str, Any]:
    """Tell where the numerics first fall below their line, in the report's fields.

    The tensor is the first layer below the line where the stage at fault is the one whose layers were compared, else
    the worst output.

    Args:
        figures: in the order of the route; the last may be the target's.
        target: the target's name.
        layers: those of the stage that quantized, where one did.
    """
    pair = _of_one_file(figures)
    sentence = disagreement(*pair) if pair else None
    bad = next((figure for figure in figures if figure.is_bad), None)
    stage = bad.stage if bad else None
    if bad is not None and bad.where == "target" and (sentence or bad.stage == SOURCE):
        stage = f"compare on {target}"
    tensor = bad.numerics.get("worst_output") if bad else None
    if bad is not None and layers is not None and stage == layers.stage:
        tensor = layers.first_below(bad.limit_db) or tensor
    told_of_layers = {"per_layer": layers.rows, "per_layer_note": layers.note} if layers else {}
    return {
        "by_stage": [figure.told for figure in figures],
        "first_bad_stage": stage,
        "first_bad_tensor": tensor,
        "disagreement": sentence,
        **told_of_layers,
    }


def disagreement(built: Figure, there: Figure) -> str | None:
    """Say in a sentence that a file which is fine on the build host is worse on the target's; None when it is not."""
    if not built.is_fine or not there.is_bad:
        return None
    if there.sqnr_db is not None and (built.sqnr_db or 0.0) - there.sqnr_db < DISAGREEMENT_DB:
        return None
    host = there.host or "the target"
    cause = f"The file is sound, and what executes it on {host} is not."
    if there.in_integers:
        cause = f"Either what executes it on {host} is not sound, or the integer kernels for its processor saturate."
    return (
        f"The hosts disagree about one file: {_place(there)} it reaches {_decibels(there)}, "
        f"{_place(built)} {_decibels(built)}; {there.limit_db:.0f} dB are needed. {cause}"
    )


def _of_one_file(figures: Sequence[Figure]) -> tuple[Figure, Figure] | None:
    """Find the last file's figures on the build host and on the target's."""
    if len(figures) < 2 or figures[-1].where != "target" or figures[-2].where != "build":
        return None
    return figures[-2], figures[-1]


def _place(figure: Figure) -> str:
    role = "the target's host" if figure.where == "target" else "the build host"
    return f"on {role} {figure.host or '(unknown)'} under {figure.runtime}"


def _decibels(figure: Figure) -> str:
    return "no SQNR" if figure.sqnr_db is None else f"{figure.sqnr_db:.1f} dB"
