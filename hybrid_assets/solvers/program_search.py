"""What the generic solvers on programs share: the warm start, the best answer with its trajectory, and what a bound on
the program is worth to the family.

Here: ``ProgramSearch``. Not here: the linear form of the program (``linearized``), or any solver.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hybrid_assets import registry
from hybrid_assets.solvers.base import Progress, SolverResult, Status
from hybrid_assets.solvers.linearized import Linearized
from resources.failures import InputError

#: Relative gap below which solution and bound are the same number, for families that ask for no coarser one.
CLOSED = 1e-9
#: By how much a bound may pass a solution for the tolerances of floating-point solvers; more is a contradiction.
ROUNDING = 1e-6
#: Products and rows that are put into a model between two looks at the clock.
EVERY = 1_000


def takes_programs(family: str) -> bool:
    """Whether the program of a registered family is its whole problem: not where later rounds rewrite it."""
    return family in registry.names("families") and registry.family(family).rounds == 1


@dataclass
class ProgramSearch(Progress):
    """Progress on any program: the best feasible solution so far.

    Energies are those of the program (minimized); objectives are ``family.evaluate`` of the completed assignment.
    """

    seed: int
    objective: float | None = None
    bits: np.ndarray | None = None
    scale: float = 0.0
    seen: set[bytes] = field(default_factory=set)

    @property
    def done(self) -> bool:
        """Whether the budget is spent or the proven target reached."""
        return self.left <= 0 or (self.objective is not None and self.task.reached(self.objective))

    @property
    def late(self) -> bool:
        """Whether half the budget is gone: no time to solve what is not built by then."""
        return self.left < self.budget / 2

    @property
    def sign(self) -> float:
        """Minus one where the family maximizes."""
        return -1.0 if self.task.instance.sense == "max" else 1.0

    def offer(self, bits: np.ndarray) -> None:
        """Complete an assignment (shape ``(n,)``) and keep it if it is feasible and the best so far."""
        bits = np.asarray(bits, dtype=np.int8)
        if bits.tobytes() in self.seen:
            return
        self.seen.add(bits.tobytes())
        solution = self.task.family.complete(self.task.instance, bits)
        found = solution.evaluation
        if not found.feasible or (
            self.objective is not None and self.sign * found.objective >= self.sign * self.objective
        ):
            return
        self.objective, self.values, self.bits = found.objective, solution.values, bits
        self.trajectory.append((self.elapsed, found.objective))

    def linearized(self) -> Linearized | None:
        """The program, after its family's cheap reference point was offered; ``None`` when no time is left.

        Raises:
            InputError: the program would be too large to hold.
        """
        program = self.task.program
        try:
            reference = self.task.family.reference(self.task.instance, program, self.seed)
        except InputError:
            # nothing feasible at hand: the search starts cold
            pass
        else:
            self.offer(reference.assignment)
        if self.done:
            return None
        linear = Linearized.of(program)
        self.scale = float(np.abs(linear.cost).max(initial=0.0))
        return linear

    def hint(self, program: Linearized) -> np.ndarray | None:
        """A point of the linear program (shape of ``cost``) behind the best solution so far."""
        if self.values is None:
            return None
        return program.lifted(self.task.family.assignment(self.task.instance, self.values))

    def result(
        self,
        solver: str,
        version: str,
        *,
        bound: float | None,
        infeasible: bool = False,
        evaluations: int = 0,
    ) -> SolverResult:
        """The result, with what the family may claim.

        Args:
            bound: proven lower bound on the program's energy.
            infeasible: proven that no assignment satisfies the program.
        """
        family = self.task.family
        status: Status = "no solution" if self.values is None else "feasible"
        if not family.exact_program or bound is None or not np.isfinite(bound):
            # what is proven about a proxy is not proven about the problem
            bound = None
        if self.objective is not None and bound is not None:
            energy = self.sign * self.objective
            size = max(abs(energy), self.scale)
            if bound > energy + ROUNDING * size:
                bound = None
            elif energy - bound <= max(CLOSED, family.tolerance) * size:
                status, bound = "optimal", energy
        if self.values is None and infeasible and family.exact_program:
            status, bound = "infeasible", None
        return SolverResult(
            solver=solver,
            version=version,
            status=status,
            values=self.values,
            objective=self.objective,
            bound=None if bound is None else self.sign * bound,
            seconds=self.elapsed,
            trajectory=tuple(self.trajectory),
            seed=self.seed,
            evaluations=evaluations,
        )
