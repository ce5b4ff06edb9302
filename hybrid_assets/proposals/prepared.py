"""A program made ready for a backend: whole, narrowed once, or one trip of a walk.

Here: the document that stages 3 to 6 share, and how an instance becomes one. Not here: jobs (``rounds``, ``trips``),
encodings, or the walk's rules (``engine``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets import registry
from hybrid_assets.encodings.base import EncodedProblem
from hybrid_assets.encodings.narrowing import Narrowed, narrow
from hybrid_assets.problems.base import Instance, ProblemFamily, Program, Reference, Solution
from resources.failures import InputError

if TYPE_CHECKING:
    from hybrid_assets.proposals.trips import Leg

#: The encodings used where the request names none, in order of preference.
ENCODINGS = ("penalty", "quadratized")


@dataclass(frozen=True)
class Prepared:
    """A program made ready: narrowed to the qubit budget and encoded.

    Attributes:
        program: the whole program, or the sub-programs of one trip.
        narrowed: what is left of it to decide; everything for a trip.
        encoded: its quantum-ready form.
        leg: for a trip, what its samples are put into.
    """

    program: Program
    narrowed: Narrowed
    encoded: EncodedProblem
    leg: Leg | None = None

    @property
    def partial(self) -> bool:
        """Whether part of the instance is fixed classically."""
        return self.leg is not None or self.narrowed.narrowed

    def solution(self, family: ProblemFamily, instance: Instance, assignment: np.ndarray) -> Solution:
        """What an assignment of the variables that are decided (int8, shape ``(q,)``) means."""
        if self.leg is not None:
            return self.leg.solution(family, instance, assignment)
        return family.complete(instance, self.narrowed.lift(assignment))


def prepare(family: ProblemFamily, instance: Instance, max_variables: int, seed: int) -> Prepared:
    """Model an instance, narrow it to at most ``max_variables`` variables, encode it.

    Raises:
        InputError: the instance's program cannot be encoded.
    """
    program = family.model(instance)
    if len(program.cqm.variables) > max_variables:
        reference = family.reference(instance, program, seed)
    else:
        everything = np.zeros(len(program.cqm.variables))
        reference = Reference(everything.astype(np.int8), everything, "not narrowed")
    return encode(program, narrow(program, reference, max_variables))


def again(program: Program, kept: np.ndarray, fixed: np.ndarray) -> Prepared:
    """Encode a program with a narrowing that was decided before.

    Args:
        kept: int64 array of shape ``(q,)``, original variables that stay free.
        fixed: int8 array of shape ``(n,)``, values of the others.
    """
    priority = np.zeros(len(fixed))
    priority[kept] = 1.0
    return encode(program, narrow(program, Reference(fixed, priority, "as decided before"), len(kept)))


def encode(program: Program, narrowed: Narrowed, leg: Leg | None = None) -> Prepared:
    """Encode with the first encoding that takes the program.

    Raises:
        InputError: none does.
    """
    for name in ENCODINGS:
        if name in registry.names("encodings") and (encoding := registry.encoding(name)).accepts(narrowed.program):
            return Prepared(program, narrowed, encoding.encode(narrowed.program), leg)
    raise InputError(
        program.form,
        "constraints",
        f"none of the encodings {', '.join(ENCODINGS)} can express them",
        "use linear constraints with integer coefficients",
    )
