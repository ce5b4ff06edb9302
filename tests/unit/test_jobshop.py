"""The job shop: readers, makespan and violations by hand, the program against enumeration, repair, moves, solvers."""

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
from hybrid_assets.problems.scheduling import jobshop_kernels as kernels
from hybrid_assets.problems.scheduling.jobshop import JobShop, lanes
from hybrid_assets.problems.scheduling.schedule import ScheduleOptions
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.solvers.base import SolveTask
from hybrid_assets.solvers.cpsat_schedule import CpSatSchedule
from hybrid_assets.solvers.dispatching import Dispatching
from hybrid_assets.solvers.schedule_tabu import ScheduleTabu
from resources.envelope import PostProcessing
from resources.failures import InputError

SHARED = Path(os.environ["HYBRID_INSTANCES"]) if "HYBRID_INSTANCES" in os.environ else None
FT06 = """6 6
2 1 0 3 1 6 3 7 5 3 4 6
1 8 2 5 4 10 5 10 0 10 3 4
2 5 3 4 5 8 0 9 1 1 4 7
1 5 0 5 2 5 3 3 4 8 5 9
2 9 1 3 4 5 5 4 0 3 3 1
1 3 3 3 5 9 0 10 4 4 2 1
"""
FT06_OPTIMUM = 55

FAMILY = JobShop()


def recorded() -> list[dict[str, str]]:
    if SHARED is None:
        return []
    with (SHARED / "MANIFEST.tsv").open(encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream, delimiter="\t") if row["family"] == "jobshop"]


def source(text: str) -> SourceFile:
    return SourceFile("shop.txt", text.encode(), "0")


def instance_of(text: str, **options: object) -> Instance:
    (raw,) = FAMILY.read(source(text))
    return FAMILY.normalize(raw, ScheduleOptions.model_validate(options), "shop")


def enumerated(instance: Instance) -> int:
    """The best makespan over all machine sequences."""
    a = instance.arrays
    machines, offsets = lanes(a)
    each = [itertools.permutations(np.flatnonzero(machines == k).tolist()) for k in range(len(offsets) - 1)]
    lengths = (
        kernels.paths(np.array([i for part in parts for i in part]), offsets, a["jobs"], a["durations"])[0]
        for parts in itertools.product(*each)
    )
    return min(int(length) for length in lengths if length >= 0)


@st.composite
def shops(draw: st.DrawFn, jobs: int = 3, machines: int = 3) -> Instance:
    n, m = draw(st.integers(1, jobs)), draw(st.integers(1, machines))
    lines = [f"{n} {m}"]
    for _ in range(n):
        order = draw(st.permutations(range(m)))
        times = draw(st.lists(st.integers(0, 6), min_size=m, max_size=m))
        lines.append(" ".join(f"{k} {d}" for k, d in zip(order, times, strict=True)))
    text = "\n".join(lines) + "\n"
    if not any(int(d) for line in lines[1:] for d in line.split()[1::2]):
        text = "1 1\n0 3\n"
    return instance_of(text)


# -- files -------------------------------------------------------------------------------------------------------


def test_the_formats_agree() -> None:
    rows = [[int(word) for word in line.split()] for line in FT06.splitlines()[1:]]
    times = "\n".join(" ".join(map(str, row[1::2])) for row in rows)
    machines = "\n".join(" ".join(str(k + 1) for k in row[::2]) for row in rows)
    document = {"duration_matrix": [row[1::2] for row in rows], "machines_matrix": [row[::2] for row in rows]}
    texts = (
        FT06,
        f"Nb of jobs, Nb of Machines\n 6 6 1 2 3 4\nTimes\n{times}\nMachines\n{machines}\n",
        json.dumps(document),
        json.dumps({"ft06": document}),
        "# Fisher and Thompson\n" + FT06.replace("\n", "\n\n"),
    )
    assert all(FAMILY.recognises(source(text)) for text in texts)
    assert len({instance_of(text).digest for text in texts}) == 1


def test_a_collection_holds_several() -> None:
    text = f" instance ft06\n +++++\n Fisher and Thompson 6x6\n{FT06} +++\n instance tiny\n 1 2\n 1 4 0 2\n"
    assert [len(raw.machines) for raw in FAMILY.read(source(text))] == [6, 1]


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("2 2\n0 1 1 2\n1 1 0\n", "line 3", "3 numbers where 4"),
        ("2 2\n0 1 1 2\n", "file", "after 1 of 2"),
        ("2 2\n# jobs\n0 1 1 2\n1 x 0 1\n", "line 4", "'x'"),
        ("2 2\n0 1 1 2\n1 -3 0 1\n", "line 3", "'-3'"),
        ("2 2\n0 1 1 2\n1 1.5 0 1\n", "line 3", "'1.5'"),
        ("2 2\n0 1 2 2\n1 1 0 1\n", "line 2", "machine 2"),
        ("2 2\n0 1 1 2\n1 1 0 2000000000\n", "line 3", "2000000000"),
        ("1 2\n0 0 1 0\n", "durations", "zero"),
        ("0 2\n", "line 1", "0 jobs"),
        (f"1 4000\n{' '.join(f'{k} 1' for k in range(4000))}\n", "machines", "4000 for 4000"),
        ("1 1\n0 3\n7\n", "line 3", "neither"),
        ("1 2 0\n0 3 1 1\n", "line 1", "header"),
        ("2 2 1 2 3 4\nTimes\n1 2\n3 4\n1 2\n2 1\n", "line 5", "Machines"),
        ('{"duration_matrix": [[1, 2]], "machines_matrix": [[0]]}', "machines_matrix", "as long"),
        ('{"duration_matrix": [[1, true]], "machines_matrix": [[0, 1]]}', "duration_matrix[0]", "True"),
        ('{"duration_matrix": [[1]],\n "machines_matrix": [[0}', "line 2", "JSON"),
    ],
)
def test_what_is_wrong_is_named(text: str, place: str, what: str) -> None:
    with pytest.raises(InputError) as caught:
        instance_of(text)
    assert caught.value.field == place
    assert what in caught.value.problem


@pytest.mark.parametrize(
    "text", ["4 3\n1 2\n2 3\n3 4\n", "3 3\n1 2 5\n2 3 -1\n1 3 2\n", "2\n0 1\n1 0\n", "2 2\n0 5 0 5\n"]
)
def test_other_families_files_are_left_alone(text: str) -> None:
    assert not FAMILY.recognises(source(text))


# -- evaluation --------------------------------------------------------------------------------------------------


def test_makespan_and_violations_by_hand() -> None:
    # job 0: machine 0 for 3, machine 1 for 2; job 1: machine 1 for 2, machine 0 for 1
    instance = instance_of("2 2\n0 3 1 2\n1 2 0 1\n")
    good = FAMILY.evaluate(instance, np.array([0, 3, 0, 3]))
    assert (good.objective, good.violations) == (5.0, {})
    # both jobs: the second operation begins 1 too early; on machine 1 they overlap between 1 and 2
    bad = FAMILY.evaluate(instance, np.array([-1.0, 1.0, 0.0, 1.0]))
    assert bad.objective == 3.0
    assert bad.violations == {"negative start": 1.0, "precedence": 2.0, "machine 0": 1.0, "machine 1": 1.0}


def test_the_lower_bound_counts_what_surrounds_a_machine() -> None:
    # machine 1 works 3 + 4, not before 1 and with 2 behind it; no job is longer than 8
    instance = instance_of("2 2\n0 1 1 3\n0 2 1 4\n")
    assert FAMILY.constraints(instance)["lower bound"] == 8
    assert FAMILY.constraints(instance)["precedences"] == 4


# -- program -----------------------------------------------------------------------------------------------------


def test_the_programs_optimum_is_the_makespans() -> None:
    import dimod

    instance = instance_of("2 2\n0 3 1 2\n1 2 0 1\n")
    program = FAMILY.model(instance)
    assert FAMILY.program_size(instance) == program.cqm.num_variables() == 14
    bits = ((np.arange(2**14)[:, None] >> np.arange(14)) & 1).astype(np.int8)
    indexed = FAMILY.indexed(instance)
    chosen = [x for x in bits if indexed.starts(x) is not None and program.cqm.check_feasible(dict(enumerate(x)))]
    energies = program.energies(np.array(chosen))
    makespans = [FAMILY.complete(instance, x).evaluation.objective for x in chosen]
    assert min(energies) == min(makespans) == enumerated(instance) == 5
    assert (energies >= np.array(makespans)).all()
    # every feasible schedule within the horizon is there: 2 jobs of 2 operations, by brute force over start times
    times = itertools.product(range(7), repeat=4)
    schedules = [np.array(t) for t in times]
    evaluations = [FAMILY.evaluate(instance, values) for values in schedules]
    within = [e.objective for e in evaluations if e.feasible and e.objective <= 6]
    assert len({tuple(indexed.starts(x)[:4]) for x in chosen}) == len(within)
    assert isinstance(program.cqm, dimod.ConstrainedQuadraticModel)


def test_large_programs_are_refused_before_they_are_built() -> None:
    instance = instance_of("2 2\n0 3000 1 2000\n1 2000 0 1000\n")
    assert FAMILY.program_size(instance) > 5_000
    with pytest.raises(InputError, match="time-indexed program"):
        FAMILY.model(instance)


def test_random_bits_are_repaired_and_schedules_are_not() -> None:
    instance = instance_of(FT06)
    size = FAMILY.program_size(instance)
    broken = FAMILY.complete(instance, np.zeros(size, dtype=np.int8))
    assert broken.evaluation.feasible
    assert broken.post_processing is PostProcessing.REPAIRED
    draws = FAMILY.random_assignments(instance, 20, 0)
    assert len(np.unique(draws, axis=0)) == 20
    for draw in draws:
        solution = FAMILY.complete(instance, draw)
        assert solution.evaluation.feasible
        assert solution.post_processing is PostProcessing.RAW
        # the assignment behind it keeps the start times, the end as early as it can be
        assert np.array_equal(
            FAMILY.complete(instance, FAMILY.assignment(instance, solution.values)).values, solution.values
        )


def test_a_schedule_beyond_the_horizon_is_represented_by_a_shorter_one() -> None:
    instance = instance_of("2 2\n0 3 1 2\n1 2 0 1\n")
    late = np.array([50, 53, 50, 60])
    assert FAMILY.complete(instance, FAMILY.assignment(instance, late)).evaluation.objective == 5


# -- sequences and moves -----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(shops(4, 4), st.integers(0, 2**31))
def test_any_sequences_are_repaired_and_right_ones_kept(instance: Instance, seed: int) -> None:
    a, rng = instance.arrays, np.random.default_rng(seed)
    machines, offsets = lanes(a)
    sequence = np.concatenate([rng.permutation(np.flatnonzero(machines == k)) for k in range(len(offsets) - 1)])
    fixed = kernels.repaired(sequence, offsets, a["jobs"])
    makespan, heads = kernels.paths(fixed, offsets, a["jobs"], a["durations"])[:2]
    assert makespan >= 0
    assert np.array_equal(np.sort(fixed), np.arange(instance.size))
    assert FAMILY.evaluate(instance, heads).violations == {}
    assert FAMILY.evaluate(instance, heads).objective == makespan
    if kernels.paths(sequence, offsets, a["jobs"], a["durations"])[0] >= 0:
        assert np.array_equal(fixed, sequence)


@settings(max_examples=60, deadline=None)
@given(shops(5, 4), st.integers(0, 50))
def test_block_moves_never_contradict(instance: Instance, seed: int) -> None:
    a, landscape = instance.arrays, FAMILY.landscape(instance)
    (machines, offsets), state = lanes(a), landscape.start(seed)
    paths = kernels.paths(state.data, offsets, a["jobs"], a["durations"])
    for move in kernels.block_moves(*paths, a["jobs"], a["durations"], seed).tolist():
        trial = state.data.copy()
        kernels.shift(trial, offsets, machines[move[0]], *move)
        assert kernels.paths(trial, offsets, a["jobs"], a["durations"])[0] >= 0


def test_a_contradiction_is_charged_and_repaired() -> None:
    # the machines wait for each other: job 0 first on machine 1, job 1 first on machine 0
    instance = instance_of("2 2\n0 3 1 2\n1 2 0 1\n")
    landscape = FAMILY.landscape(instance)
    state = landscape.state_of(np.array([0, 3, 0, 3]))
    assert state.data.tolist() == [0, 3, 2, 1]
    both = landscape.played(state, [(0, 3, 1), (2, 1, 1)])  # type: ignore[attr-defined]
    assert both.data.tolist() == [3, 0, 1, 2]
    assert not both.feasible
    step = landscape.repair(both)  # type: ignore[attr-defined]
    assert step.repaired
    assert FAMILY.evaluate(instance, landscape.values(step.state)).objective == step.state.cost == both.cost


def test_polishing_shortens_schedules() -> None:
    landscape = FAMILY.landscape(instance_of(FT06))
    starts = [landscape.start(seed) for seed in range(5)]
    polished = [landscape.polish(state, 1_000).state for state in starts]
    assert sum(p.cost for p in polished) < sum(s.cost for s in starts)
    assert min(p.cost for p in polished) >= FT06_OPTIMUM


def test_an_operation_of_no_time_occupies_no_machine() -> None:
    # job 1 passes machine 0 while job 0 holds it
    instance = instance_of("2 2\n0 4 1 0\n1 1 0 0\n")
    values = np.array([0, 4, 0, 1])
    assert FAMILY.evaluate(instance, values).violations == {}
    assert FAMILY.landscape(instance).state_of(values).cost == 4
    assert enumerated(instance) == 4


# -- solvers -----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(shops(3, 3))
def test_proofs_hold_against_enumeration(instance: Instance) -> None:
    best, task = enumerated(instance), SolveTask(FAMILY, instance)
    assert FAMILY.project(instance).lower_bound <= best
    result = CpSatSchedule().solve(task, 60.0, 0)
    assert (result.status, result.objective, result.bound) == ("optimal", best, best)
    task.target = float(best)
    for solver in (ScheduleTabu(), Dispatching()):
        found = solver.solve(task, 60.0, 0)
        assert found.objective == best, solver.name
        assert found.status == "feasible" or found.bound == best


def test_tabu_search_finds_the_optimum_and_cpsat_proves_it() -> None:
    task = SolveTask(FAMILY, instance_of(FT06))
    proven = CpSatSchedule().solve(task, 60.0, 1)
    assert (proven.status, proven.objective) == ("optimal", FT06_OPTIMUM)
    task.target = proven.objective
    one, two = (ScheduleTabu().solve(task, 60.0, 3) for _ in range(2))
    assert one.objective == FT06_OPTIMUM
    assert one.status == "feasible", "52 is the lower bound that it knows"
    assert one.values is not None
    assert two.values is not None
    assert np.array_equal(one.values, two.values)
    assert one.evaluations == two.evaluations


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
@pytest.mark.parametrize(("name", "optimum"), [("la16", 945), ("la19", 842)])
def test_ten_by_ten_is_proven(name: str, optimum: int) -> None:
    assert SHARED is not None
    file = SourceFile.open(SHARED / "scheduling" / "jobshop" / f"{name}.json")
    task = SolveTask(FAMILY, FAMILY.normalize(FAMILY.read(file)[0], ScheduleOptions(), name))
    result = CpSatSchedule().solve(task, 120.0, 0)
    assert (result.status, result.objective) == ("optimal", optimum)
    # the tabu search stops as soon as it gets there
    task.target = float(optimum)
    assert ScheduleTabu().solve(task, 120.0, 0).objective == optimum
