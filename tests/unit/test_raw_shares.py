"""Feasible mass counts as dimod's own check does, for every kind of constraint."""

import dimod
import numpy as np
import pytest

from hybrid_assets.encodings.penalty import Penalty
from hybrid_assets.encodings.samples import shares
from hybrid_assets.problems.base import Program


@pytest.mark.parametrize("senses", [("<=",), (">=",), ("==",), ("<=", ">="), ()])
def test_feasible_mass_is_what_dimod_says(senses: tuple[str, ...]) -> None:
    rng = np.random.default_rng(7)
    cqm = dimod.ConstrainedQuadraticModel()
    cqm.set_objective(dimod.BinaryQuadraticModel.from_numpy_vectors(np.ones(5), ([], [], []), 0.0, dimod.BINARY))
    for k, sense in enumerate(senses):
        cqm.add_constraint([(i, float(w)) for i, w in enumerate(rng.integers(1, 4, 5))], sense, 5 - k, label=f"c{k}")
    program = Program(cqm, "test")
    encoded = Penalty().encode(program)
    bits = rng.integers(0, 2, (40, encoded.bqm.num_variables), dtype=np.int8)
    counts = rng.integers(1, 9, 40)
    holds = [cqm.check_feasible(dict(enumerate(row[:5].tolist()))) for row in bits]
    found = shares(Penalty(), program, encoded, bits, counts)
    assert found.feasible_mass == pytest.approx(counts[holds].sum() / counts.sum())
    assert found.leakage is None
    assert 0 < found.feasible_mass < 1 or not senses
