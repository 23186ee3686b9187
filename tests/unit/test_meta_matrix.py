"""docs/matrix.md speaks of the stages, formats and recipes there are; `make matrix` makes it anew."""

from __future__ import annotations

from collections import Counter
from functools import cache

from tests import matrix
from tests.matrix_page import read_stages, read_states, read_totals, read_unmade


@cache
def document() -> str:
    return matrix.DOCUMENT.read_text(encoding="utf-8")


def test_it_was_made_with_the_stages_there_are() -> None:
    assert read_stages(document()) == matrix.stages(), "run `make matrix`"


def test_every_cell_is_in_it_once_and_those_with_a_route_are_told_apart() -> None:
    addresses = {(str(source), str(artifact), recipe) for source, artifact, recipe in matrix.addresses()}
    with_route = {
        (str(source), str(artifact), recipe)
        for source, artifact, recipe in matrix.addresses()
        if matrix.routes(source, artifact, recipe)
    }

    assert set(read_states(document())) == with_route
    assert read_unmade(document()) == addresses - with_route


def test_its_totals_add_up() -> None:
    cells, *ended = read_totals(document())
    states, unmade = Counter(read_states(document()).values()), len(read_unmade(document()))

    assert cells == sum(ended) == len(matrix.addresses())
    assert ended == [states["succeeded"], states["refused"] + unmade, states["failed"]]
