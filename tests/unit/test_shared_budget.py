"""One budget for everything: how it is split, who is accepted, what ends it; and a tiny run of the benchmark on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import quality
from benchmarks.quality_instances import Entry, _palubeckis
from benchmarks.quality_runs import Run
from benchmarks.quality_tables import Subject
from hybrid_assets.problems.base import Instance, ProblemFamily
from hybrid_assets.proposals import shared_budget
from hybrid_assets.proposals.engine import Budget, Search, search
from hybrid_assets.proposals.shared_budget import Shared, share
from hybrid_assets.solvers.base import SolverResult, SolveTask, Status
from resources.envelope import EvidenceClass
from resources.failures import InfeasibleError
from tests.conformance.test_landscapes import entries, read

GRAPH = entries(30, 70, 1, [1, -1])


@dataclass
class Clock:
    """Stands still unless somebody spends."""

    now: float = 100.0

    def perf_counter(self) -> float:
        return self.now


@dataclass
class Stub:
    """A solver that spends a share of what it is granted and answers a given objective after a given time."""

    name: str
    clock: Clock
    values: np.ndarray | None
    after: float = 0.5
    spends: float = 1.0
    status: Status = "feasible"
    asked: list[tuple[float, int]] = field(default_factory=list)

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        self.asked.append((budget_seconds, seed))
        spent = self.spends * budget_seconds
        self.clock.now += spent
        found = None if self.values is None else task.family.evaluate(task.instance, self.values).objective
        bound = found if self.status == "optimal" else None
        steps = () if found is None else ((self.after, found),)
        return SolverResult(self.name, "1", self.status, self.values, found, bound, spent, steps, seed)


Arranged = Callable[..., tuple[ProblemFamily, Instance, Clock, list[Budget]]]


@pytest.fixture
def arranged(monkeypatch: pytest.MonkeyPatch) -> Arranged:
    """A family whose baselines are stubs, a clock that only they move, and the budgets that proposals were given."""

    def arrange(clock: Clock, *stubs: Stub, family: str = "maxcut", text: str = GRAPH):  # type: ignore[no-untyped-def]
        found, instance = read(family, text)
        solvers, given = {stub.name: stub for stub in stubs}, list[Budget]()

        def few(landscape, proposer, budget, *rest) -> Search:  # type: ignore[no-untyped-def]
            given.append(budget)
            return search(landscape, proposer, replace(budget, seconds=np.inf, trips=20), *rest)

        monkeypatch.setattr(type(found), "baselines", lambda self, instance: list(solvers))
        monkeypatch.setattr(shared_budget.registry, "solver", solvers.__getitem__)
        monkeypatch.setattr(shared_budget, "time", clock)
        monkeypatch.setattr(shared_budget, "search", few)
        return found, instance, clock, given

    return arrange


def cut(side: int) -> np.ndarray:
    """The nodes before ``side`` against the others: a poor cut of 30 nodes, poorer near the ends."""
    return (np.arange(30) < side).astype(np.int8)


def by_cut(family: ProblemFamily, instance: Instance) -> list[np.ndarray]:
    """Cuts, best first."""
    return sorted((cut(k) for k in range(30)), key=lambda x: -family.evaluate(instance, x).objective)


def names(found: Shared) -> list[str]:
    return [part.name for part in found.parts]


def test_a_first_look_then_the_leader_then_proposals(arranged: Arranged) -> None:
    """Of 40 s, 10 are the proposals', 9 the first look at three solvers, and 21 the leader's, with another seed."""
    good, poor = by_cut(*read("maxcut", GRAPH))[0], cut(0)
    clock = Clock()
    stubs = [Stub("a", clock, poor), Stub("b", clock, good), Stub("c", clock, None, status="no solution")]
    family, instance, _, given = arranged(clock, *stubs)
    found = share(family, instance, 40.0, 7)
    assert [stub.asked for stub in stubs] == [[(3, 7)], [(3, 7), (pytest.approx(21), 8)], [(3, 7)]]
    assert names(found) == ["a", "b", "c", "b", "qaoa"]
    assert given[0].seconds == pytest.approx(10)
    assert sum(part.granted for part in found.parts) == pytest.approx(40)
    assert [part.seconds for part in found.parts[:4]] == pytest.approx([3, 3, 3, 21])
    assert found.parts[2].objective is None
    assert found.outcome == "feasible"


def test_whoever_has_said_everything_does_not_go_on(arranged: Arranged) -> None:
    """Seconds that are left over go to the others; equals are ranked by who was sooner."""
    good, clock = by_cut(*read("maxcut", GRAPH))[0], Clock()
    quick, slow = Stub("quick", clock, good, spends=0.1), Stub("slow", clock, good, after=2.0)
    soon = Stub("soon", clock, good, after=1.0)
    family, instance, _, given = arranged(clock, quick, slow, soon)
    found = share(family, instance, 40.0, 0)
    assert names(found) == ["quick", "slow", "soon", "soon", "qaoa"]
    assert [stub.asked[0][0] for stub in (quick, slow, soon)] == pytest.approx([3, 4.35, 4.35])
    assert given[0].seconds == pytest.approx(10)


def test_an_overdraft_is_the_leaders_loss(arranged: Arranged) -> None:
    """A first solver that takes five times its share leaves the next ones their look, and the clock its end."""
    good, poor, clock = by_cut(*read("maxcut", GRAPH))[0], cut(0), Clock()
    first, second = Stub("first", clock, poor, spends=5.0), Stub("second", clock, good)
    family, instance, _, given = arranged(clock, first, second)
    found = share(family, instance, 40.0, 0)
    assert names(found) == ["first", "second", "second", "qaoa"]
    assert [asked for asked, _ in second.asked] == pytest.approx([4.5, 30 - 5 * 4.5 - 4.5])
    assert given[0].seconds == pytest.approx(10)

    # 7 s are left for the leader, who overdrew by 18: they are the proposals'
    heavy, other = Stub("heavy", clock, good, spends=5.0), Stub("other", clock, None, spends=0.1)
    family, instance, _, given = arranged(clock, heavy, other)
    found = share(family, instance, 40.0, 0)
    assert names(found) == ["heavy", "other", "qaoa"]
    assert given[0].seconds == pytest.approx(40 - 5 * 4.5 - 0.45)


def test_a_proof_ends_everything(arranged: Arranged) -> None:
    good, clock = by_cut(*read("maxcut", GRAPH))[0], Clock()
    later = Stub("later", clock, None)
    family, instance, *_ = arranged(clock, Stub("exact", clock, good, spends=0.1, status="optimal"), later)
    found = share(family, instance, 10.0, 0)
    assert (found.outcome, names(found), later.asked) == ("optimal", ["exact"], [])
    assert found.bound == found.objective == family.evaluate(instance, good).objective
    assert found.seconds == pytest.approx(10 * 0.75 * 0.3 / 2 * 0.1)


def test_proposals_go_on_from_the_best_answer(arranged: Arranged) -> None:
    """What they add is theirs, with their evidence class; what came before stays the baseline's."""
    clock = Clock()
    family, instance, *_ = arranged(clock, Stub("poor", clock, cut(0)))
    found = share(family, instance, 8.0, 3)
    objectives = [reached.objective for reached in found.trajectory]
    assert objectives[0] == family.evaluate(instance, cut(0)).objective
    assert objectives == sorted(set(objectives))
    assert found.objective == objectives[-1] == family.evaluate(instance, found.values).objective
    assert (found.trajectory[0].part, found.trajectory[-1].part) == ("poor", "qaoa")
    assert found.trajectory[-1].evidence_class is EvidenceClass.SIMULATOR
    assert found.parts[-1].objective == found.objective


def test_only_feasible_answers_are_accepted(arranged: Arranged) -> None:
    """Everything packed into a knapsack that holds half of it is worth most and counts for nothing."""
    clock = Clock()
    text = "12 40\n" + "\n".join(f"{5 + k} {7}" for k in range(12)) + "\n"
    stub = Stub("cheat", clock, np.ones(12))
    family, instance, *_ = arranged(clock, stub, family="knapsack", text=text)
    stub.after = 1e9
    found = share(family, instance, 8.0, 0)
    assert found.parts[0].objective is None
    assert found.values is not None
    assert family.evaluate(instance, found.values).feasible
    assert all(reached.part != "cheat" for reached in found.trajectory)


def test_no_solution_is_told_from_a_proof_that_there_is_none(
    arranged: Arranged, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    family, instance, *_ = arranged(clock, Stub("proves", clock, None, spends=0.1, status="infeasible"))
    found = share(family, instance, 8.0, 0)
    assert (found.outcome, found.values, names(found)) == ("infeasible", None, ["proves"])
    assert "proves" in found.reason

    family, instance, *_ = arranged(clock, Stub("silent", clock, None, status="no solution"))
    monkeypatch.setattr(type(family), "landscape", lambda self, instance: None)
    found = share(family, instance, 8.0, 0)
    assert (found.outcome, found.values, found.reason) == ("no solution", None, "")

    def refuse(self: ProblemFamily, instance: Instance) -> None:
        raise InfeasibleError("inline", "demand", "nothing fits", "add room")

    monkeypatch.setattr(type(family), "landscape", refuse)
    found = share(family, instance, 8.0, 0)
    assert found.outcome == "infeasible"
    assert "nothing fits" in found.reason


def test_real_parts_on_a_small_graph() -> None:
    """Registered baselines prove this one; the answer is what its values are worth."""
    family, instance = read("maxcut", "4 4\n1 2 1\n2 3 1\n3 4 1\n1 4 1\n")
    found = share(family, instance, 20.0, 0)
    assert (found.outcome, found.objective) == ("optimal", 4)
    assert set(names(found)) <= set(family.baselines(instance))


# -- the benchmark -------------------------------------------------------------------------------------------------


def subject(best_known: float | None, sense: str, runs: list[Run], tolerance: float = 1e-9) -> Subject:
    entry = Entry("x", "maxcut", Path(), "rudy", best_known, True)
    return Subject(entry, "maxcut", 4, sense, "relative", tolerance, None, runs)  # type: ignore[arg-type]


def run(budget: str, name: str, seed: int, objective: float | None) -> Run:
    return Run("x", budget, name, seed, objective, 1.0, 1.0, 0.0, "seconds")


def test_gaps_and_records_against_the_best_baseline() -> None:
    runs = [run("baseline", "a", s, v) for s, v in enumerate((98, 100, None))]
    runs += [run("baseline", "b", s, v) for s, v in enumerate((90, 90, 90))]
    ours = [run("arm", "qaoa", s, v) for s, v in enumerate((99, 100, None))]
    found = subject(100, "max", runs + ours)
    assert [found.gap(v) for v in (100, 98, None)] == [0, 2, np.inf]
    assert found.best_baseline == "a"
    assert found.against(ours, "a") == "1/2/0"
    assert found.against(ours, "b") == "2/0/1"
    assert subject(0, "min", []).gap(0.25) == 0.25
    assert subject(-200, "min", []).gap(-199) == 0.5
    assert np.isnan(subject(None, "min", []).gap(3))


def test_palubeckis_generator() -> None:
    """First draw of seed 31000: 521,017,000 of 2^31 - 1, which is 48.77 of 201, so weight 52."""
    lines = _palubeckis("palubeckis2004", 3, 100, 31000).decode().splitlines()
    assert lines[:2] == ["3 6", "1 1 52"]
    assert [line.split()[:2] for line in lines[2:]] == [["1", "2"], ["1", "3"], ["2", "2"], ["2", "3"], ["3", "3"]]


def test_the_benchmark_prints_every_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "g.txt").write_text(GRAPH)
    (tmp_path / "items.txt").write_text("1\n5 2 9\n6 5 8 9 6\n2 3 4 5 1\n5 1 2 2 3\n9 8\n")
    head = ("family", "instance", "file", "best_known", "proven_optimal", "format")
    rows = [
        ("maxcut", "G11", "g.txt", "26", "yes", "rudy"),
        ("mknap", "items#1", "items.txt", "na", "", "orlib-mknap"),
        ("anomaly", "other", "other.npz", "na", "", "npz"),
    ]
    (tmp_path / "MANIFEST.tsv").write_text("\n".join("\t".join(row) for row in (head, *rows)) + "\n")
    monkeypatch.setenv("HYBRID_INSTANCES", str(tmp_path))
    monkeypatch.setattr(quality.quality_runs, "WARM_SECONDS", 0.02)
    asked = (
        f"--instances G11,items#1,absent --seconds 0.1 --seeds 1 --arms qaoa,none --replay 5 --json {tmp_path}/r.json"
    )
    quality.main([*asked.split(), "--plot", f"{tmp_path}/gaps.png"])
    printed = capsys.readouterr().out
    assert "left out: absent" in printed
    assert printed.count("Budget `portfolio`") == printed.count("Budget `arm`") == 2
    assert "Frozen replay on G11, 5 blocks" in printed
    assert (tmp_path / "gaps-development.png").stat().st_size > 10_000
    document = json.loads((tmp_path / "r.json").read_text())
    kinds = {(found["instance"], found["budget"]) for found in document["development"]}
    assert kinds == {(name, kind) for name in ("G11", "items#1") for kind in ("portfolio", "baseline", "arm")}
    assert {row["arm"] for row in document["replay"]["G11"]} >= {"qaoa", "uniform", "exact"}


def test_no_folder_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYBRID_INSTANCES", raising=False)
    with pytest.raises(SystemExit, match="HYBRID_INSTANCES"):
        quality.main([])
