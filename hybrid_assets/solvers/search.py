"""What the heuristics for programs without constraints share: the polynomial's arrays, the clock and the record.

Here: reading a program into arrays, and keeping the best solution with its trajectory within the budget. Not here: any
single search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from hybrid_assets import registry
from hybrid_assets.encodings.arrays import QuadraticForm
from hybrid_assets.problems.unconstrained import UnconstrainedFamily
from hybrid_assets.solvers.base import Progress, SolverResult, SolveTask

if TYPE_CHECKING:
    import dimod

    from hybrid_assets.problems.base import Program


def is_unconstrained(family: str) -> bool:
    """Whether a registered family's programs have no constraints, so that these solvers take them."""
    return family in registry.names("families") and isinstance(registry.family(family), UnconstrainedFamily)


def bqm_of(program: Program) -> dimod.BinaryQuadraticModel:
    """The objective of a program without constraints, BINARY over ``0 … n-1``.

    Raises:
        ValueError: the program has constraints, or its variables are not ``0 … n-1``.
    """
    cqm = program.cqm
    if cqm.constraints:
        raise ValueError("this solver takes programs without constraints")
    if list(cqm.variables) != list(range(len(cqm.variables))):
        raise ValueError("the variables of a program are 0 … n-1")
    return QuadraticForm.of(cqm).bqm()


def polynomial_of(task: SolveTask) -> dimod.BinaryQuadraticModel:
    """``bqm_of`` the task's program, made once for all solvers of the task; not to be changed."""
    if (known := _MADE.get(task)) is None:
        known = _MADE[task] = bqm_of(task.program)
    return known


def best_of(found: dimod.SampleSet) -> tuple[np.ndarray, float]:
    """The lowest sample as int8 bits in variable order, and its energy."""
    row = int(np.argmin(found.record.energy))
    order = np.argsort(np.asarray(found.variables))
    return (found.record.sample[row][order] > 0).astype(np.int8), float(found.record.energy[row])


#: What ``polynomial_of`` has made, for as long as the task lives.
_MADE: WeakKeyDictionary[SolveTask, dimod.BinaryQuadraticModel] = WeakKeyDictionary()


@dataclass
class Record(Progress):
    """Progress on the binaries of a program.

    Energies are those of the program (minimized); objectives are ``family.evaluate``.
    """

    energy: float = np.inf
    objective: float | None = None

    @property
    def done(self) -> bool:
        """Whether the budget is spent or the proven target reached."""
        return self.left <= 0 or (self.objective is not None and self.task.reached(self.objective))

    def offer(self, assignment: np.ndarray, energy: float, at: float | None = None) -> bool:
        """Keep an assignment (bits in variable order) if its energy is the lowest so far; answers whether it is.

        Args:
            at: seconds since the start when it was found, if not now.
        """
        if not energy < self.energy:
            return False
        solution = self.task.family.complete(self.task.instance, np.asarray(assignment, dtype=np.int8))
        self.energy, self.values, self.objective = float(energy), solution.values, solution.evaluation.objective
        self.trajectory.append((self.elapsed if at is None else at, self.objective))
        return True

    def result(
        self,
        solver: str,
        package: str,
        seed: int,
        evaluations: int,
        *,
        bound: float | None = None,
        proven: bool = False,
    ) -> SolverResult:
        """The result; a heuristic has no bound and no proof.

        Args:
            bound: in the family's sense.
            proven: whether what was found is optimal.
        """
        from importlib.metadata import version

        return SolverResult(
            solver=solver,
            version=f"{package} {version(package)}",
            status="no solution" if self.values is None else "optimal" if proven else "feasible",
            values=self.values,
            objective=self.objective,
            bound=bound,
            seconds=self.elapsed,
            trajectory=tuple(self.trajectory),
            seed=seed,
            evaluations=evaluations,
        )
