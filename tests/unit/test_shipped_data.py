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
