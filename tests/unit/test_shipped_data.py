"""Every input that ships is read by the family of its folder, and its recorded value is none that its reader could
contradict."""

from pathlib import Path

import numpy as np
import pytest

from hybrid_assets import registry
from hybrid_assets.landing import Found, normalized, scan
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.request import read_sidecar

INBOX = Path(__file__).parents[2] / "data" / "inbox"
FOUND = scan(INBOX)


def test_most_families_have_an_input_to_try() -> None:
    assert {found.family for found in FOUND} >= {"tsp", "cvrp", "jobshop", "knapsack", "mis", "labs", "program"}


@pytest.mark.parametrize("found", FOUND, ids=lambda found: f"{found.family}-{found.path.name}")
def test_it_is_read_and_walked_or_modelled(found: Found) -> None:
    family, source = registry.family(found.family), SourceFile.open(found.path)
    assert family.recognises(source)
    request = read_sidecar(found.path)
    instance = normalized(family, source, 0, request, found.path.stem)
    landscape = family.landscape(instance)
    assert landscape is not None
    start = landscape.start(0)
    assert start.feasible
    objective = family.evaluate(instance, landscape.values(start)).objective
    if request.best_known is not None:
        worse = request.best_known - objective if instance.sense == "max" else objective - request.best_known
        assert worse >= -1e-6 * max(1.0, abs(request.best_known))
    assert np.isfinite(objective)


@pytest.mark.parametrize(
    ("family", "name", "values", "told"),
    [
        ("tsp", "state-capitals.tsp", range(16), [" → ".join(map(str, range(1, 17)))]),
        ("binpacking", "benches.txt", [0] * 2 + [1] * 14, ["bin 1: 1 2", "bin 2: " + " ".join(map(str, range(3, 17)))]),
        ("knapsack", "half-the-people.txt", [1, 0, 1] + [0] * 13, ["1", "3"]),
        ("jobshop", "ft06.txt", [0] * 35 + [7], None),
    ],
)
def test_answers_are_told_in_words(family: str, name: str, values: list[int], told: list[str] | None) -> None:
    known, source = registry.family(family), SourceFile.open(INBOX / family / name)
    instance = known.normalize(known.read(source)[0], known.options(), name)
    found = known.told(instance, np.array(list(values)))
    if told is None:
        # a start at 0 is a start
        assert len(found) == 36
        assert found[-1].endswith(" = 7")
    else:
        assert found == told
