"""What the routing solvers share: which families they take, and the best solution so far in the family's own terms.

Here: ``is_routing``, ``RoutingRecord``. Not here: any single search. The whole program is never built.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid_assets import registry
from hybrid_assets.problems.routing.cvrp import Cvrp
from hybrid_assets.problems.routing.tsp import Tsp
from hybrid_assets.solvers.search import Record


def is_routing(family: str, *kinds: type[Tsp] | type[Cvrp]) -> bool:
    """Whether a registered family is one of these kinds of routing problems."""
    return family in registry.names("families") and isinstance(registry.family(family), kinds)


@dataclass
class RoutingRecord(Record):
    """A ``Record`` that is offered solutions, not assignments of the program."""

    def keep(self, values: np.ndarray, at: float | None = None) -> bool:
        """Keep a solution if it is feasible and the best so far; answers whether it is.

        Args:
            values: shape ``(instance.size,)``.
            at: seconds since the start when it was found, if not now.
        """
        found = self.task.family.evaluate(self.task.instance, values)
        if not found.feasible or (self.objective is not None and found.objective >= self.objective):
            return False
        self.values, self.objective = np.array(values, dtype=np.int64), found.objective
        self.trajectory.append((self.elapsed if at is None else at, found.objective))
        return True
