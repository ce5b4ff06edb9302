"""Projects with limited resources: readers, violations by hand, the program, list schedules, moves, solvers."""

from __future__ import annotations

import csv
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.scheduling.rcpsp import Rcpsp, priority_rules
from hybrid_assets.problems.scheduling.schedule import ScheduleOptions
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.solvers.base import SolveTask
from hybrid_assets.solvers.cpsat_schedule import CpSatSchedule
from hybrid_assets.solvers.dispatching import Dispatching
from resources.failures import InfeasibleError, InputError

SHARED = Path(os.environ["HYBRID_INSTANCES"]) if "HYBRID_INSTANCES" in os.environ else None
#: Capacity 3; activities 2 (2 periods, 2 units), 3 (3 periods, 2 units, another resource), 4 after 2.
PSPLIB = """\
************************************************************************
file with basedata            : none
projects                      :  1
jobs (incl. supersource/sink ):  5
horizon                       :  6
RESOURCES
  - renewable                 :  2   R
  - nonrenewable              :  0   N
  - doubly constrained        :  0   D
************************************************************************
PRECEDENCE RELATIONS:
jobnr.    #modes  #successors   successors
   1        1          2           2   3
   2        1          1           4
   3        1          1           5
   4        1          1           5
   5        1          0
************************************************************************
REQUESTS/DURATIONS:
jobnr. mode duration  R 1  R 2
------------------------------------------------------------------------
  1      1     0       0    0
  2      1     2       2    0
  3      1     3       2    1
  4      1     1       0    1
  5      1     0       0    0
************************************************************************
RESOURCEAVAILABILITIES:
  R 1  R 2
    3    1
************************************************************************
"""
PATTERSON = "5 2\n3 1\n\n0 0 0 2 2 3\n2 2 0 1 4\n3 2 1 1 5\n1 0 1 1\n 5\n0 0 0 0\n"

FAMILY = Rcpsp()


def recorded() -> list[dict[str, str]]:
    if SHARED is None:
        return []
    with (SHARED / "MANIFEST.tsv").open(encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream, delimiter="\t") if row["family"] == "rcpsp"]


def source(text: str) -> SourceFile:
    return SourceFile("project.sm", text.encode(), "0")


def instance_of(text: str, **options: object) -> Instance:
    (raw,) = FAMILY.read(source(text))
    return FAMILY.normalize(raw, ScheduleOptions.model_validate(options), "project")


@st.composite
def projects(draw: st.DrawFn, activities: int = 5) -> Instance:
    """Random projects of at most ``activities`` between their dummies, with two resources of capacity 4."""
    count = draw(st.integers(1, activities)) + 2
    lines = [f"{count} 2", "4 4", f"0 0 0 {count - 2} {' '.join(map(str, range(2, count)))}"]
    for i in range(2, count):
        later = sorted(draw(st.sets(st.sampled_from(range(i + 1, count + 1))))) or [count]
        duration = draw(st.integers(1 if i == 2 else 0, 4))
        demands = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
        lines.append(f"{duration} {demands[0]} {demands[1]} {len(later)} {' '.join(map(str, later))}")
    return instance_of("\n".join([*lines, "0 0 0 0"]) + "\n")


def enumerated(instance: Instance) -> int:
    """The best makespan over all lists: serial schedules hold an optimum."""
    project = FAMILY.project(instance)
    inner = range(1, instance.size - 1)
    orders = (np.array([0, *order, instance.size - 1]) for order in itertools.permutations(inner))
    return min(int(project.listed(order)[0][-1]) for order in orders)


# -- files -------------------------------------------------------------------------------------------------------


def test_the_formats_agree() -> None:
    one, two = instance_of(PSPLIB), instance_of(PATTERSON)
    assert FAMILY.recognises(source(PSPLIB))
    assert FAMILY.recognises(source(PATTERSON))
    assert one.digest == two.digest
    assert one.arrays["demands"].tolist() == [[0, 0], [2, 0], [2, 1], [0, 1], [0, 0]]
    assert FAMILY.constraints(one)["capacities"] == {"R 1": 3, "R 2": 1}


@pytest.mark.parametrize(
    ("old", "new", "place", "what"),
    [
        ("nonrenewable              :  0", "nonrenewable              :  2", "line 8", "nonrenewable"),
        ("   3        1          1           5\n", "   3        2          1           5\n", "line 15", "2 modes"),
        ("   3        1          1           5\n", "   3        1          2           5\n", "line 15", "announces 2"),
        ("   3        1          1           5\n", "   3        1          1           9\n", "line 15", "successor 9"),
        ("   3        1          1           5\n", "   3        1          0\n", "line 15", "no successor"),
        ("   3        1          1           5\n", "   7        1          1           5\n", "line 15", "activity 7"),
        ("   4        1          1           5\n", "   4        1          1           2\n", "line 14", "circle"),
        ("  3      1     3       2    1\n", "  3      1     3       2\n", "line 24", "4 numbers where 5"),
        ("  3      1     3       2    1\n", "  3      1    -3       2    1\n", "line 24", "'-3'"),
        ("  5      1     0       0    0\n", "  5      1     4       0    0\n", "line 26", "takes time"),
        ("    3    1\n", "    3\n", "line 30", "1 capacities"),
        ("RESOURCEAVAILABILITIES", "RESOURCE", "file", "RESOURCEAVAILABILITIES"),
        ("sink ):  5", "sink ):  1", "line 4", "1 activities"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, place: str, what: str) -> None:
    assert PSPLIB.count(old) == 1
    with pytest.raises(InputError) as caught:
        instance_of(PSPLIB.replace(old, new))
    assert caught.value.field == place
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("5 2\n3 1\n0 0 0 2 2 3\n2 2 0 1 4\n", "file"),
        ("5 2\n3 1\n0 0 0 2 2 3\n2 2 0 1 x\n", "line 4"),
        (PATTERSON + "7\n", "line 10"),
        ("5 2 1\n3 1\n", "line 1"),
    ],
)
def test_broken_patterson_files(text: str, place: str) -> None:
    with pytest.raises(InputError) as caught:
        instance_of(text)
    assert caught.value.field == place


def test_a_demand_above_capacity_is_infeasible() -> None:
    with pytest.raises(InfeasibleError) as caught:
        instance_of(PSPLIB.replace("  2      1     2       2    0", "  2      1     2       4    0"))
    assert caught.value.field == "line 23"
    assert "needs 4 of R 1, there are 3" in caught.value.problem


# -- evaluation and program --------------------------------------------------------------------------------------


def test_makespan_and_violations_by_hand() -> None:
    instance = instance_of(PSPLIB)
    # 2 and 3 need four units of R 1 together, so one waits for the other: 2 and 4 side by side with nothing, then 3
    assert FAMILY.evaluate(instance, np.array([0, 0, 2, 5, 6])).violations == {}
    bad = FAMILY.evaluate(instance, np.array([0.0, 0.0, 1.0, 2.0, 4.0]))
    # one unit too many of R 1 from 1 to 2, of R 2 from 2 to 3
    assert bad.violations == {"R 1": 1.0, "R 2": 1.0}
    assert bad.objective == 4.0
    early = FAMILY.evaluate(instance, np.array([0, 0, 2, 1, 4]))
    assert early.violations == {"precedence": 2.0}
    assert enumerated(instance) == 6


def test_the_program_holds_every_schedule_within_the_horizon() -> None:
    instance = instance_of(PSPLIB)
    program, indexed = FAMILY.model(instance), FAMILY.indexed(instance)
    horizon = int(instance.arrays["latest"][-1])
    assert horizon == 7
    windows = [range(a, b + 1) for a, b in zip(indexed.earliest.tolist(), indexed.latest.tolist(), strict=True)]
    found = 0
    for starts in itertools.product(*windows):
        bits = indexed.assignment(np.array(starts))
        assert bits is not None
        feasible = FAMILY.evaluate(instance, np.array(starts)).feasible
        assert program.cqm.check_feasible(dict(enumerate(bits.tolist()))) == feasible
        if feasible:
            assert program.energies(bits[None, :])[0] == starts[-1]
            found += 1
    assert found > 5
    # nothing feasible lies outside the windows, the dummy at the start apart
    wide = itertools.product([0], *[range(horizon + 1)] * 4)
    within = [s for s in wide if FAMILY.evaluate(instance, np.array(s)).feasible and s[-1] <= horizon]
    assert len(within) == found


def test_draws_reach_all_schedules_evenly() -> None:
    instance = instance_of(PSPLIB)
    draws = FAMILY.random_assignments(instance, 4_000, 0)
    _, counts = np.unique(draws, axis=0, return_counts=True)
    assert len(counts) == 15
    # even within the two orders of 2 and 3 on their resource, which are drawn equally often
    assert counts.max() < 3 * counts.min()


# -- lists and moves ---------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(projects(8), st.integers(0, 2**31))
def test_any_list_gives_a_schedule_and_justifying_never_lengthens_it(instance: Instance, seed: int) -> None:
    project = FAMILY.project(instance)
    starts, order = project.listed(np.random.default_rng(seed).permutation(instance.size))
    assert FAMILY.evaluate(instance, starts).violations == {}
    assert starts[-1] >= project.lower_bound
    again, same = project.listed(order)
    assert np.array_equal(again, starts)
    assert np.array_equal(same, order)
    shorter, _, _ = project.justified(starts, order)
    assert FAMILY.evaluate(instance, shorter).violations == {}
    assert shorter[-1] <= starts[-1]


def test_a_contradiction_is_charged_and_repaired() -> None:
    instance = instance_of(PSPLIB)
    landscape = FAMILY.landscape(instance)
    state = landscape.state_of(np.array([0, 0, 2, 5, 6]))
    assert state.data.tolist() == [0, 1, 2, 3, 4]
    wrong = landscape.played(state, [(3, 1, 0)])  # type: ignore[attr-defined]
    assert wrong.data.tolist() == [0, 3, 1, 2, 4]
    assert not wrong.feasible
    step = landscape.repair(wrong)  # type: ignore[attr-defined]
    assert step.repaired
    assert step.state.data.tolist() == [0, 1, 3, 2, 4]
    assert FAMILY.evaluate(instance, landscape.values(step.state)).objective == step.state.cost == wrong.cost


def test_rules_prefer_what_is_urgent() -> None:
    latest_start = priority_rules(FAMILY.project(instance_of(PSPLIB)))[0]
    # 2 and 3 have three periods before the end, 4 has one, the end none
    assert latest_start.tolist() == [3, 3, 3, 1, 0]


# -- solvers -----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(projects(5))
def test_proofs_hold_against_enumeration(instance: Instance) -> None:
    best, task = enumerated(instance), SolveTask(FAMILY, instance)
    assert FAMILY.project(instance).lower_bound <= best
    result = CpSatSchedule().solve(task, 60.0, 0)
    assert (result.status, result.objective, result.bound) == ("optimal", best, best)
    task.target = float(best)
    found = Dispatching().solve(task, 60.0, 0)
    assert found.objective == best
    assert found.status == "feasible" or found.bound == best


@pytest.mark.parametrize("row", recorded(), ids=lambda row: row["instance"])
def test_recorded_schedules_have_their_makespan(row: dict[str, str]) -> None:
    assert SHARED is not None
    file = SourceFile.open(SHARED / row["file"])
    assert FAMILY.recognises(file)
    instance = FAMILY.normalize(FAMILY.read(file)[0], ScheduleOptions(), row["instance"])
    assert instance.size == int(row["n"])
    assert FAMILY.project(instance).lower_bound <= int(row["best_known"])
    if row["own_solution_file"]:
        values = np.array(json.loads((SHARED / row["own_solution_file"]).read_text()))
        evaluation = FAMILY.evaluate(instance, values)
        assert evaluation.feasible
        assert evaluation.objective == int(row["best_known"])
        assert FAMILY.landscape(instance).state_of(values).cost <= evaluation.objective


@pytest.mark.skipif(SHARED is None, reason="HYBRID_INSTANCES names no folder of instances")
@pytest.mark.parametrize(("name", "optimum"), [("j301_1", 43), ("j309_1", 83), ("j3045_1", 82)])
def test_thirty_activities_are_proven(name: str, optimum: int) -> None:
    assert SHARED is not None
    file = SourceFile.open(SHARED / "scheduling" / "rcpsp" / f"{name}.sm")
    task = SolveTask(FAMILY, FAMILY.normalize(FAMILY.read(file)[0], ScheduleOptions(), name))
    result = CpSatSchedule().solve(task, 120.0, 0)
    assert (result.status, result.objective) == ("optimal", optimum)
    task.target = float(optimum)
    assert Dispatching().solve(task, 120.0, 0).objective == optimum
