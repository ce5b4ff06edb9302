"""The landscape of the bits: blocks, charges and repairs against the program itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dimod
import numpy as np
import pytest
from matplotlib.figure import Figure

from hybrid_assets.problems.base import (
    Evaluation,
    FamilyOptions,
    Instance,
    ProblemFamily,
    Program,
    Reference,
    Solution,
)
from hybrid_assets.problems.flips import FlipLandscape
from hybrid_assets.problems.landscape_conformance import LandscapeConformance
from hybrid_assets.problems.source import SourceFile
from resources.envelope import PostProcessing

Build = Callable[[], Program]


class Bits(ProblemFamily):
    """Solutions are a program's own bits; what is infeasible becomes the nearest feasible point of a list."""

    name, version, title, options = "bits", "1", "a program's own bits", FamilyOptions

    def __init__(self, build: Build) -> None:
        self.program = build()
        n = len(self.program.cqm.variables)
        everything = np.array(list(itertools.product([0, 1], repeat=n)), dtype=np.int8)
        self.points = everything[np.array([self._broken(x) == 0 for x in everything])]

    def instance(self) -> Instance:
        return Instance(self.name, "inline", self.points.shape[1], "min", {"points": self.points.astype(np.int64)})

    def _broken(self, x: np.ndarray) -> float:
        found = self.program.cqm.violations(dict(enumerate(x.tolist())), skip_satisfied=True)
        return float(sum(v for v in found.values() if v > 1e-9))

    def recognises(self, source: SourceFile) -> bool:
        return False

    def read(self, source: SourceFile) -> Sequence[Any]:
        return []

    def normalize(self, raw: Any, options: FamilyOptions, name: str) -> Instance:
        return self.instance()

    def model(self, instance: Instance) -> Program:
        return self.program

    def evaluate(self, instance: Instance, values: np.ndarray) -> Evaluation:
        broken = self._broken(values)
        objective = float(self.program.energies(np.asarray(values)[None, :])[0])
        return Evaluation(objective, {"constraints": broken} if broken else {})

    def complete(self, instance: Instance, assignment: np.ndarray) -> Solution:
        nearest = self.points[np.argmin((self.points != assignment).sum(axis=1))]
        same = np.array_equal(nearest, assignment)
        return Solution(
            nearest, self.evaluate(instance, nearest), PostProcessing.RAW if same else PostProcessing.REPAIRED
        )

    def assignment(self, instance: Instance, values: np.ndarray) -> np.ndarray:
        return np.asarray(values, dtype=np.int8)

    def reference(self, instance: Instance, program: Program, seed: int) -> Reference:
        pick = np.random.default_rng(seed).integers(len(self.points))
        return Reference(self.points[pick], np.arange(instance.size, dtype=float), "random feasible point")

    def random_assignments(
        self, instance: Instance, count: int, seed: int, free: np.ndarray | None = None, base: np.ndarray | None = None
    ) -> np.ndarray:
        return self.points[np.random.default_rng(seed).integers(0, len(self.points), count)]

    def baselines(self, instance: Instance) -> Sequence[str]:
        return ()

    def constraints(self, instance: Instance) -> Mapping[str, Any]:
        return {}

    def plot_instance(self, instance: Instance) -> Figure:
        raise NotImplementedError

    def plot_solution(self, instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
        raise NotImplementedError

    def landscape(self, instance: Instance) -> FlipLandscape:
        return FlipLandscape(self, instance, faithful=True)


def program(n: int, seed: int, *constraints: tuple[Mapping[int, float], str, float], degree: int = 2) -> Program:
    """A random objective of this degree under linear constraints (coefficients by variable, sense, right-hand side)."""
    rng = np.random.default_rng(seed)
    cqm = dimod.ConstrainedQuadraticModel()
    objective = dimod.BinaryQuadraticModel(dict(enumerate(rng.normal(size=n))), {}, 1.5, dimod.BINARY)
    for i, j in itertools.combinations(range(n), 2):
        if rng.random() < 0.5:
            objective.add_quadratic(i, j, rng.normal())
    cqm.set_objective(objective)
    for k, (terms, sense, rhs) in enumerate(constraints):
        cqm.add_constraint_from_iterable([(i, a) for i, a in terms.items()], sense, rhs=rhs, label=f"c{k}")
    higher = {
        members: float(rng.normal())
        for size in range(3, degree + 1)
        for members in itertools.combinations(range(n), size)
        if rng.random() < 0.3
    }
    return Program(cqm, "random", higher)


def cardinality() -> Program:
    return program(8, 0, (dict.fromkeys(range(8), 1.0), "==", 3))


def assignment() -> Program:
    rows = [(dict.fromkeys(range(3 * k, 3 * k + 3), 1.0), "==", 1.0) for k in range(3)]
    columns = [(dict.fromkeys(range(k, 9, 3), 1.0), "<=", 2.0) for k in range(3)]
    return program(9, 1, *rows, *columns)


def knapsack() -> Program:
    return program(8, 2, ({i: 1.0 + i for i in range(8)}, "<=", 14.0), ({0: 1.0, 5: -1.0}, ">=", 0.0))


def edges() -> Program:
    return program(8, 3, *[({i: 1.0, (i + 1) % 8: 1.0}, "<=", 1.0) for i in range(8)])


def polynomial() -> Program:
    return program(8, 4, degree=4)


class TestPrograms(LandscapeConformance):
    """The landscape suite on every kind of program."""

    def cases(self) -> Sequence[tuple[ProblemFamily, Instance]]:
        families = [Bits(build) for build in (cardinality, assignment, knapsack, edges, polynomial)]
        return [(family, family.instance()) for family in families]


class Unfaithful(Bits):
    """The objective is not the program's energy."""

    def evaluate(self, instance: Instance, values: np.ndarray) -> Evaluation:
        return Evaluation(float(np.abs(np.asarray(values) @ np.arange(1, instance.size + 1) - 11)))

    def landscape(self, instance: Instance) -> FlipLandscape:
        return FlipLandscape(self, instance)


class TestUnfaithful(LandscapeConformance):
    """The same where the family has to be asked for every state."""

    def cases(self) -> Sequence[tuple[ProblemFamily, Instance]]:
        family = Unfaithful(knapsack)
        return [(family, family.instance())]


@pytest.mark.parametrize("build", [polynomial, edges, assignment, cardinality])
def test_a_whole_block_is_the_whole_program(build: Build) -> None:
    """A block of all variables has the program's energies at feasible points, and groups or charges the others."""
    family = Bits(build)
    walk = family.landscape(family.instance())
    n = family.instance().size
    block = walk.block(walk.start(0), "random", n, np.random.default_rng(0))
    assert block is not None
    everything = np.array(list(itertools.product([0, 1], repeat=n)), dtype=np.int8)
    found = block.energies(everything[:, block.move])
    feasible = np.array([family._broken(x) == 0 for x in everything])
    if build is not assignment:
        # its "at most two of three" is charged to second order only
        assert np.allclose(found[feasible], family.program.energies(everything[feasible]))
    grouped = block.allowed(everything[:, block.move])
    assert not (feasible & ~grouped).any()
    if build is assignment:
        assert len(block.groups) == 3
    else:
        assert (found >= family.program.energies(everything) - 1e-9)[grouped].all()
    if build in (edges, cardinality):
        assert (found[~feasible] > found[feasible].min()).all()


def test_terms_of_a_block_are_those_of_the_rest_fixed() -> None:
    """Energies of a small block are the program's with all other bits as they are."""
    family = Bits(polynomial)
    walk = family.landscape(family.instance())
    state = walk.start(1)
    for kind in ("cluster", "impact", "random"):
        block = walk.block(state, kind, 4, np.random.default_rng(1))
        assert block is not None
        assert block.size == 4
        inside = np.array(list(itertools.product([0, 1], repeat=4)), dtype=np.int8)
        whole = np.tile(state.data, (16, 1))
        whole[:, block.move] = inside
        assert np.allclose(block.energies(inside), family.program.energies(whole))
    assert walk.block(state, "constraint", 4, np.random.default_rng(1)) is None


@pytest.mark.parametrize("build", [cardinality, knapsack, edges, polynomial])
def test_polish_ends_where_no_flip_or_swap_pays(build: Build) -> None:
    family = Bits(build)
    walk = family.landscape(family.instance())
    constrained = bool(family.program.cqm.constraints)
    for seed in range(5):
        state = walk.polish(walk.start(seed), 100_000).state
        near = [x for x in family.points if 0 < (x != state.data).sum() <= 1]
        if constrained:
            near += [x for x in family.points if (x != state.data).sum() == 2 and x.sum() == state.data.sum()]
        assert near
        assert family.program.energies(np.array(near)).min() >= state.cost - 1e-9


def test_broken_bits_are_repaired_and_said_to_be() -> None:
    family = Bits(cardinality)
    walk = family.landscape(family.instance())
    state = walk.start(0)
    block = walk.block(state, "random", 4, np.random.default_rng(0))
    assert block is not None
    step = walk.apply(state, block, 1 - block.current)
    broken = state.data.copy()
    broken[block.move] = 1 - block.current
    assert step.repaired == (broken.sum() != 3)
    assert step.repaired
    assert step.state.data.sum() == 3
