"""Every registered solver passes the conformance suite, and solvers broken on purpose fail it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from hybrid_assets import registry
from hybrid_assets.problems.assignment.qap import Qap
from hybrid_assets.problems.base import ProblemFamily
from hybrid_assets.problems.conformance import source
from hybrid_assets.problems.graphs.maxcut import MaxCut
from hybrid_assets.problems.graphs.mis import Mis
from hybrid_assets.problems.packing.binpacking import BinPacking
from hybrid_assets.problems.packing.knapsack import Knapsack
from hybrid_assets.problems.packing.marketsplit import MarketSplit
from hybrid_assets.problems.portfolio import Portfolio, PortfolioOptions
from hybrid_assets.problems.programs.program import MathematicalProgram
from hybrid_assets.problems.qubo import Qubo
from hybrid_assets.problems.routing.cvrp import Cvrp
from hybrid_assets.problems.routing.tsp import Tsp
from hybrid_assets.problems.sequences.labs import Labs
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.conformance import SolverConformance
from hybrid_assets.solvers.swap_greedy import SwapGreedy
from tests.conformance.test_families import port
from tests.unit import program_examples


def task(family: ProblemFamily, content: bytes, **options: object) -> SolveTask:
    raw = family.read(source(content))[0]
    instance = family.normalize(raw, family.options.model_validate(options), "task")
    return SolveTask(family, instance)


def portfolios() -> list[SolveTask]:
    sectors = {str(k): "odd" if k % 2 else "even" for k in range(1, 11)}
    options = [
        {"cardinality": 4, "risk_aversion": 0.9},
        {"cardinality": 3, "risk_aversion": 0.97, "min_weight": 0.1, "max_weight": 0.5},
        {"cardinality": 5, "risk_aversion": 0.0, "max_weight": 0.4},
        {"cardinality": 3, "risk_aversion": 1.0, "min_weight": 0.0},
        {"cardinality": 1, "risk_aversion": 0.5},
        {"cardinality": 10},
        {"cardinality": 4, "risk_aversion": 0.8, "sectors": sectors, "sector_limits": {"odd": 0.3}},
        {"cardinality": 3, "risk_aversion": 0.9, "previous": {"2": 0.5, "7": 0.5}, "turnover": 0.8},
    ]
    return [task(Portfolio(), port(10, seed), **o) for seed, o in enumerate(options)]


def graphs() -> list[SolveTask]:
    return [
        task(MaxCut(), b"6 8\n1 2 1\n1 3 2\n2 3 1\n2 4 1\n3 5 3\n4 5 1\n5 6 -2\n1 6 1\n"),
        task(Qubo(), b"6 8\n1 1 -3\n1 2 2\n2 3 -1\n3 4 4\n4 5 -2\n5 5 1\n5 6 0.25\n6 6 -0.5\n"),
    ]


def tours() -> list[SolveTask]:
    oneway = b"TYPE : ATSP\nDIMENSION : 4\nEDGE_WEIGHT_TYPE : EXPLICIT\nEDGE_WEIGHT_FORMAT : FULL_MATRIX\n"
    places = b"TYPE : TSP\nDIMENSION : 4\nEDGE_WEIGHT_TYPE : EUC_2D\nNODE_COORD_SECTION\n"
    return [
        task(Tsp(), places + b"1 0 0\n2 90 95\n3 5 80\n4 70 10\nEOF\n"),
        task(Tsp(), oneway + b"EDGE_WEIGHT_SECTION\n0 7 2 9\n3 0 8 1\n6 4.5 0 7\n2 9 5 0\nEOF\n"),
    ]


def fleets() -> list[SolveTask]:
    head = b"TYPE : VRPTW\nDIMENSION : 5\nCAPACITY : 10\nEDGE_WEIGHT_TYPE : EUC_2D\n"
    places = b"NODE_COORD_SECTION\n1 50 50\n2 10 80\n3 20 90\n4 90 15\n5 70 20\n"
    demands = b"DEMAND_SECTION\n1 0\n2 4\n3 5\n4 3\n5 6\n"
    windows = b"TIME_WINDOW_SECTION\n1 0 400\n2 40 90\n3 0 75\n4 50 300\n5 0 120\n"
    return [
        task(Cvrp(), head + places + demands, vehicles=2),
        task(Cvrp(), head + places + demands + windows),
    ]


def knapsacks() -> list[SolveTask]:
    return [
        task(Knapsack(), b"7 30\n8 4\n10 5\n15.5 8\n4 3\n9 2.5\n7 12\n20 31\n"),
        task(Knapsack(), b"6 100\n" + b"3 2\n" * 6),
    ]


def hard_knapsacks() -> list[SolveTask]:
    return [
        *knapsacks(),
        task(Knapsack(), b"1\n5 2 0\n6 5 8 9 6\n2 3 4 5 1\n5.5 1 2 2 3\n9 8\n"),
        task(Knapsack(), b"q\n5\n4 0 7 3 2\n1 0 5 0\n2 0 8\n0 3\n6\n\n0\n9\n3 2 4 5 1\n"),
    ]


def bins() -> list[SolveTask]:
    return [task(BinPacking(), b"4\n10\n6\n6\n4\n4\n"), task(BinPacking(), b"5\n12\n5\n5\n4\n4\n3\n")]


def splits() -> list[SolveTask]:
    # the second has no split: every sum of its first row is even
    return [
        task(MarketSplit(), b"2 8\n3 5 2 7 4 1 6 2 15\n2 2 6 1 3 5 4 1 12\n"),
        task(MarketSplit(), b"2 6\n2 4 6 2 8 4 11\n1 3 5 2 4 7 9\n"),
    ]


def programs() -> list[SolveTask]:
    return [task(MathematicalProgram(), content) for content in program_examples.ALL]


class PortfolioSuite(SolverConformance):
    name: str

    def solver(self) -> ClassicalSolver:
        return registry.solver(self.name)

    def tasks(self) -> Sequence[SolveTask]:
        return portfolios()


class GraphSuite(PortfolioSuite):
    def tasks(self) -> Sequence[SolveTask]:
        return graphs()


class TestScip(PortfolioSuite):
    name, exact, budget = "scip", True, 120.0


class TestSwapGreedy(PortfolioSuite):
    name = "swap-greedy"


class TestSwapTabu(PortfolioSuite):
    name = "swap-tabu"


class TestSwapAnnealing(PortfolioSuite):
    name = "swap-annealing"


class TestCpSat(GraphSuite):
    name, exact, budget = "cpsat", True, 120.0


class TestHighs(GraphSuite):
    name, exact, budget = "highs", True, 20.0

    def tasks(self) -> Sequence[SolveTask]:
        return graphs() + programs()


class TestScipProgram(GraphSuite):
    name, exact, budget = "scip-program", True, 20.0

    def tasks(self) -> Sequence[SolveTask]:
        return graphs() + programs()


class TestCpSatProgram(GraphSuite):
    name, exact, budget = "cpsat-program", True, 20.0

    def tasks(self) -> Sequence[SolveTask]:
        return graphs() + programs()


class TestAnnealing(GraphSuite):
    name = "annealing"


class TestTabu(GraphSuite):
    name = "tabu"


class TestGreedy(GraphSuite):
    name = "greedy"


def assignments() -> list[SolveTask]:
    return [
        task(Qap(), b"3\n0 1 2\n3 0 4\n5 6 0\n7 1 2\n3 8 4\n5 6 9\n"),
        task(Qap(), b"2\n0 1.5\n0.5 0\n3 1\n2 1\n"),
    ]


class TestRobustTabu(PortfolioSuite):
    name = "robust-tabu"

    def tasks(self) -> Sequence[SolveTask]:
        return assignments()


class TestQapBranch(PortfolioSuite):
    name, exact, budget = "qap-branch", True, 120.0

    def tasks(self) -> Sequence[SolveTask]:
        return assignments()


def independent_sets() -> list[SolveTask]:
    return [
        task(Mis(), b"p edge 8 9\ne 1 2\ne 3 2\ne 3 4\ne 1 4\ne 5 1\ne 5 6\ne 2 6\ne 7 6\ne 7 5\n"),
        task(Mis(), b"p col 5 6\nn 1 2.25\nn 2 7\nn 5 0.5\ne 1 2\ne 2 3\ne 3 4\ne 4 5\ne 5 1\ne 1 3\n"),
        task(Mis(), b"p edge 3 0\n"),
    ]


class TestMisSearch(PortfolioSuite):
    name = "mis-search"

    def tasks(self) -> Sequence[SolveTask]:
        return independent_sets()


class TestMisCliques(PortfolioSuite):
    name, exact, budget = "mis-cliques", True, 120.0

    def tasks(self) -> Sequence[SolveTask]:
        return independent_sets()


def job_shops() -> list[SolveTask]:
    return [
        task(registry.family("jobshop"), b"2 1\n0 2\n0 1\n"),
        task(registry.family("jobshop"), b"2 2\n0 2 1 2\n1 1 0 2\n", horizon_slack=0.0),
        task(registry.family("jobshop"), b"3 1\n0 1\n0 0\n0 1\n", horizon_slack=0.0),
    ]


def schedules() -> list[SolveTask]:
    project = b"4 1\n3\n0 0 2 2 3\n2 2 1 4\n1 2 1 4\n0 0 0\n"
    return [*job_shops(), task(registry.family("rcpsp"), project)]


class TestCpSatSchedule(PortfolioSuite):
    name, exact, budget = "cpsat-schedule", True, 120.0

    def tasks(self) -> Sequence[SolveTask]:
        return schedules()


class TestDispatching(PortfolioSuite):
    name, budget = "dispatching", 0.5

    def tasks(self) -> Sequence[SolveTask]:
        return schedules()


class TestScheduleTabu(PortfolioSuite):
    name, budget = "schedule-tabu", 0.5

    def tasks(self) -> Sequence[SolveTask]:
        return job_shops()


def sequences() -> list[SolveTask]:
    return [task(Labs(), text) for text in (b"labs 10", b"labs 7", b"labs 2")]


class TestLabsTabu(PortfolioSuite):
    name = "labs-tabu"

    def tasks(self) -> Sequence[SolveTask]:
        return sequences()


class TestLabsBranch(PortfolioSuite):
    name, exact, budget = "labs-branch", True, 120.0

    def tasks(self) -> Sequence[SolveTask]:
        return sequences()


class TestTourDescent(PortfolioSuite):
    name = "tour-descent"

    def tasks(self) -> Sequence[SolveTask]:
        return tours()


class TestCircuit(PortfolioSuite):
    name, exact, budget = "cpsat-circuit", True, 20.0

    def tasks(self) -> Sequence[SolveTask]:
        return tours()


class TestRuinRecreate(PortfolioSuite):
    name = "ruin-recreate"

    def tasks(self) -> Sequence[SolveTask]:
        return fleets()


class TestPyVrp(PortfolioSuite):
    name = "pyvrp"

    def tasks(self) -> Sequence[SolveTask]:
        return tours() + fleets()


class TestKnapsackDp(PortfolioSuite):
    name, exact, budget = "knapsack-dp", True, 20.0

    def tasks(self) -> Sequence[SolveTask]:
        return knapsacks()


class TestKnapsackSearch(PortfolioSuite):
    name = "knapsack-search"

    def tasks(self) -> Sequence[SolveTask]:
        return hard_knapsacks()


class TestArcFlow(PortfolioSuite):
    name, exact, budget = "arc-flow", True, 20.0

    def tasks(self) -> Sequence[SolveTask]:
        return bins()


class TestFitDecreasing(PortfolioSuite):
    name = "fit-decreasing"

    def tasks(self) -> Sequence[SolveTask]:
        return bins()


class TestSplitHalves(PortfolioSuite):
    name, exact, budget = "split-halves", True, 20.0

    def tasks(self) -> Sequence[SolveTask]:
        return splits()


class TestSplitHighs(PortfolioSuite):
    name, exact, budget = "split-highs", True, 20.0

    def tasks(self) -> Sequence[SolveTask]:
        return splits()


class TestSplitAnnealing(PortfolioSuite):
    name = "split-annealing"

    def tasks(self) -> Sequence[SolveTask]:
        return splits()


def test_every_solver_of_the_project_is_covered() -> None:
    covered = {
        c.name for p in (PortfolioSuite, GraphSuite) for c in p.__subclasses__() if c.__name__.startswith("Test")
    }
    mine = {n for n in registry.names("solvers") if type(registry.solver(n)).__module__.startswith("hybrid_assets.")}
    assert mine == covered


class _Boaster(SwapGreedy):
    """Calls a greedy answer optimal."""

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        return replace(super().solve(task, budget_seconds, seed), status="optimal")


class _Dreamer(SwapGreedy):
    """Reports a better objective than its weights have."""

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        result = super().solve(task, budget_seconds, seed)
        return replace(result, objective=(result.objective or 0.0) - 1e-3)


class _Scaler(SwapGreedy):
    """Scales the instance in place."""

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        task.instance.arrays["covariance"][:] *= 2
        return super().solve(task, budget_seconds, seed)


@pytest.mark.parametrize("broken", [_Boaster, _Dreamer, _Scaler])
def test_broken_solvers_fail(broken: type[SwapGreedy]) -> None:
    class Suite(TestSwapGreedy):
        def solver(self) -> ClassicalSolver:
            return broken()

    with pytest.raises(AssertionError):
        Suite().test_results_hold_against_enumeration()


def test_options_reach_the_settings() -> None:
    rules = portfolios()[1].instance.settings
    assert PortfolioOptions(**rules).model_dump(exclude_none=True) == rules
