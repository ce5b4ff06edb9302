"""The ``Encoding`` seam: program → quantum-ready form, back again, and the audit of what was done.

Here: the documents and the abstract encoding. Not here: narrowing to the qubit budget (``narrowing``) or any single
encoding.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

if TYPE_CHECKING:
    import dimod

    from hybrid_assets.problems.base import Program

Verdict = Literal["proven", "no counter-example", "refuted", "not needed"]


@dataclass(frozen=True)
class EncodedProblem:
    """A program in quantum-ready form.

    Attributes:
        encoding: registered name of the encoding.
        version: its version.
        bqm: BINARY quadratic model over ``0 … q-1``; energy = program objective + penalties, offset kept.
        program_variables: number of program variables that ``decode`` returns.
        penalty_weight: weight of constraint violations, ``None`` without constraints.
        detail: what ``decode`` needs beyond the model, JSON-able. ``groups``, where it is there, are disjoint lists of
            variables of which the sampler must keep exactly one at 1: the energies say nothing outside.
    """

    encoding: str
    version: str
    bqm: dimod.BinaryQuadraticModel
    program_variables: int
    penalty_weight: float | None
    detail: dict[str, Any]

    def payload(self) -> bytes:
        """The model in dimod's own file format: what crosses the boundary to a backend."""
        with self.bqm.to_file() as stored:
            return stored.read()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of payload, encoding and version."""
        state = hashlib.sha256(f"{self.encoding}:{self.version}:".encode())
        state.update(self.payload())
        return state.hexdigest()


@dataclass(frozen=True)
class EncodingAudit:
    """What was checked about an encoding.

    Attributes:
        variables: variables of the model. interactions: quadratic terms. density: share of possible pairs.
        penalty_weight: as encoded. penalty_verdict: whether an infeasible state can undercut every feasible one.
        penalty_evidence: in words, how the verdict was reached (bound, enumeration, samples; the state if refuted).
        round_trips: random assignments for which decode(encode(x)) = x and energy = objective + penalty was checked.
        feasible_share: share of uniformly random states that satisfy all constraints, measured.
        coefficient_range: largest over smallest non-zero absolute coefficient.
        discretisation_error: the most that rounding takes from a constraint, in its own units; 0 where nothing is lost.
        auxiliary_variables: the model's variables beyond the program's (slack, products); negative where it has fewer.
        native_terms: terms of degree 2 and more of the program itself, beside the model's ``interactions``.
        preparation_depth: layers of two-qubit gates that prepare the start state, for encodings with ``groups``.
        leakage: share of raw shots outside the groups, where somebody has measured it (``samples.leakage``).
    """

    variables: int
    interactions: int
    density: float
    penalty_weight: float | None
    penalty_verdict: Verdict
    penalty_evidence: str
    round_trips: int
    feasible_share: float
    coefficient_range: float
    discretisation_error: float = 0.0
    auxiliary_variables: int = 0
    native_terms: int = 0
    preparation_depth: int | None = None
    leakage: float | None = None


class Encoding(ABC):
    """Program → BINARY quadratic model and back. Stateless."""

    name: ClassVar[str]
    version: ClassVar[str]
    #: Exact encodings preserve the optimum; approximate ones need not.
    exact: ClassVar[bool]

    @abstractmethod
    def accepts(self, program: Program) -> bool:
        """Whether this encoding can express the program."""

    @abstractmethod
    def encode(self, program: Program) -> EncodedProblem:
        """Encode; deterministic."""

    def extra_variables(self, program: Program) -> int:
        """Variables that the encoding adds to the program's own; negative where it needs fewer."""
        return self.encode(program).bqm.num_variables - len(program.cqm.variables)

    def expresses(self, program: Program, assignments: np.ndarray) -> np.ndarray:
        """Which assignments, shape ``(m, n)``, have bits of their own; bool, shape ``(m,)``.

        All feasible ones do. An encoding without room for others says so here.
        """
        return np.ones(len(assignments), dtype=bool)

    @abstractmethod
    def embed(self, encoded: EncodedProblem, assignment: np.ndarray) -> np.ndarray:
        """The lowest-energy bits (int8, shape ``(q,)``) of a program assignment (int8, shape ``(n,)``)."""

    @abstractmethod
    def decode(self, encoded: EncodedProblem, bits: np.ndarray) -> np.ndarray:
        """Bits (int8, shape ``(q,)``) → program assignment (int8, shape ``(n,)``)."""

    @abstractmethod
    def audit(self, program: Program, encoded: EncodedProblem, seed: int) -> EncodingAudit:
        """Check the encoding against the program.

        Raises:
            InvariantError: a round trip or an energy does not agree.
        """
