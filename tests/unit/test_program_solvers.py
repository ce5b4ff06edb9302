"""The generic solvers on programs, against enumeration: products, products in constraints, higher terms, claims."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import dimod
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from hybrid_assets import registry
from hybrid_assets.problems.base import (
    Evaluation,
    FamilyOptions,
    Instance,
    ProblemFamily,
    Program,
    Reference,
    Solution,
)
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.cpsat import CpSat
from hybrid_assets.solvers.cpsat_program import CpSatProgram, whole_row
from hybrid_assets.solvers.highs import HighsProgram
from hybrid_assets.solvers.linearized import Linearized, Row, scale_of
from hybrid_assets.solvers.program_search import ProgramSearch
from hybrid_assets.solvers.scip_program import ScipProgram
from resources.failures import InputError

SHARED = os.environ.get("HYBRID_INSTANCES")
SOLVERS: tuple[type[ClassicalSolver], ...] = (HighsProgram, ScipProgram, CpSatProgram)


class Bare(ProblemFamily):
    """A family that is nothing but one program; values are its bits."""

    name, version, title, options = "bare", "1", "a program", FamilyOptions
    exact_program: ClassVar[bool] = True

    def __init__(self, program: Program, sense: str = "min", warm: bool = False) -> None:
        self.program, self.sense, self.warm = program, sense, warm

    def task(self) -> SolveTask:
        n = len(self.program.cqm.variables)
        return SolveTask(self, Instance(self.name, "bare", n, self.sense, {}, labels=tuple(map(str, range(n)))))  # type: ignore[arg-type]

    def recognises(self, source: SourceFile) -> bool:
        return False

    def read(self, source: SourceFile) -> Sequence[Any]:
        return []

    def normalize(self, raw: Any, options: FamilyOptions, name: str) -> Instance:
        raise NotImplementedError

    def model(self, instance: Instance) -> Program:
        return self.program

    def evaluate(self, instance: Instance, values: np.ndarray) -> Evaluation:
        bits = np.asarray(values).astype(np.int8)
        energy = float(self.program.energies(bits[None, :])[0])
        broken = {
            str(d.label): d.violation
            for d in self.program.cqm.iter_constraint_data(dict(enumerate(bits.tolist())))
            if d.violation > 1e-9
        }
        return Evaluation(-energy if self.sense == "max" else energy, broken)

    def complete(self, instance: Instance, assignment: np.ndarray) -> Solution:
        return Solution(assignment, self.evaluate(instance, assignment))

    def assignment(self, instance: Instance, values: np.ndarray) -> np.ndarray:
        return np.asarray(values).astype(np.int8)

    def reference(self, instance: Instance, program: Program, seed: int) -> Reference:
        feasible = self.feasible() if self.warm else []
        if not len(feasible):
            raise InputError("bare", "reference", "none", "none")
        return Reference(feasible[seed % len(feasible)], np.zeros(instance.size), "any feasible point")

    def random_assignments(
        self, instance: Instance, count: int, seed: int, free: np.ndarray | None = None, base: np.ndarray | None = None
    ) -> np.ndarray:
        raise NotImplementedError

    def baselines(self, instance: Instance) -> Sequence[str]:
        return ("highs",)

    def constraints(self, instance: Instance) -> Mapping[str, Any]:
        return {}

    def plot_instance(self, instance: Instance) -> Figure:
        return Figure()

    def plot_solution(self, instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
        return Figure()

    def feasible(self) -> np.ndarray:
        """All feasible bits, by enumeration."""
        n = len(self.program.cqm.variables)
        bits = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(np.int8)
        return np.array([b for b in bits if self.evaluate(self.task().instance, b).feasible], dtype=np.int8)


def random_program(seed: int, whole: bool = True) -> Program:
    """7 binaries, a quadratic objective, cubic and quartic terms, linear and quadratic constraints."""
    rng = np.random.default_rng(seed)
    n = 7

    def number() -> float:
        return float(rng.integers(-9, 10)) if whole else float(np.round(rng.normal(scale=3), 12))

    cqm = dimod.ConstrainedQuadraticModel()
    x = [cqm.add_variable("BINARY", i) for i in range(n)]
    assert x == list(range(n))
    objective = dimod.QuadraticModel()
    for i in range(n):
        objective.add_variable("BINARY", i)
        objective.set_linear(i, number())
    for i, j in ((0, 1), (1, 2), (0, 5), (3, 6), (2, 4)):
        objective.set_quadratic(i, j, number())
    objective.offset = number()
    cqm.set_objective(objective)
    for k, sense in enumerate(("<=", ">=")):
        terms: list[tuple[Any, ...]] = [(i, float(rng.integers(-4, 5))) for i in range(n)]
        cqm.add_constraint(terms, sense, rhs=float(rng.integers(-3, 4)), label=f"linear {k}")
    cqm.add_constraint([(0, 1, 2.0), (2, 3, -3.0), (4, 1.0), (6, 1.0)], "<=", rhs=1.0, label="quadratic")
    cqm.add_constraint([(1, 1.0), (3, 1.0), (5, 1.0), (-1,)], "==", rhs=1.0, label="equation")
    return Program(cqm, "random", {(0, 1, 2): number(), (1, 3, 4, 6): number()})


@pytest.mark.parametrize("kind", SOLVERS)
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("sense", ["min", "max"])
@pytest.mark.parametrize("seed", [0, 2, 4, 6, 7])
def test_the_optimum_is_found_and_proven(kind: type[ClassicalSolver], whole: bool, sense: str, seed: int) -> None:
    family = Bare(random_program(seed, whole), sense, warm=seed % 2 == 0)
    feasible = family.feasible()
    result = kind().solve(family.task(), 60.0, seed)
    if not len(feasible):
        assert (result.status, result.values, result.bound) == ("infeasible", None, None)
        return
    best = float(family.program.energies(feasible).min()) * (-1 if sense == "max" else 1)
    assert result.objective == pytest.approx(best, abs=1e-9)
    # rounded coefficients leave CP-SAT a bound that is honest and not tight
    assert result.status == "optimal" or (kind is CpSatProgram and not whole)
    assert result.bound is not None
    slack = 1e-6 if result.status == "optimal" else 1e-3
    assert (result.bound - best) * (1 if sense == "min" else -1) <= 1e-9
    assert result.bound == pytest.approx(best, abs=slack)
    assert result.trajectory[-1][1] == result.objective


def two_of_three(total: float) -> Program:
    """Three binaries that must add up to ``total``."""
    cqm = dimod.ConstrainedQuadraticModel()
    for i in range(3):
        cqm.add_variable("BINARY", i)
    cqm.set_objective(dimod.BinaryQuadraticModel({0: 1.0, 1: 2.0, 2: 3.0}, {}, "BINARY"))
    cqm.add_constraint([(0, 2.0), (1, 2.0), (2, 2.0)], "==", rhs=total, label="sum")
    return Program(cqm, "three")


@pytest.mark.parametrize("kind", SOLVERS)
def test_infeasibility_is_proven(kind: type[ClassicalSolver]) -> None:
    assert kind().solve(Bare(two_of_three(4.0)).task(), 30.0, 0).objective == 3.0
    result = kind().solve(Bare(two_of_three(3.0)).task(), 30.0, 0)
    assert (result.status, result.values, result.bound) == ("infeasible", None, None)


@pytest.mark.parametrize("kind", SOLVERS)
def test_a_proxy_s_proofs_are_not_the_family_s(kind: type[ClassicalSolver]) -> None:
    class Proxy(Bare):
        exact_program = False

    result = kind().solve(Proxy(two_of_three(4.0)).task(), 30.0, 0)
    assert (result.status, result.objective, result.bound) == ("feasible", 3.0, None)
    assert kind().solve(Proxy(two_of_three(3.0)).task(), 30.0, 0).status == "no solution"


@pytest.mark.parametrize("kind", SOLVERS)
def test_a_constraint_without_variables(kind: type[ClassicalSolver]) -> None:
    for rhs, status in ((0.0, "optimal"), (-1.0, "infeasible")):
        program = two_of_three(4.0)
        program.cqm.add_constraint([(0, 0.0)], "<=", rhs=rhs, label="nothing")
        assert kind().solve(Bare(program).task(), 30.0, 0).status == status


@pytest.mark.parametrize("kind", SOLVERS)
def test_it_starts_from_the_reference(kind: type[ClassicalSolver]) -> None:
    family = Bare(two_of_three(4.0), warm=True)
    first = family.task().family.complete(family.task().instance, family.feasible()[2])
    result = kind().solve(family.task(), 30.0, 2)
    assert result.trajectory[0][1] == first.evaluation.objective == 5.0
    assert result.objective == 3.0


def test_supported_are_families_whose_program_stays() -> None:
    for name in ("highs", "scip-program", "cpsat-program"):
        solver = registry.solver(name)
        assert solver.supports("qubo")
        assert not solver.supports("portfolio")
        assert not solver.supports("no such family")


def test_products_are_held_where_the_objective_pulls() -> None:
    linear = Linearized.of(random_program(0))
    for k in range(len(linear.products)):
        pulled = linear.cost[linear.binaries + k]
        constrained = linear.products[k] in ((0, 1), (2, 3))
        assert linear.from_below[k] == (pulled > 0 or constrained)
        assert linear.from_above[k] == (pulled < 0 or constrained)


@given(st.integers(0, 10_000), st.lists(st.integers(0, 1), min_size=7, max_size=7))
@settings(max_examples=30, deadline=None)
def test_the_linear_form_has_the_program_s_values(seed: int, bits: list[int]) -> None:
    program = random_program(seed, whole=seed % 2 == 0)
    linear = Linearized.of(program)
    point = linear.lifted(np.array(bits))
    energy = float(program.energies(np.array([bits], dtype=np.int8))[0])
    assert linear.offset + linear.cost @ point == pytest.approx(energy, abs=1e-9)
    assert linear.floor <= energy + 1e-9
    for row, data in zip(linear.rows, program.cqm.iter_constraint_data(dict(enumerate(bits))), strict=True):
        activity = float(row.coefficients @ point[row.columns])
        assert max(row.low - activity, activity - row.high, 0.0) == pytest.approx(max(data.violation, 0.0), abs=1e-9)
    assert scale_of(linear) == 1.0 or 512 < scale_of(linear) * np.abs(linear.cost).max() <= 1024


@pytest.mark.parametrize(
    ("coefficients", "low", "high", "expected"),
    [
        ([2.0, -3.0], -np.inf, 2.5, ([2, -3], None, 2, True)),
        ([0.25, 1.5], 0.3, np.inf, ([25, 150], 30, None, True)),
        ([0.1, 0.2], 0.30000000000000004, 0.30000000000000004, ([1, 2], 3, 3, True)),
    ],
)
def test_rows_over_whole_numbers(
    coefficients: list[float], low: float, high: float, expected: tuple[list[int], int | None, int | None, bool]
) -> None:
    whole, *rest = whole_row(Row("", np.arange(2), np.array(coefficients), low, high))
    assert (whole.tolist(), *rest) == expected


def test_rounded_rows_claim_nothing() -> None:
    *_, exact = whole_row(Row("", np.arange(2), np.array([1 / 3, np.pi]), -np.inf, 3.0))
    assert not exact
    program = two_of_three(4.0)
    program.cqm.add_constraint([(0, np.pi), (1, 1 / 3)], "<=", rhs=1.0, label="odd")
    result: SolverResult = CpSatProgram().solve(Bare(program).task(), 30.0, 0)
    assert (result.status, result.objective) == ("feasible", 5.0)
    assert result.bound == 0.0


@pytest.mark.parametrize("kind", [CpSat, CpSatProgram])
def test_cpsat_s_bound_counts_only_with_a_status(kind: type[ClassicalSolver], monkeypatch: pytest.MonkeyPatch) -> None:
    from ortools.sat.python import cp_model

    solve = cp_model.CpSolver.solve

    def stopped(self: Any, *args: Any) -> Any:
        self.parameters.max_time_in_seconds = 1e-9
        status = solve(self, *args)
        assert (status, self.best_objective_bound) == (cp_model.UNKNOWN, 0.0)
        return status

    monkeypatch.setattr(cp_model.CpSolver, "solve", stopped)
    rng = np.random.default_rng(0)
    lines = [f"{i} {j} {rng.integers(-50, 51) or 1}" for i in range(1, 41) for j in range(i, 41)]
    family = registry.family("qubo")
    text = f"# qubo\n40 {len(lines)}\n" + "\n".join(lines) + "\n"
    raw = family.read(SourceFile("q", text.encode(), "0"))[0]
    result = kind().solve(SolveTask(family, family.normalize(raw, family.options(), "q")), 60.0, 0)
    assert result.status == "feasible"
    assert result.objective is not None
    assert result.bound is not None
    assert result.bound < result.objective < 0


@pytest.mark.parametrize("kind", SOLVERS)
def test_a_model_that_takes_too_long_to_build_leaves_the_start(
    kind: type[ClassicalSolver], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProgramSearch, "late", True)
    family = Bare(random_program(1), warm=True)
    result = kind().solve(family.task(), 60.0, 0)
    assert result.status == "feasible"
    assert len(result.trajectory) == 1
    assert result.bound == Linearized.of(family.program).floor


@pytest.mark.skipif(SHARED is None, reason="HYBRID_INSTANCES is not set")
@pytest.mark.parametrize("name", ["highs", "scip-program", "cpsat-program"])
def test_recorded_optima_are_proven(name: str) -> None:
    assert SHARED is not None
    family = registry.family("knapsack")
    recorded = (3800, 8706.1, 4015, 6120, 12400, 10618, 16537)
    raws = family.read(SourceFile.open(Path(SHARED) / "packing" / "mknap" / "mknap1.txt"))
    for raw, best in zip(raws, recorded, strict=True):
        result = registry.solver(name).solve(SolveTask(family, family.normalize(raw, family.options(), "m")), 120.0, 0)
        assert (result.status, result.objective) == ("optimal", pytest.approx(best, rel=1e-9))
