"""A program made ready for a backend: whole, narrowed once, or one trip of a walk.

Here: the document that stages 3 to 6 share, and how an instance becomes one. Not here: jobs (``rounds``, ``trips``),
encodings, or the walk's rules (``engine``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets import registry
from hybrid_assets.encodings.arrays import QuadraticForm
from hybrid_assets.encodings.base import EncodedProblem
from hybrid_assets.encodings.narrowing import Narrowed, narrow
from hybrid_assets.encodings.presolve import presolve
from hybrid_assets.problems.base import Instance, ProblemFamily, Program, Reference, Solution
from resources.failures import InputError

if TYPE_CHECKING:
    from hybrid_assets.proposals.trips import Leg

#: The encodings used where the request names none, in order of preference.
ENCODINGS = ("penalty", "quadratized", "discretised")


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


def fits(family: ProblemFamily, instance: Instance, max_variables: int, wanted: str | None = None) -> bool:
    """Whether the whole program encodes to at most ``max_variables`` variables, by the encoding as ``choose`` it.

    Raises:
        InputError: the encoding does not take the program.
    """
    size = family.program_size(instance)
    return size <= max_variables and size + _extra(family.model(instance), max_variables, wanted) <= max_variables


def prepare(
    family: ProblemFamily, instance: Instance, max_variables: int, seed: int, wanted: str | None = None
) -> Prepared:
    """Model an instance, narrow it so that it encodes to at most ``max_variables`` variables, encode it.

    What presolve knows of an unconstrained program is fixed first. Where even one variable needs more slack than there
    is room for, that one is kept. ``wanted`` is the encoding's name, as in ``choose``.

    Raises:
        InputError: the instance's program cannot be encoded, or not so.
    """
    program = family.model(instance)
    n = len(program.cqm.variables)
    if n + _extra(program, max_variables, wanted) <= max_variables:
        everything = np.zeros(n)
        whole = Reference(everything.astype(np.int8), everything, "not narrowed")
        return encode(program, narrow(program, whole, n), wanted)
    reference, limit, record = family.reference(instance, program, seed), max_variables, None
    if not (program.cqm.constraints or program.higher):
        presolved = presolve(QuadraticForm.of(program.cqm))
        reference, limit, record = (
            presolved.applied(reference),
            min(limit, max(len(presolved.open), 1)),
            presolved.record,
        )
    narrowed = narrow(program, reference, limit)
    if len(narrowed.kept) + _extra(narrowed.program, max_variables, wanted) > max_variables:
        narrowed = narrow(program, reference, _fitting(narrowed, reference, max_variables, wanted))
    if record is not None:
        narrowed.record["presolve"] = record
    return encode(program, narrowed, wanted)


def _extra(program: Program, max_variables: int, wanted: str | None) -> int:
    """Variables that encoding adds; not asked where the program's own are too many already."""
    if len(program.cqm.variables) > max_variables:
        return 0
    return registry.encoding(choose(program, wanted)).extra_variables(program)


def _fitting(narrowed: Narrowed, reference: Reference, max_variables: int, wanted: str | None) -> int:
    """How many variables can be kept so that they fit together with what encoding adds; at least 1."""
    inner = Reference(reference.assignment[narrowed.kept], reference.priority[narrowed.kept], reference.method)
    fits, too_many = 1, len(narrowed.kept)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        part = narrow(narrowed.program, inner, middle).program
        if middle + _extra(part, max_variables, wanted) <= max_variables:
            fits = middle
        else:
            too_many = middle
    return fits


def again(program: Program, kept: np.ndarray, fixed: np.ndarray, encoding: str) -> Prepared:
    """Encode a program with a narrowing and by an encoding that were decided before.

    Args:
        kept: int64 array of shape ``(q,)``, original variables that stay free.
        fixed: int8 array of shape ``(n,)``, values of the others.
    """
    priority = np.zeros(len(fixed))
    priority[kept] = 1.0
    return encode(program, narrow(program, Reference(fixed, priority, "as decided before"), len(kept)), encoding)


def encode(program: Program, narrowed: Narrowed, wanted: str | None = None, leg: Leg | None = None) -> Prepared:
    """Encode by the encoding as ``choose`` it.

    Raises:
        InputError: as ``choose``.
    """
    encoding = registry.encoding(choose(narrowed.program, wanted))
    return Prepared(program, narrowed, encoding.encode(narrowed.program), leg)


def choose(program: Program, wanted: str | None) -> str:
    """Name of the encoding: the one that is wanted, else the first of ``ENCODINGS`` that takes the program.

    Raises:
        InputError: there is none of this name, or it does not take the program; or none does.
    """
    for name in ENCODINGS if wanted is None else (wanted,):
        if registry.encoding(name).accepts(program):
            return name
    raise InputError(
        program.form,
        "constraints",
        f"none of the encodings {', '.join(ENCODINGS)} can express them"
        if wanted is None
        else f"the encoding {wanted} cannot express the program",
        "use linear constraints with integer coefficients"
        if wanted is None
        else "ask for another encoding or for none",
    )
