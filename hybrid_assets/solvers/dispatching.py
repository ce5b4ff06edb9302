"""Priority rules and biased random sampling around them: the list-scheduling baseline.

Here: sampling for both scheduling families. Not here: the rules themselves, which belong to the families; local search
(``schedule_tabu``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets.problems.scheduling import jobshop, rcpsp
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.schedule_search import ScheduleRecord, heuristic_start, is_scheduling, project_of

if TYPE_CHECKING:
    from hybrid_assets.problems.scheduling.project import Project

#: Largest random share of a priority, relative to the rule's range.
_NOISE = (0.1, 0.3, 1.0)


class Dispatching(ClassicalSolver):
    """The family's heuristic, then noisy priorities until the budget is spent.

    Job shop: active schedules (Giffler & Thompson 1960), each followed by a descent over N6 moves. Projects: serial
    schedules, each with forward-backward improvement (Tormos & Lova 2001); every second one shuffles the best list
    instead of a rule.
    """

    name = "dispatching"

    def supports(self, family: str) -> bool:
        """Scheduling families."""
        return is_scheduling(family)

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Sample until the budget is spent, or the target or the lower bound is reached."""
        from importlib.metadata import version

        record, rng = ScheduleRecord(task, budget_seconds), np.random.default_rng(seed)
        project = project_of(task)
        record.bound = project.lower_bound
        record.offer(heuristic_start(task, project))
        sample = _active if task.family.name == jobshop.JobShop.name else _serial
        samples = sample(task, record, project, rng)
        return record.result(self.name, f"numba {version('numba')}", seed, samples)


def _noisy(rule: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    return rule + _NOISE[number % len(_NOISE)] * np.ptp(rule) * rng.random(len(rule))


def _active(task: SolveTask, record: ScheduleRecord, project: Project, rng: np.random.Generator) -> int:
    from hybrid_assets.problems.scheduling import jobshop_kernels as kernels

    a, rules = task.instance.arrays, jobshop.priority_rules(project)
    jobs, durations = a["jobs"], a["durations"]
    machines, offsets = jobshop.lanes(a)
    count = 0
    while not record.done:
        priority = _noisy(rules[count % len(rules)], count // len(rules), rng)[:-1]
        sequence = kernels.dispatched(priority, jobs, machines, durations, offsets)
        sequence = kernels.descent(sequence, offsets, jobs, machines, durations, jobshop.DESCENT)[0]
        record.offer(kernels.paths(sequence, offsets, jobs, durations)[1])
        count += 1
    return count


def _serial(task: SolveTask, record: ScheduleRecord, project: Project, rng: np.random.Generator) -> int:
    rules = rcpsp.priority_rules(project)
    count = 0
    while not record.done:
        rule = rules[count % len(rules)]
        if count % 2 and record.values is not None:
            rule = -record.values.astype(float)
        starts, order = project.listed(np.argsort(-_noisy(rule, count // len(rules), rng), kind="stable"))
        record.offer(project.justified(starts, order)[0])
        count += 1
    return count
