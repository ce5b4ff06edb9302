"""The job contract: ``JobEnvelope`` goes out, ``JobResult`` comes back; both frozen, versioned and hashed.

Here: the two documents, the evidence classes and their digests. Not here: states of a job (``ledger``), who runs it
(``dispatcher``), or what a payload means (``hybrid_assets.encodings``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Any, Final, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION: Final = "4"
#: Algorithms that are QAOA circuits.
QAOA: Final = ("qaoa-ramp", "qaoa-trained", "qaoa-library")
#: The algorithm of ``estimate`` and ``kernel`` jobs: the circuits of the payload (``circuits.pauli``), read out.
PAULI: Final = "pauli-rotations"
JobKind = Literal["sample", "estimate", "kernel"]
KINDS: Final[tuple[JobKind, ...]] = get_args(JobKind)
#: Parameter of a result: what was asked and a fallback did without (``delivery.left_out``).
LEFT_OUT: Final = "left_out"
#: Below this estimated success probability a result is labelled noise-dominated.
NOISE_DOMINATED: Final = 0.05


class EvidenceClass(StrEnum):
    """What kind of machine produced a row; it travels with every row and is never raised."""

    HARDWARE = "hardware"
    EMULATOR = "emulator"
    SIMULATOR = "simulator"
    SURROGATE = "surrogate"
    CLASSICAL = "classical"

    @property
    def is_quantum(self) -> bool:
        """Whether a row of this class may fill ``best_quantum``."""
        return self in (EvidenceClass.HARDWARE, EvidenceClass.EMULATOR, EvidenceClass.SIMULATOR)


class PostProcessing(StrEnum):
    """What was done to a sample classically after it was read out."""

    RAW = "raw"
    MITIGATED = "mitigated"
    POSTSELECTED = "postselected"
    REPAIRED = "repaired"
    POLISHED = "polished"


def canonical_json(document: Any) -> str:
    """JSON with sorted keys, no blanks and no NaN: equal documents have equal text."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest_of(document: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of ``document``."""
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()


class Frozen(BaseModel):
    """A document that cannot change, knows no unknown field and holds only finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TimeoutBudget(Frozen):
    """Seconds a job may spend waiting, executing, and in all."""

    queue: float = Field(gt=0, default=60.0)
    execution: float = Field(gt=0, default=60.0)
    total: float = Field(gt=0, default=120.0)

    @model_validator(mode="after")
    def _total_covers(self) -> TimeoutBudget:
        if self.total < max(self.queue, self.execution):
            raise ValueError("total must be at least as long as queue and as execution")
        return self


class Compilation(Frozen):
    """How a circuit is fitted to a device; ignored by machines without a topology.

    Attributes:
        optimization_level: the transpiler's effort.
        layout: physical qubit of each variable, or ``None``: the transpiler chooses.
        seed: of the transpiler.
    """

    optimization_level: Literal[0, 1, 2, 3] = 2
    layout: tuple[int, ...] | None = None
    seed: int = Field(default=0, ge=0, lt=2**32)


class Mitigation(Frozen):
    """Error mitigation and suppression asked of a device; what a backend does not offer it refuses (``capability``).

    Attributes:
        readout: read-out mitigation of expectations and of training energies; candidates stay raw samples.
        dynamical_decoupling: pulse sequence on idle qubits, by the vendor's name.
        twirling: Pauli twirling of gates and read-out.
        postselect: drop shots that violate a symmetry of the encoding; the dropped ones are charged.
    """

    readout: bool = False
    dynamical_decoupling: str | None = None
    twirling: bool = False
    postselect: bool = False


class Algorithm(Frozen):
    """The quantum (or surrogate) algorithm and everything that changes its answer.

    ``qaoa-ramp``: linear-ramp QAOA; the ramp length (where the phase ramp ends, in units of
    1/sqrt((Σh² + ΣJ²)/independent parts)) is chosen from ``ramp_lengths`` by the CVaR of ``tuning_shots`` shots each.
    ``qaoa-trained``: the ramp's angles are the start of a derivative-free training on the CVaR.
    ``qaoa-library``: as ``qaoa-ramp``, with stored schedules of problems that look alike beside the ramps.
    ``annealing``: a dimod sampler. ``descent``: a classical heuristic, at the end of a fallback chain.
    ``pauli-rotations``: the payload's own circuits, ``shots`` read-outs of each; what chooses angles is not used.
    """

    name: Literal["qaoa-ramp", "qaoa-trained", "qaoa-library", "annealing", "descent", "pauli-rotations"] = "qaoa-ramp"
    #: 2: a program of independent parts has the angles of an average part
    version: str = "2"
    depth: int = Field(default=5, ge=1, le=20)
    ramp_lengths: tuple[float, ...] = (2.0, 4.0, 6.0, 8.0, 12.0)
    shots: int = Field(default=1024, ge=1, le=1_000_000)
    tuning_shots: int = Field(default=256, ge=10, le=100_000)
    training_circuits: int = Field(default=40, ge=0, le=10_000)
    cvar_alpha: float = Field(default=0.1, gt=0, le=1)
    #: where angles are chosen: on the backend where it can be asked again and again, or on the local kernel in any case
    tuning: Literal["device", "local"] = "device"
    seed: int = Field(default=0, ge=0, lt=2**32)
    #: disjoint groups of variables of which every read-out has exactly one at 1; energies say nothing outside. They ask
    #: for XY mixers on W states
    groups: tuple[tuple[int, ...], ...] = ()
    compilation: Compilation = Compilation()
    mitigation: Mitigation = Mitigation()

    @model_validator(mode="after")
    def _disjoint(self) -> Algorithm:
        members = [variable for group in self.groups for variable in group]
        if len(set(members)) < len(members) or not all(self.groups) or min(members, default=0) < 0:
            raise ValueError("groups must be disjoint, not empty, and name variables from 0")
        return self


class ProgramSize(Frozen):
    """What there is to run for an estimate or kernel job, so that it can be priced without its payload.

    Attributes:
        circuits: each of which is read out ``shots`` times.
        rotations: of one circuit.
        two_qubit_gates: of one circuit, before it is fitted to a device.
    """

    circuits: int = Field(default=1, ge=1)
    rotations: int = Field(default=0, ge=0)
    two_qubit_gates: int = Field(default=0, ge=0)


class JobEnvelope(Frozen):
    """One immutable job. Its ``digest`` names it; its ``idempotency_key`` says what counts as the same job."""

    schema_version: Literal["4"] = SCHEMA_VERSION
    correlation_id: str
    purpose: str
    owner: str
    problem_type: str
    instance: str
    input_digest: str
    encoding: str
    encoding_digest: str
    payload_ref: str
    #: variables of a model, qubits of a program
    payload_variables: int = Field(ge=1)
    #: of an estimate or kernel job
    program: ProgramSize = Field(default_factory=ProgramSize)
    kind: JobKind = "sample"
    algorithm: Algorithm
    backend: str
    #: which of the backend's machines its settings named; "" where there is one, or the backend chooses
    device: str = ""
    #: of the answer: shots and variables, rows and observables, or rows and rows
    expected_shape: tuple[int, int]
    timeout: TimeoutBudget = TimeoutBudget()
    fallback: tuple[str, ...] = ()
    priority: int = 0
    sensitivity: Literal["public", "internal", "confidential"] = "internal"
    #: most this job may cost, in the policy's currency; ``None``: the policy's budgets alone decide
    cost_ceiling: float | None = Field(default=None, ge=0)
    #: ``high`` waits for an approval where the policy says so
    impact: Literal["routine", "high"] = "routine"
    #: version of the routing policy that chose ``backend`` and ``fallback``
    policy_version: str = ""
    #: digest of the envelope that this one repeats
    replay_of: str | None = None
    repetition: int = Field(default=0, ge=0)
    #: jobs of the instance at most, rounds or trips, that share its money and one approval
    jobs: int = Field(default=1, ge=1)
    #: Iterative families send several rounds; each later one names the envelope it follows.
    round: int = Field(default=0, ge=0)
    parent_digest: str | None = None
    tags: dict[str, str] = {}

    @model_validator(mode="after")
    def _kind_has_its_algorithm(self) -> JobEnvelope:
        if (self.kind == "sample") is (self.algorithm.name == PAULI):
            raise ValueError(f"kind {self.kind!r} does not go with algorithm {self.algorithm.name!r}")
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's; the copy is digested anew."""
        copy = super().model_copy(update=update, deep=deep)
        for name in ("digest", "idempotency_key"):
            copy.__dict__.pop(name, None)
        return copy

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of the whole envelope, correlation id apart.

        The correlation id names one request; the same job asked for twice is still the same job.
        """
        return digest_of(self.model_dump(mode="json", exclude={"correlation_id"}))

    @cached_property
    def idempotency_key(self) -> str:
        """Digest of problem, algorithm and its version, backend, shots, seed and repetition (design §4)."""
        return digest_of(
            {
                "payload": self.payload_ref,
                "kind": self.kind,
                "algorithm": self.algorithm.model_dump(mode="json"),
                "backend": self.backend,
                "device": self.device,
                "execution": self.timeout.execution,
                "repetition": self.repetition,
            }
        )


class SampleCount(Frozen):
    """One distinct read-out: bits in variable order (variable 0 first), its energy and how often it was seen."""

    bits: str
    energy: float
    count: int = Field(ge=1)


class Timings(Frozen):
    """Seconds, kept apart: waiting, compiling, executing, reading out, and what the caller saw."""

    queue: float = 0.0
    compile: float = 0.0
    execute: float = 0.0
    post_process: float = 0.0
    total: float = 0.0


class Hop(Frozen):
    """One step of a fallback path: who was left, for whom, and why."""

    backend: str
    failure_class: str
    reason: str
    next_backend: str | None = None


#: Rows of numbers, all of the same length.
Table = tuple[tuple[float, ...], ...]


class JobResult(Frozen):
    """What came back: counted samples with energies, or values, and everything needed to judge them.

    Attributes:
        samples: of a sample job.
        values: of an estimate job, one row per state and one column per observable; of a kernel job, the overlaps.
        standard_errors: of the values, from the scatter of the shots alone.
        raw_values: before read-out mitigation, where there was some.
    """

    schema_version: Literal["4"] = SCHEMA_VERSION
    envelope_digest: str
    samples: tuple[SampleCount, ...] = ()
    values: Table = ()
    standard_errors: Table = ()
    raw_values: Table = ()
    evidence_class: EvidenceClass
    post_processing: PostProcessing = PostProcessing.RAW
    cached: bool = False
    backend: str
    backend_version: str
    sdk_versions: dict[str, str]
    width: int
    depth: int
    two_qubit_gates: int
    shots: int
    #: Shots and circuits spent on choosing or training parameters: charged to the budget like the final ones.
    tuning_shots: int = 0
    circuits: int = 1
    #: Shots dropped by post-selection: charged, not counted in ``shots``.
    discarded_shots: int = Field(default=0, ge=0)
    #: The circuit before it was fitted to the device; ``depth`` and ``two_qubit_gates`` are those after.
    logical_depth: int | None = None
    logical_two_qubit_gates: int | None = None
    #: Physical qubit of each variable, where there is a topology.
    layout: tuple[int, ...] | None = None
    #: Estimated success probability: product of gate and read-out fidelities and idle decay, a fidelity proxy.
    success_probability: float | None = Field(default=None, ge=0, le=1)
    #: ⟨C⟩ of the final circuit as sampled and after read-out mitigation; quasi-probabilities are never candidates.
    expectation_raw: float | None = None
    expectation_mitigated: float | None = None
    parameters: dict[str, Any] = {}
    #: Best raw energy of each independent whole run; filled by trained and iterative algorithms.
    run_energies: tuple[float, ...] = ()
    timings: Timings = Timings()
    calibration: dict[str, Any] | None = None
    estimated_cost: float = 0.0
    actual_cost: float = 0.0
    attempts: int = 1
    fallback_path: tuple[Hop, ...] = ()

    @property
    def noise_dominated(self) -> bool:
        """Whether most of what was read out is noise, by the fidelity proxy."""
        return self.success_probability is not None and self.success_probability < NOISE_DOMINATED

    @model_validator(mode="after")
    def _coherent(self) -> JobResult:
        if bool(self.samples) is bool(self.values):
            raise ValueError("a result has either samples or values")
        if self.values:
            tables = [self.values, self.standard_errors, *([self.raw_values] if self.raw_values else [])]
            if len({tuple(map(len, table)) for table in tables}) > 1 or len(set(map(len, self.values))) > 1:
                raise ValueError("values, their errors and raw values must be tables of one shape")
            return self
        if self.standard_errors or self.raw_values:
            raise ValueError("samples have no standard errors and no raw values")
        if sum(s.count for s in self.samples) != self.shots:
            raise ValueError("the samples' counts must add up to shots")
        if any(len(s.bits) != self.width or set(s.bits) - {"0", "1"} for s in self.samples):
            raise ValueError("every sample must have one bit per variable")
        if len({s.bits for s in self.samples}) != len(self.samples):
            raise ValueError("every read-out must be listed once, with its count")
        return self
