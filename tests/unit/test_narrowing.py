"""Narrowing: the smaller program and the original agree on every lifted assignment."""

from __future__ import annotations

import json
import time

import dimod
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets.encodings.arrays import states
from hybrid_assets.encodings.narrowing import narrow
from hybrid_assets.problems.base import Program, Reference
from resources.failures import InputError, InvariantError


def model(n: int, seed: int, constraints: list[tuple[list[tuple[int, float]], str, float]]) -> Program:
    rng = np.random.default_rng(seed)
    i, j = np.triu_indices(n, 1)
    cqm = dimod.ConstrainedQuadraticModel()
    cqm.add_variables("BINARY", [int(v) for v in rng.permutation(n)])
    cqm.set_objective(
        dimod.BinaryQuadraticModel.from_numpy_vectors(
            rng.normal(size=n), (i, j, rng.normal(size=i.size)), 2.0, "BINARY"
        )
    )
    for k, (terms, sense, rhs) in enumerate(constraints):
        cqm.add_constraint(terms, sense, rhs, label=f"c{k}")
    return Program(cqm, "test")


def holds(p: Program, assignments: np.ndarray) -> np.ndarray:
    n = len(p.cqm.variables)
    ok = np.ones(len(assignments), dtype=bool)
    for c in p.cqm.constraints.values():
        gap = c.lhs.energies((assignments, range(n))) - c.rhs
        ok &= {"==": np.abs(gap) < 1e-9, "<=": gap < 1e-9, ">=": gap > -1e-9}[c.sense.value]
    return ok


@given(st.integers(2, 9), st.integers(1, 9), st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_energy_and_feasibility_of_every_lifted_assignment(n: int, q: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    point = rng.integers(0, 2, n)
    rows = []
    for sense in ("==", "<=", ">="):  # made to hold at the reference, some over the fixed variables only
        a = rng.integers(-3, 4, n) * (rng.random(n) < 0.7) + 0.5 * (sense == "<=")
        slack = {"==": 0, "<=": 1, ">=": -1}[sense]
        rows.append(([*enumerate(map(float, a))], sense, float(a @ point + slack)))
    p = model(n, seed, rows)
    reference = Reference(point.astype(np.int8), rng.random(n), "random point")
    narrowed = narrow(p, reference, q)
    small = narrowed.program
    width = min(n, q)
    assert sorted(small.cqm.variables) == list(range(width))
    assert narrowed.narrowed == (q < n) == narrowed.record["narrowed"]
    every = states(np.arange(2**width), width)
    lifted = narrowed.lift(every)
    assert lifted.dtype == np.int8
    np.testing.assert_array_equal(narrowed.lift(every[-1]), lifted[-1])
    np.testing.assert_allclose(
        small.cqm.objective.energies((every, range(width))), p.cqm.objective.energies((lifted, range(n))), atol=1e-9
    )
    np.testing.assert_array_equal(holds(small, every), holds(p, lifted))
    assert holds(small, point[narrowed.kept][None]).all()
    others = np.setdiff1d(np.arange(n), narrowed.kept)
    assert (lifted[:, others] == point[others]).all()
    if len(others):
        assert reference.priority[narrowed.kept].min() >= reference.priority[others].max()
    assert narrowed.record["reference_energy"] == pytest.approx(p.cqm.objective.energy((point, range(n))))
    json.dumps(narrowed.record, allow_nan=False)


def test_a_program_that_fits_is_untouched() -> None:
    p = model(5, 0, [])
    narrowed = narrow(p, Reference(np.zeros(5, np.int8), np.zeros(5), "zeros"), 5)
    assert narrowed.program is p
    assert not narrowed.narrowed


def test_ties_keep_the_lowest_indices() -> None:
    narrowed = narrow(model(6, 0, []), Reference(np.zeros(6, np.int8), np.zeros(6), "zeros"), 3)
    assert narrowed.kept.tolist() == [0, 1, 2]
    assert narrowed.kept.dtype == np.int64


@pytest.mark.parametrize("terms", [range(6), range(3, 6)])
def test_a_reference_that_leaves_no_solution_is_refused(terms: range) -> None:
    p = model(6, 0, [([(i, 1.0) for i in terms], "<=", 1)])
    with pytest.raises(InvariantError, match="leaves constraint 'c0' without a solution"):
        narrow(p, Reference(np.ones(6, np.int8), -np.arange(6.0), "ones"), 2)


@pytest.mark.parametrize(
    "reference",
    [
        Reference(np.zeros(3, np.int8), np.zeros(4), "short"),
        Reference(np.full(4, 2, np.int8), np.zeros(4), "not bits"),
        Reference(np.zeros(4, np.int8), np.full(4, np.nan), "no priority"),
    ],
)
def test_malformed_references_are_refused(reference: Reference) -> None:
    with pytest.raises(InvariantError, match="one bit and one priority"):
        narrow(model(4, 0, []), reference, 2)


def test_no_budget_is_refused() -> None:
    with pytest.raises(InputError, match="at least one variable"):
        narrow(model(4, 0, []), Reference(np.zeros(4, np.int8), np.zeros(4), "zeros"), 0)


def test_large_dense_program_is_narrowed_quickly() -> None:
    n = 1500
    p = model(n, 0, [([(i, 1.0) for i in range(n)], "==", 10)])
    point = np.zeros(n, np.int8)
    point[:10] = 1
    start = time.process_time()
    narrowed = narrow(p, Reference(point, -np.arange(n, dtype=float), "first ten"), 16)
    assert time.process_time() - start < 1.0
    assert len(narrowed.program.cqm.variables) == 16
