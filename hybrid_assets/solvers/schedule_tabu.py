"""Tabu search for the job shop, restarted on paths between good schedules (after Peng, Lü & Cheng 2015).

Here: the population and its restarts. Not here: the search itself (``jobshop_tabu_kernel``).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hybrid_assets.problems.scheduling.jobshop import JobShop, lanes, priority_rules
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.schedule_search import ScheduleRecord, heuristic_start, project_of

#: Schedules kept, and where on the path between two of them a search begins.
_POPULATION, _SHARES = 30, (0.3, 0.7)
#: Steps without improvement that end a search, and work (steps × operations × jobs) between two looks at the clock.
_PATIENCE, _WORK = 1_500, 50_000_000


class ScheduleTabu(ClassicalSolver):
    """Tabu search with N6 moves from dispatched schedules, then from points between two of the best."""

    name = "schedule-tabu"

    def supports(self, family: str) -> bool:
        """Job shops only."""
        return family == JobShop.name

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Search until the budget is spent, or the target or the lower bound is reached."""
        from importlib.metadata import version

        record, rng = ScheduleRecord(task, budget_seconds), np.random.default_rng(seed)
        project = project_of(task)
        record.bound = project.lower_bound
        record.offer(heuristic_start(task, project))
        steps = 0
        if not record.done:
            for spent in _searches(task, record, priority_rules(project), rng):
                steps += spent
                if record.done:
                    break
        return record.result(self.name, f"numba {version('numba')}", seed, steps)


def _searches(
    task: SolveTask, record: ScheduleRecord, rules: list[np.ndarray], rng: np.random.Generator
) -> Iterator[int]:
    """One tabu search after the other, without end; yields the steps of each."""
    from hybrid_assets.problems.scheduling import jobshop_kernels as kernels
    from hybrid_assets.solvers import jobshop_tabu_kernel as search

    a = task.instance.arrays
    jobs, durations = a["jobs"], a["durations"]
    machines, offsets = lanes(a)
    limit = max(50, _WORK // (len(jobs) * int(jobs[-1] + 1)))
    target = record.bound if task.target is None else max(record.bound, int(task.target))
    population: list[tuple[int, np.ndarray]] = []
    while True:
        if len(population) < _POPULATION:
            rule = rules[len(population) % len(rules)][:-1]
            begin = kernels.dispatched(rule + np.ptp(rule) * rng.random(len(rule)), jobs, machines, durations, offsets)
        else:
            one, two = (population[k][1] for k in rng.choice(len(population), 2, replace=False))
            begin, distance = search.between(one, two, offsets, jobs, float(rng.uniform(*_SHARES)), _seed(rng))
            if distance < 10:
                # all alike: the worse half makes room for new ones
                population = sorted(population, key=lambda entry: entry[0])[: _POPULATION // 2]
                continue
        found, makespan = begin, np.inf
        while True:
            before = makespan
            found, makespan, steps = search.tabu(
                found, offsets, jobs, machines, durations, _PATIENCE, limit, target, _seed(rng)
            )
            record.offer(kernels.paths(found, offsets, jobs, durations)[1])
            yield int(steps)
            # cut short by the limit while it was improving, it goes on from its best
            if steps < limit or makespan >= before:
                break
        if not any(np.array_equal(found, other) for _, other in population):
            population.append((int(makespan), found))
            if len(population) > _POPULATION:
                population.pop(max(range(len(population)), key=lambda k: population[k][0]))


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
