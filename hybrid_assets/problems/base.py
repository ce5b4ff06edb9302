"""The ``ProblemFamily`` seam and the documents that pass through it.

Here: ``Instance`` (normalized input), ``Program`` (mathematical program), ``Solution`` and the abstract family. Not
here: any single family, encodings, solvers.
"""

from __future__ import annotations

import hashlib
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from hybrid_assets.problems.source import SourceFile
from resources.envelope import PostProcessing, canonical_json

if TYPE_CHECKING:
    import dimod
    from matplotlib.figure import Figure

    from hybrid_assets.problems.landscape import Landscape

Sense = Literal["min", "max"]

#: Largest whole program that a family builds; above it only sub-programs exist.
PROGRAM_VARIABLES = 5_000


class FamilyOptions(BaseModel):
    """Base of a family's options (``constraints:`` in the YAML beside a file, ``--set`` on the command line)."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Instance:
    """A normalized, validated instance: what is replayed on any backend.

    Attributes:
        family: name of its family.
        name: short name, for people.
        size: number of decision variables.
        sense: whether the objective in business terms is minimized or maximized.
        arrays: numeric content, float64 or int64 arrays; all finite.
        settings: options and constraints in force, JSON-able.
        labels: one name per decision variable.
        notes: what normalization found and did, one sentence each.
    """

    family: str
    name: str
    size: int
    sense: Sense
    arrays: Mapping[str, np.ndarray]
    settings: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content (not of name or notes): equal content, equal digest."""
        state = hashlib.sha256(
            canonical_json([self.family, self.size, self.sense, dict(self.settings), self.labels]).encode()
        )
        for key in sorted(self.arrays):
            array = np.ascontiguousarray(self.arrays[key])
            state.update(f"{key}:{array.dtype.str}:{array.shape}".encode())
            state.update(array.tobytes())
        return state.hexdigest()

    def to_bytes(self) -> bytes:
        """A self-contained ``.npz`` document, the same bytes for the same content."""
        document = {k: getattr(self, k) for k in ("family", "name", "size", "sense", "labels", "notes")}
        document["settings"] = dict(self.settings)
        buffer = io.BytesIO()
        text = np.frombuffer(canonical_json(document).encode(), dtype=np.uint8)
        members: dict[str, Any] = {"__document__": text, **dict(sorted(self.arrays.items()))}
        np.savez_compressed(buffer, **members)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Instance:
        """Inverse of ``to_bytes``."""
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            document = json.loads(stored["__document__"].tobytes().decode())
            arrays = {k: stored[k] for k in stored.files if k != "__document__"}
        document["labels"], document["notes"] = tuple(document["labels"]), tuple(document["notes"])
        return cls(arrays=arrays, **document)


@dataclass(frozen=True)
class Program:
    """A mathematical program over binary variables ``0 … n-1``, always minimized.

    Attributes:
        cqm: the dimod container; every variable is binary and named by its integer index.
        form: the name of the model, e.g. ``equal-weight proxy``.
        higher: terms of degree 3 and more that are added to the objective: ascending indices → coefficient. Encodings
            without native support quadratize them.
    """

    cqm: dimod.ConstrainedQuadraticModel
    form: str
    higher: Mapping[tuple[int, ...], float] = field(default_factory=dict)

    def energies(self, assignments: np.ndarray) -> np.ndarray:
        """Objective (constraints apart) of assignments of shape ``(m, n)``; float64, shape ``(m,)``."""
        x = np.asarray(assignments)
        values = np.asarray(self.cqm.objective.energies((x, range(x.shape[1]))), dtype=float)
        for indices, coefficient in self.higher.items():
            values = values + coefficient * x[:, list(indices)].astype(float).prod(axis=1)
        return values

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the serialized program."""
        with self.cqm.to_file() as stored:
            # the zip container carries the time of day, so its members are hashed instead
            import zipfile

            state = hashlib.sha256(self.form.encode())
            if self.higher:
                state.update(canonical_json([[list(k), self.higher[k]] for k in sorted(self.higher)]).encode())
            with zipfile.ZipFile(stored) as archive:
                for member in sorted(archive.namelist()):
                    state.update(member.encode() + archive.read(member))
        return state.hexdigest()


@dataclass(frozen=True)
class Evaluation:
    """Business value of a solution: the objective in the family's sense, and named violations (name → amount)."""

    objective: float
    violations: Mapping[str, float] = field(default_factory=dict)

    @property
    def feasible(self) -> bool:
        """Whether nothing is violated."""
        return not self.violations


def no_bits(values: np.ndarray) -> dict[str, float]:
    """The violation of families whose values are bits: how many of them are neither 0 nor 1; empty if none."""
    given = np.asarray(values)
    count = int(np.count_nonzero((given != 0) & (given != 1)))
    return {"values that are no bits": float(count)} if count else {}


@dataclass(frozen=True)
class Solution:
    """A solution in the family's own terms.

    Attributes:
        values: array of shape ``(instance.size,)`` (bits for graphs and QUBO, weights for a portfolio).
        evaluation: its value and violations.
        post_processing: ``raw`` when no bit was changed classically, else what was done.
    """

    values: np.ndarray
    evaluation: Evaluation
    post_processing: PostProcessing = PostProcessing.RAW


@dataclass(frozen=True)
class Reference:
    """A cheap classical point for narrowing.

    Attributes:
        assignment: int8 array of shape ``(n,)``: the value of every program variable.
        priority: float array of shape ``(n,)``: higher means more worth deciding by quantum samples.
        method: how both were found, in words, for the audit.
    """

    assignment: np.ndarray
    priority: np.ndarray
    method: str


class ProblemFamily(ABC):
    """One kind of problem. Stateless; one instance per process. See ``tests/conformance`` for what must hold."""

    #: Registered name, the first part of an instance's key.
    name: ClassVar[str]
    #: Raise when the same input would normalize, model or score differently.
    version: ClassVar[str]
    #: One sentence for people and for error messages.
    title: ClassVar[str]
    #: The options the family understands.
    options: ClassVar[type[FamilyOptions]]
    #: At most this many distinct candidates per round are completed and scored (best energies first).
    scored_candidates: ClassVar[int] = 200
    #: How gaps are measured: ``normalized`` (by random mean - reference) where the objective crosses zero.
    gap_kind: ClassVar[Literal["relative", "normalized"]] = "relative"
    #: Relative difference of two objectives that counts as none (weights from a QP need more than integers).
    tolerance: ClassVar[float] = 1e-9
    #: Rounds of quantum jobs (1 unless ``refine`` does something).
    rounds: ClassVar[int] = 1
    #: Whether the program's optimum is the family's, so that a bound on one bounds the other: no assignment's solution
    #: is worse than its energy, and no solution's own assignment costs more than the solution. ``False``: a proxy.
    exact_program: ClassVar[bool] = True

    @abstractmethod
    def recognises(self, source: SourceFile) -> bool:
        """Whether the file's content (never its name) can be one of this family's formats. Cheap; raises nothing."""

    @abstractmethod
    def read(self, source: SourceFile) -> Sequence[Any]:
        """Parse a file into raw instances (most formats hold one).

        Raises:
            InputError: names the line or column and the fix.
        """

    @abstractmethod
    def normalize(self, raw: Any, options: FamilyOptions, name: str) -> Instance:
        """Validate and type one raw instance; the result's ``settings`` hold all options in force.

        Raises:
            InputError: semantic problems (not symmetric, K > N, non-finite …).
        """

    @abstractmethod
    def model(self, instance: Instance) -> Program:
        """The program whose low-energy points are good candidates, minimized."""

    @abstractmethod
    def evaluate(self, instance: Instance, values: np.ndarray) -> Evaluation:
        """Score a solution in business terms; never repairs."""

    @abstractmethod
    def complete(self, instance: Instance, assignment: np.ndarray) -> Solution:
        """Turn an assignment of the program's variables (int8 array, shape ``(n,)``) into a solution.

        Repairs what the encoding could not guarantee and says so in ``post_processing``.
        """

    @abstractmethod
    def assignment(self, instance: Instance, values: np.ndarray) -> np.ndarray:
        """The program assignment (int8, shape ``(n,)``) behind a solution; ``complete`` of it is no worse."""

    @abstractmethod
    def reference(self, instance: Instance, program: Program, seed: int) -> Reference:
        """A cheap classical point and the variables worth keeping, for instances above the qubit budget."""

    @abstractmethod
    def random_assignments(
        self, instance: Instance, count: int, seed: int, free: np.ndarray | None = None, base: np.ndarray | None = None
    ) -> np.ndarray:
        """Uniformly random feasible assignments, int8 array of shape ``(count, n)``: the control arm.

        Args:
            free: variables that may vary (default: all); the others have their value in ``base``.
        """

    def refine(self, instance: Instance, round_: int, solutions: Sequence[Solution]) -> Program | None:
        """The program of round ``round_`` (1, 2, …) given the solutions so far, best first; ``None`` ends."""
        return None

    def program_size(self, instance: Instance) -> int:
        """Binaries of ``model(instance)``, told without building it where that would be large."""
        return len(self.model(instance).cqm.variables)

    def landscape(self, instance: Instance) -> Landscape | None:
        """The instance as the proposal engine walks it; ``None``: it is narrowed once instead.

        A family with a landscape may refuse to ``model`` an instance whose program would be too large to hold (above
        ``PROGRAM_VARIABLES``), with an ``InputError`` that says so; everything else works on it all the same.
        """
        return None

    @abstractmethod
    def baselines(self, instance: Instance) -> Sequence[str]:
        """Names of the registered classical solvers for this instance, in running order."""

    @abstractmethod
    def constraints(self, instance: Instance) -> Mapping[str, Any]:
        """The constraints extracted at normalization, JSON-able, for the table and for people."""

    def told(self, instance: Instance, values: np.ndarray) -> list[str]:
        """A solution in words, one part each: what is chosen, or what every label got; weights of 0 are left out."""
        pairs = list(zip(instance.labels, np.asarray(values).tolist(), strict=True))
        if set(np.unique(values)) <= {0, 1}:
            return [label for label, value in pairs if value]
        weights = not all(float(value).is_integer() for _, value in pairs)
        return [f"{label} = {value:.4g}" for label, value in pairs if value or not weights]

    @abstractmethod
    def plot_instance(self, instance: Instance) -> Figure:
        """A picture of the input's shape."""

    @abstractmethod
    def plot_solution(self, instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
        """A picture of solutions by label (``accepted``, ``quantum``, ``classical``)."""
