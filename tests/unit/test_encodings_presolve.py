"""Presolve keeps an optimum, prepared programs keep to the qubit budget, warm starts say what they are."""

from __future__ import annotations

import json
from typing import Any, cast

import dimod
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets.encodings import presolve as presolving
from hybrid_assets.encodings.arrays import QuadraticForm, states
from hybrid_assets.encodings.presolve import conditioned, presolve
from hybrid_assets.encodings.warm import warm_start
from hybrid_assets.problems.base import Instance, ProblemFamily, Program, Reference
from hybrid_assets.proposals.prepared import Prepared, again, choose, prepare
from resources.failures import InputError


def form(n: int, seed: int, density: float, integers: bool) -> QuadraticForm:
    rng = np.random.default_rng(seed)
    i, j = np.triu_indices(n, 1)
    chosen = rng.random(i.size) < density
    draw = (lambda m: rng.integers(-4, 5, m).astype(float)) if integers else (lambda m: rng.normal(size=m))
    return QuadraticForm.build(draw(n), i[chosen], j[chosen], draw(int(chosen.sum())), 0.5)


@given(st.integers(1, 10), st.integers(0, 10**6), st.sampled_from([0.2, 0.4, 0.9]), st.booleans(), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_some_optimum_has_all_known_values(n: int, seed: int, density: float, integers: bool, enumerated: int) -> None:
    original = form(n, seed, density, integers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presolving, "ENUMERATED", enumerated)
        found = presolve(original)
    rest = conditioned(original, found.values)
    assert len(rest.linear) == len(found.open) == found.record["open"]
    assert rest.all_values().min() == pytest.approx(original.all_values().min(), abs=1e-9)
    x = states(np.arange(2 ** len(found.open)), len(found.open))
    whole = np.tile(found.values, (len(x), 1))
    whole[:, found.open] = x
    index = whole.astype(np.int64) @ (1 << np.arange(n))
    np.testing.assert_allclose(rest.all_values(), original.all_values()[index], atol=1e-9)
    json.dumps(found.record)


def test_values_that_only_some_optima_have_are_no_persistencies() -> None:
    # the library's weak persistencies of this model cost 1: every value it names is in some optimum, not together
    rng = np.random.default_rng(385)
    n = int(rng.integers(1, 11))
    i, j = np.triu_indices(n, 1)
    chosen = rng.random(i.size) < 0.4
    original = QuadraticForm.build(
        rng.integers(-4, 5, n), i[chosen], j[chosen], rng.integers(-4, 5, int(chosen.sum())), 0.5
    )
    found = presolve(original)
    assert conditioned(original, found.values).all_values().min() == original.all_values().min()


def test_a_grid_in_strong_fields_is_solved_and_its_parts_are_counted() -> None:
    side = 12
    cells = np.arange(side * side).reshape(side, side)
    rows = np.concatenate([cells[:, :-1].ravel(), cells[:-1].ravel()])
    cols = np.concatenate([cells[:, 1:].ravel(), cells[1:].ravel()])
    rng = np.random.default_rng(0)
    grid = QuadraticForm.build(5 * rng.normal(size=side * side), rows, cols, rng.normal(size=rows.size), 0.0)
    found = presolve(grid)
    assert found.record["roof_duality"] > 100
    assert found.record["open"] == found.record["of"] - (found.values >= 0).sum() < 20


class Few:
    """As much of a family as ``prepare`` asks for."""

    def __init__(self, program: Program, point: np.ndarray) -> None:
        self.program, self.point = program, point

    def model(self, instance: Instance) -> Program:
        return self.program

    def reference(self, instance: Instance, program: Program, seed: int) -> Reference:
        return Reference(self.point.astype(np.int8), np.arange(len(self.point), dtype=float), "a point")


def prepared(program: Program, point: np.ndarray, limit: int) -> Prepared:
    return prepare(cast(ProblemFamily, Few(program, point)), cast(Any, None), limit, 0)


def knapsack(n: int, seed: int) -> tuple[Program, np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = rng.integers(3, 40, n)
    cqm = dimod.ConstrainedQuadraticModel()
    cqm.set_objective(dimod.BinaryQuadraticModel.from_numpy_vectors(-rng.random(n), ([], [], []), 0.0, dimod.BINARY))
    cqm.add_constraint([(i, float(w)) for i, w in enumerate(weights)], "<=", int(weights.sum() // 2), label="room")
    point = (np.cumsum(weights) <= weights.sum() // 2).astype(np.int8)
    return Program(cqm, "knapsack"), point


@given(st.integers(6, 40), st.integers(10, 24), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_slack_counts_against_the_qubit_budget(n: int, limit: int, seed: int) -> None:
    program, point = knapsack(n, seed)
    found = prepared(program, point, limit)
    assert found.encoded.bqm.num_variables <= limit
    kept = len(found.narrowed.kept)
    assert kept >= limit - 9 or kept == n
    repeated = again(program, found.narrowed.kept, found.narrowed.fixed, found.encoded.encoding)
    assert repeated.encoded.digest == found.encoded.digest


def test_presolve_comes_before_narrowing_and_is_recorded() -> None:
    n = 40
    cqm = dimod.ConstrainedQuadraticModel()
    linear = np.where(np.arange(n) < 20, -5.0, 0.0)
    pairs = [(i, i + 1) for i in range(n - 1)]
    i, j = (np.array(column) for column in zip(*pairs, strict=True))
    rng = np.random.default_rng(4)
    clique_i, clique_j = (index + 20 for index in np.triu_indices(20, 1))
    cqm.set_objective(
        dimod.BinaryQuadraticModel.from_numpy_vectors(
            linear,
            (np.concatenate([i, clique_i]), np.concatenate([j, clique_j]),
             np.concatenate([np.ones(n - 1), rng.normal(size=clique_i.size)])),
            0.0,
            dimod.BINARY,
        )
    )  # fmt: skip
    program = Program(cqm, "half of it is known")
    found = prepared(program, np.zeros(n), 12)
    assert found.narrowed.record["presolve"]["roof_duality"] >= 19
    assert (found.narrowed.fixed[:19] == 1).all()
    assert (found.narrowed.kept >= 19).all()
    assert len(found.narrowed.kept) == 12
    repeated = again(program, found.narrowed.kept, found.narrowed.fixed, found.encoded.encoding)
    assert repeated.encoded.digest == found.encoded.digest


def test_a_program_that_presolve_solves_keeps_one_variable() -> None:
    cqm = dimod.ConstrainedQuadraticModel()
    cqm.set_objective(dimod.BinaryQuadraticModel.from_numpy_vectors(-np.ones(9), ([0], [1], [0.5]), 0.0, dimod.BINARY))
    found = prepared(Program(cqm, "easy"), np.zeros(9), 4)
    assert len(found.narrowed.kept) == 1
    others = np.delete(found.narrowed.fixed, found.narrowed.kept)
    assert (others == 1).all()


def test_a_program_that_fits_is_left_whole() -> None:
    cqm = dimod.ConstrainedQuadraticModel()
    cqm.set_objective(dimod.BinaryQuadraticModel.from_numpy_vectors(-np.ones(4), ([], [], []), 0.0, dimod.BINARY))
    found = prepared(Program(cqm, "easy"), np.zeros(4), 4)
    assert not found.narrowed.narrowed
    assert "presolve" not in found.narrowed.record


def test_the_encoding_is_the_wanted_one_or_the_first_that_fits() -> None:
    program, _ = knapsack(5, 0)
    higher = Program(program.cqm, "higher", {(0, 1, 2): 1.0})
    assert choose(program, None) == "penalty"
    assert choose(higher, None) == "quadratized"
    assert choose(program, "unbalanced") == "unbalanced"
    with pytest.raises(InputError, match="the encoding domain-wall cannot express the program"):
        choose(program, "domain-wall")
    with pytest.raises(InputError, match="nothing is registered"):
        choose(program, "unknown")
    program.cqm.add_constraint(dimod.Binary(0) * dimod.Binary(1) == 1)
    with pytest.raises(InputError, match="none of the encodings penalty, quadratized, discretised"):
        choose(program, None)


@given(st.integers(1, 10), st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.25, 0.5]))
@settings(max_examples=40, deadline=None)
def test_angles_are_the_relaxation_kept_away_from_the_poles(n: int, seed: int, epsilon: float) -> None:
    model = form(n, seed, 0.8, False)
    found = warm_start(model, epsilon, 7)
    share = np.sin(found.angles / 2) ** 2
    np.testing.assert_allclose(share, np.clip(found.values, epsilon, 1 - epsilon), atol=1e-12)
    every = model.all_values()
    index = 1 << np.arange(n)
    assert every[found.rounded @ index] == pytest.approx(found.rounded_energy, abs=1e-9)
    assert every[found.polished @ index] == pytest.approx(found.polished_energy, abs=1e-9)
    assert found.polished_energy <= found.rounded_energy + 1e-9
    flips = found.polished ^ np.eye(n, dtype=np.int8)
    assert (every[flips @ index] >= found.polished_energy - 1e-9).all()
    # a relaxation: not above the optimum, but for what the descent has not converged
    assert found.relaxed_energy <= every.min() + 1e-2 * max(1.0, float(np.ptp(every)))
    np.testing.assert_array_equal(found.angles, warm_start(model, epsilon, 7).angles)


def test_the_relaxation_of_a_model_without_fields_names_the_first_variable_1() -> None:
    # a triangle to cut: x_i + x_j − 2·x_i·x_j per edge, so no fields
    found = warm_start(QuadraticForm.build(-2.0 * np.ones(3), *np.triu_indices(3, 1), 2.0 * np.ones(3), 0.0), 0.1, 0)
    assert found.values == pytest.approx([1.0, 0.25, 0.25], abs=1e-2)
    assert found.relaxed_energy == pytest.approx(-2.25, abs=1e-3)
    assert found.polished_energy == -2.0


def test_no_epsilon_beyond_the_uniform_superposition() -> None:
    with pytest.raises(ValueError, match="between 0 and"):
        warm_start(form(3, 0, 1.0, True), 0.6, 0)
