"""Baselines of programs without constraints: optima, bounds, budgets, targets, seeds."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import dimod
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets import registry
from hybrid_assets.problems.base import FamilyOptions, Program
from hybrid_assets.problems.graphs.maxcut import MaxCut
from hybrid_assets.problems.qubo import Qubo
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.problems.unconstrained import UnconstrainedFamily
from hybrid_assets.solvers.annealing import coupling_scale
from hybrid_assets.solvers.base import SolverResult, SolveTask
from hybrid_assets.solvers.cpsat import whole_coefficients
from hybrid_assets.solvers.search import bqm_of

SOLVERS = ("greedy", "cpsat", "annealing", "tabu")
SHIPPED = Path(__file__).parents[2] / "data" / "inbox"
SHARED = os.environ.get("HYBRID_INSTANCES")


def task_of(family: UnconstrainedFamily, file: SourceFile, target: float | None = None) -> SolveTask:
    instance = family.normalize(family.read(file)[0], FamilyOptions(), "task")
    return SolveTask(family, instance, target)


def written(family: UnconstrainedFamily, upper: np.ndarray, target: float | None = None) -> SolveTask:
    """A task from the upper triangle of a matrix, through the family's own reader."""
    rows = [f"{i + 1} {j + 1} {upper[i, j]!r}" for i, j in zip(*np.nonzero(upper), strict=True)]
    text = f"{len(upper)} {len(rows)}\n" + "\n".join(rows).replace("np.float64(", "").replace(")", "")
    return task_of(family, SourceFile("task.txt", text.encode(), "0" * 64), target)


def random_task(family: UnconstrainedFamily, n: int, density: float, seed: int, whole: bool = True) -> SolveTask:
    rng = np.random.default_rng(seed)
    values = rng.integers(-50, 51, (n, n)).astype(float) if whole else rng.normal(size=(n, n))
    upper = np.triu(values * (rng.random((n, n)) < density), int(family.name == "maxcut"))
    upper[0, 1] = 7.0
    return written(family, upper)


def optimum(task: SolveTask) -> float:
    """By enumeration."""
    n = task.instance.size
    bits = (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(np.int8)
    objectives = [task.family.evaluate(task.instance, x).objective for x in bits]
    return min(objectives) if task.instance.sense == "min" else max(objectives)


def solve(name: str, task: SolveTask, budget: float, seed: int = 0) -> SolverResult:
    return registry.solver(name).solve(task, budget, seed)


def coherent(task: SolveTask, result: SolverResult) -> None:
    assert result.values is not None
    assert result.objective == task.family.evaluate(task.instance, result.values).objective
    times, objectives = zip(*result.trajectory, strict=True)
    assert list(times) == sorted(times)
    assert objectives[-1] == result.objective
    assert list(objectives) == sorted(objectives, reverse=task.instance.sense == "min")
    if result.bound is not None:
        gap = result.objective - result.bound
        assert (gap if task.instance.sense == "min" else -gap) >= -1e-9


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("family", [Qubo(), MaxCut()], ids=["qubo", "maxcut"])
@pytest.mark.parametrize("whole", [True, False], ids=["integers", "reals"])
def test_small_optima_are_found(name: str, family: UnconstrainedFamily, whole: bool) -> None:
    for n, seed in ((2, 0), (5, 1), (11, 2)):
        task = random_task(family, n, 0.7, seed, whole)
        result = solve(name, task, 0.3 if name != "cpsat" else 10.0)
        coherent(task, result)
        assert result.objective == pytest.approx(optimum(task), rel=1e-12)
        assert (result.status == "optimal") == (name == "cpsat")


def test_one_variable_and_no_couplings() -> None:
    for name in SOLVERS:
        task = written(Qubo(), np.diag([-2.0, 3.0, 0.0]))
        assert solve(name, task, 0.1).objective == -2
        assert solve(name, written(Qubo(), np.array([[-1.5]])), 0.1).objective == -1.5


def test_a_maximized_qubo_has_its_bound_above() -> None:
    text = "1\n4 4\n1 1 3\n1 2 -4\n2 2 5\n3 4 2\n"
    task = task_of(Qubo(), SourceFile("bqp.txt", text.encode(), "0" * 64))
    result = solve("cpsat", task, 10.0)
    assert (result.objective, result.bound, result.status) == (9.0, 9.0, "optimal")


@pytest.mark.parametrize("whole", [True, False], ids=["integers", "reals"])
def test_an_open_bound_is_valid(whole: bool) -> None:
    task = random_task(MaxCut(), 70, 0.5, 3, whole)
    exact = solve("cpsat", task, 1.0)
    coherent(task, exact)
    better = solve("annealing", task, 1.0)
    assert exact.status == "feasible"
    assert exact.bound is not None
    assert better.objective is not None
    assert exact.bound >= better.objective >= (exact.objective or 0)
    # better than counting every positive edge
    assert exact.bound < task.instance.arrays["values"].clip(min=0).sum()


def test_a_model_too_large_to_build_still_has_a_bound_and_a_start() -> None:
    task = random_task(Qubo(), 500, 0.6, 4)
    result = solve("cpsat", task, 0.2)
    coherent(task, result)
    assert result.status == "feasible"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False).filter(bool), min_size=1, max_size=30))
def test_whole_coefficients_are_within_their_stated_error(values: list[float]) -> None:
    numbers = np.array(values)
    whole, scale, error = whole_coefficients(numbers)
    assert np.abs(whole).sum() <= 2.0**53
    for mask in np.random.default_rng(0).random((20, len(values))) < 0.5:
        assert abs(numbers[mask].sum() - whole[mask].sum() / scale) <= error + 1e-12 * np.abs(numbers).sum()
    if np.array_equal(np.round(numbers, 3), numbers) and np.abs(numbers).sum() < 1e6:
        assert error == 0


@pytest.mark.parametrize("name", SOLVERS)
def test_the_budget_bounds_the_time(name: str) -> None:
    task = random_task(MaxCut(), 300, 0.1, 5)
    result = solve(name, task, 0.5)
    coherent(task, result)
    # far below any default of the libraries (tabu: 20 s), with room for a busy machine
    assert result.seconds < 2.5
    if name in ("annealing", "tabu"):
        assert result.seconds > 0.4


@pytest.mark.parametrize("name", SOLVERS)
def test_a_proven_target_ends_the_search(name: str) -> None:
    task = random_task(Qubo(), 40, 0.3, 6)
    proven = solve("cpsat", task, 30.0)
    assert proven.status == "optimal"
    aimed = SolveTask(task.family, task.instance, proven.objective)
    result = solve(name, aimed, 30.0)
    assert result.objective == proven.objective
    assert result.seconds < 10


def test_seeds_repeat_and_matter() -> None:
    task = random_task(MaxCut(), 120, 0.5, 7)
    first, again = (solve("greedy", task, 30.0, seed=1) for _ in range(2))
    assert first.values is not None
    assert again.values is not None
    assert (first.values == again.values).all()
    assert first.evaluations == again.evaluations
    assert solve("greedy", task, 30.0, seed=2).evaluations != first.evaluations


def test_heuristics_beat_descent_where_descent_is_stuck() -> None:
    """A 20 × 20 torus of ±1 couplings, on which restarted descent stays far from the ground state."""
    rng, side = np.random.default_rng(8), 20
    upper = np.zeros((side * side, side * side))
    for r in range(side):
        for c in range(side):
            for other in (r * side + (c + 1) % side, (r + 1) % side * side + c):
                a, b = sorted((r * side + c, other))
                upper[a, b] = rng.choice([-1.0, 1.0])
    task = written(MaxCut(), upper)
    greedy, annealing, tabu = (solve(n, task, 1.0).objective or 0 for n in ("greedy", "annealing", "tabu"))
    assert annealing > greedy
    assert tabu > greedy


def test_the_program_is_read_whatever_the_order_of_its_variables() -> None:
    cqm = dimod.ConstrainedQuadraticModel()
    cqm.add_variables("BINARY", range(4))
    cqm.set_objective(dimod.BinaryQuadraticModel({3: 1.5, 1: -2.0}, {(3, 0): 4.0, (1, 3): -1.0}, 0.25, "BINARY"))
    bqm = bqm_of(Program(cqm, "test"))
    assert list(bqm.variables) == [0, 1, 2, 3]
    for x in np.random.default_rng(0).integers(0, 2, (16, 4)):
        assert bqm.energy(x) == cqm.objective.energy((x, range(4)))


def test_a_program_with_constraints_is_refused() -> None:
    cqm = dimod.ConstrainedQuadraticModel()
    cqm.add_variables("BINARY", range(2))
    cqm.add_constraint([(0, 1), (1, 1)], "==", 1)
    with pytest.raises(ValueError, match="without constraints"):
        bqm_of(Program(cqm, "test"))


def test_the_schedule_follows_the_couplings() -> None:
    unit = dimod.BinaryQuadraticModel({}, {(0, 1): 1.0, (1, 2): -1.0}, 0, "SPIN")
    assert coupling_scale(unit) == 1
    unit.scale(250)
    assert coupling_scale(unit) == pytest.approx(250)
    assert coupling_scale(dimod.BinaryQuadraticModel({0: 3.0, 1: 0.0}, {}, 0, "SPIN")) == 3


@pytest.mark.parametrize(
    "path", sorted(SHIPPED.glob("maxcut/*.yaml")) + sorted(SHIPPED.glob("qubo/*.yaml")), ids=lambda p: p.stem
)
def test_best_known_values_that_ship_are_what_cpsat_proves(path: Path) -> None:
    (data,) = (p for p in path.parent.glob(path.stem + ".*") if p != path)
    family: UnconstrainedFamily = MaxCut() if path.parent.name == "maxcut" else Qubo()
    result = solve("cpsat", task_of(family, SourceFile.open(data)), 60.0)
    assert result.status == "optimal"
    assert result.objective == pytest.approx(yaml.safe_load(path.read_text())["best_known"], abs=1e-9)


def smoke_rows() -> list[dict[str, str]]:
    if not SHARED:
        return []
    with (Path(SHARED) / "MANIFEST.tsv").open() as stored:
        rows = [r for r in csv.DictReader(stored, delimiter="\t") if r["family"] in ("qubo", "maxcut")]
    # long-range Ising chains need flips of whole domains: 5 s of single flips end up to 1 % above their ground state
    easy = [r for r in rows if not r["instance"].startswith("ising")]
    return [r for r in easy if r["proven_optimal"] == "yes" and int(r["n"]) <= 250][::12]


@pytest.mark.parametrize("row", smoke_rows(), ids=lambda row: row["instance"])
def test_annealing_reaches_published_optima(row: dict[str, str]) -> None:
    family: UnconstrainedFamily = MaxCut() if row["family"] == "maxcut" else Qubo()
    known = float(row["best_known"])
    task = task_of(family, SourceFile.open(Path(SHARED or "") / row["file"]), known)
    assert solve("annealing", task, 5.0).objective == pytest.approx(known)
