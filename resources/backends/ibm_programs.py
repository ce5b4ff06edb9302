"""Estimate and kernel jobs of IBM: what is sent to a device, real or fake, and what is made of the answer.

Expectation values come from ``executor_estimator.Estimator``: one PUB per read-out basis of the program, so that what
runs is what was announced and priced. Overlaps come from the Sampler, all in one PUB. Here: plans, notes and results of
both, and ``planned``, ``sent`` and ``finished``, with which the two backends (``ibm``, ``ibm_local``) do every kind of
job. Not here: sample jobs (``ibm_sampler``), programs and their values (``circuits.pauli``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from resources.backends import ibm_sampler
from resources.backends.base import Estimate
from resources.backends.ibm_sampler import JOB_SECONDS, PACKAGES, SHOT_SECONDS, flipped, sampler
from resources.backends.measuring import noted, reading_again
from resources.backends.program_trip import answer_program, plan_program
from resources.circuits.device import calibration_of, estimate_program, success_probability
from resources.circuits.pauli import PauliStructure, Reading
from resources.circuits.templates import kept, logical_circuit
from resources.envelope import Compilation, EvidenceClass, JobEnvelope, JobResult, PostProcessing, Table, Timings
from resources.failures import BackendError, FailureClass, redacted
from resources.payloads import Payload, reading_of

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.providers import BackendV2


def planned(
    envelope: JobEnvelope, payload: Payload, device: BackendV2, evidence: EvidenceClass, estimator: bool = True
) -> tuple[list[Any], dict[str, Any]]:
    """The PUBs of any job on ``device``, and the JSON-able note from which ``finished`` makes its result.

    Args:
        estimator: estimate jobs go to the Estimator, which reads out all qubits of the device; else to the Sampler.

    Raises:
        BackendError: class ``circuit`` or ``capability``, for a job that the device cannot run.
    """
    if envelope.kind == "sample":
        circuit, note = ibm_sampler.planned(envelope, payload, device, evidence)
        return [circuit], note
    estimating = envelope.kind == "estimate" and estimator
    pubs, note = (_for_estimator if estimating else _for_sampler)(envelope, payload, device)
    mitigation = envelope.algorithm.mitigation
    note |= {
        "evidence": evidence,
        "version": f"{device.name} {device.backend_version or 'of unknown version'}",
        "shots": envelope.algorithm.shots,
    }
    note["result"]["parameters"] |= {
        "device": device.name,
        "primitive": "Estimator" if estimating else "Sampler",
        "dynamical_decoupling": mitigation.dynamical_decoupling,
        "twirling": mitigation.twirling,
    }
    return pubs, note


def sent(
    mode: Any, envelope: JobEnvelope, pubs: Sequence[Any], note: dict[str, Any], tags: Sequence[str] = (),
    seed: int | None = None,
) -> Any:  # fmt: skip
    """The client's job, sent. ``mode`` is a device, a batch or a session; ``pubs`` and ``note`` are of ``planned``;
    ``seed`` is of local mode."""
    estimating = "taken" in note
    primitive = _estimator(mode, envelope, tags) if estimating else sampler(mode, envelope, tags)
    if seed is not None:
        primitive.options.simulator.seed_simulator = seed
    return primitive.run(pubs) if estimating else primitive.run(pubs, shots=envelope.algorithm.shots)


def answered(job: Any, note: dict[str, Any]) -> Any:
    """What a job of the client has answered, in the form that ``finished`` takes: of the Estimator also its bits."""
    if "taken" not in note:
        return job.result()
    from qiskit.primitives import PrimitiveJob
    from qiskit_ibm_runtime.decoders.executor.decoder import ExecutorResultDecoder

    # in local mode nothing is encoded
    return PrimitiveJob.result(job) if isinstance(job, PrimitiveJob) else job.result(decoder=ExecutorResultDecoder)


def finished(name: str, note: dict[str, Any], answer: Any, timings: Timings) -> JobResult:
    """The job document of an answer, for the backend ``name``.

    Args:
        timings: ``execute`` is the device's own; the note adds what was spent here before.

    Raises:
        BackendError: class ``backend``: the answer is not what the note's job asks for, or shots are missing.
    """
    if "reading" not in note:
        return ibm_sampler.finished(name, note, answer, timings)
    result = (_values if "taken" in note else _from_bits)(name, note, answer)
    # reading the answer is not timed: a job that is asked twice has one result
    own = Timings(
        queue=timings.queue,
        compile=note["compile_seconds"],
        execute=timings.execute,
        total=timings.total + note["compile_seconds"],
    )
    return result.model_copy(update={"timings": own})


def estimated(envelope: JobEnvelope, device: BackendV2, queue_seconds: float) -> Estimate:
    """Worst case of the payload; seconds as IBM's guide has them."""
    if envelope.kind == "sample":
        return ibm_sampler.estimated(envelope, device, queue_seconds)
    at = estimate_program("heavy-hex", envelope.payload_variables, envelope.program)
    shots = math.prod(randomized(envelope)) * (envelope.program.circuits + _calibrates(envelope))
    return Estimate(
        queue_seconds=queue_seconds,
        execution_seconds=JOB_SECONDS + SHOT_SECONDS * shots,
        cost=0.0,
        two_qubit_gates=at.two_qubit_gates,
        depth=at.depth,
        logical_two_qubit_gates=at.logical_two_qubit_gates,
        logical_depth=at.logical_depth,
        coupling_map=str(device.name),
    )


def randomized(envelope: JobEnvelope) -> tuple[int, int]:
    """Randomizations of a circuit and shots of each, by the vendor's own rule; one where nothing is twirled."""
    shots = envelope.algorithm.shots
    if not (envelope.algorithm.mitigation.twirling or _calibrates(envelope)):
        return 1, shots
    each = max(64, math.ceil(shots / 32))
    return math.ceil(shots / each), each


def _calibrates(envelope: JobEnvelope) -> bool:
    """Whether one more circuit is read out, to learn the read-out errors (TREX)."""
    return envelope.kind == "estimate" and envelope.algorithm.mitigation.readout


# --- the Estimator --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Compiled:
    """A circuit on the device's qubits that reads out nothing, its angles still free; the rest as of ``Prepared``, with
    a read-out of its qubits counted in."""

    circuit: QuantumCircuit
    layout: tuple[int, ...]
    measured: tuple[int, ...]
    depth: int
    two_qubit_gates: int
    logical_depth: int
    logical_two_qubit_gates: int
    success_probability: float
    calibration: dict[str, Any]


@lru_cache(maxsize=16)
def _compiled(structure: PauliStructure, compilation: Compilation, device: BackendV2) -> _Compiled:
    """Without its read-out, before which the transpiler would leave out what that read-out cannot see.

    Raises:
        BackendError: class ``capability``: too few qubits, or a layout that does not fit; ``circuit``: the transpiler
            fails.
    """
    from qiskit import ClassicalRegister, transpile
    from qiskit.exceptions import QiskitError

    if structure.variables > device.num_qubits:
        raise BackendError(
            f"device {device.name} has {device.num_qubits} qubits, the circuit needs {structure.variables}",
            FailureClass.CAPABILITY,
        )
    logical = logical_circuit(structure).remove_final_measurements(inplace=False)
    layout = None if compilation.layout is None else list(compilation.layout)
    try:
        routed = transpile(
            logical,
            device,
            optimization_level=compilation.optimization_level,
            initial_layout=layout,
            seed_transpiler=compilation.seed,
        )
    except QiskitError as error:
        kind = FailureClass.CIRCUIT if layout is None else FailureClass.CAPABILITY
        raise BackendError(
            f"the circuit could not be compiled for {device.name}, layout {layout}: {redacted(str(error), 300)}", kind
        ) from error
    measured = routed.layout.final_index_layout(filter_ancillas=True)
    read = routed.copy()
    read.add_register(ClassicalRegister(structure.variables))
    read.measure(measured, range(structure.variables))
    return _Compiled(
        circuit=routed,
        layout=tuple(routed.layout.initial_index_layout(filter_ancillas=True)),
        measured=tuple(measured),
        depth=routed.depth(),
        two_qubit_gates=routed.num_nonlocal_gates(),
        logical_depth=logical.depth(),
        logical_two_qubit_gates=logical.num_nonlocal_gates(),
        success_probability=success_probability(read, device.target),
        calibration=calibration_of(device, read),
    )


def _parts(reading: Reading) -> list[list[str]]:
    """Of each basis: the Pauli strings that are read in it. They are asked one by one: of a sum the client leaves out
    what is smaller than 1e-8, and it refuses one of which nothing is left."""
    parts: list[list[str]] = [[] for _ in reading.bases]
    for string, place in reading.places.items():
        parts[place].append(string)
    return parts


def _for_estimator(envelope: JobEnvelope, payload: Payload, device: BackendV2) -> tuple[list[Any], dict[str, Any]]:
    from qiskit.quantum_info import SparsePauliOp

    algorithm = envelope.algorithm
    if algorithm.mitigation.postselect:
        raise BackendError("post-selection is for samples: values need all read-outs", FailureClass.CAPABILITY)
    reading, started = reading_of(envelope, payload), time.perf_counter()
    (first, *_) = reading.measurements
    compiled = _compiled(replace(first.structure, basis="Z" * reading.program.qubits), algorithm.compilation, device)
    rows = first.angles[:, None, kept(compiled.circuit)]
    pubs = [
        (
            compiled.circuit,
            # Qiskit's labels have qubit 0 last
            [SparsePauliOp(string[::-1]).apply_layout(compiled.circuit.layout) for string in part],
            rows,
        )
        for part in _parts(reading)
    ]
    randomizations, each = randomized(envelope)
    note = {
        "envelope_digest": envelope.digest,
        "reading": noted(reading),
        "compile_seconds": time.perf_counter() - started,
        "taken": randomizations * each,
        "measured": compiled.measured,
        "mitigated": _calibrates(envelope),
        "result": {
            "depth": compiled.depth,
            "two_qubit_gates": compiled.two_qubit_gates,
            "logical_depth": compiled.logical_depth,
            "logical_two_qubit_gates": compiled.logical_two_qubit_gates,
            "layout": compiled.layout,
            "success_probability": compiled.success_probability,
            "calibration": compiled.calibration,
            "parameters": {
                "bases": list(reading.bases),
                "randomizations": randomizations,
                "readout_mitigation": "TREX" if _calibrates(envelope) else None,
                "calibration_shots": randomizations * each if _calibrates(envelope) else 0,
            },
        },
    }
    return pubs, note


def _estimator(mode: Any, envelope: JobEnvelope, tags: Sequence[str]) -> Any:
    """The client-side Estimator with the envelope's mitigation and nothing of its own choice."""
    from qiskit_ibm_runtime.executor_estimator import Estimator

    mitigation, (randomizations, each) = envelope.algorithm.mitigation, randomized(envelope)
    options: dict[str, Any] = ibm_sampler.options(envelope, tags) | {
        "resilience_level": 0,
        "default_shots": envelope.algorithm.shots,
        "resilience": {"measure_mitigation": mitigation.readout},
        "twirling": {
            "enable_gates": mitigation.twirling,
            "enable_measure": mitigation.twirling or mitigation.readout,
            "num_randomizations": randomizations,
            "shots_per_randomization": each,
        },
    }
    return Estimator(mode=mode, options=options)


def _values(name: str, note: dict[str, Any], answer: Any) -> JobResult:
    """Values are the Estimator's. Their errors are computed here from the same bits: its own leave out that strings
    read in one basis are correlated, and it does not see that shots are missing."""
    from qiskit_ibm_runtime.decoders.executor_estimator.decoder import ClientSideEstimatorDecoder

    reading = reading_again(note["reading"])
    values, parts = np.zeros(reading.shape), _parts(reading)
    seen: dict[str, np.ndarray] = {}
    try:
        for pub, part in zip(ClientSideEstimatorDecoder.decode(answer), parts, strict=True):
            evs = np.asarray(pub.data.evs, dtype=float)
            if evs.shape != (len(values), len(part)) or not np.isfinite(evs).all():
                raise ValueError(f"numbers of shape {evs.shape}")
            seen |= zip(part, evs.T, strict=True)
        for column, terms in enumerate(reading.program.observables):
            values[:, column] = sum(term.coefficient * seen[term.pauli] for term in terms)
        read = [_bits(item, note) for item in answer]
        bits = [one.transpose(1, 0, 2, 3).reshape(len(values), note["taken"], -1) for one in read[: len(parts)]]
        raw, errors = reading.values(bits)
        if note["mitigated"]:
            # what the randomized read-out of the ground state shows in place of 0
            wrong = read[len(parts)].mean(axis=(0, 1))
            confusion = np.array([[1 - wrong, wrong], [wrong, 1 - wrong]]).transpose(2, 0, 1)
            errors = reading.values(bits, [confusion] * len(parts))[1]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, np.linalg.LinAlgError) as error:
        raise BackendError(
            f"the answer does not hold {reading.shape} values of {note['taken']} shots a circuit "
            f"({redacted(str(error), 300)})",
            FailureClass.BACKEND,
        ) from None
    return JobResult(
        envelope_digest=note["envelope_digest"],
        values=_table(values),
        standard_errors=_table(errors),
        raw_values=_table(raw) if note["mitigated"] else (),
        evidence_class=EvidenceClass(note["evidence"]),
        post_processing=PostProcessing.MITIGATED if note["mitigated"] else PostProcessing.RAW,
        backend=name,
        backend_version=note["version"],
        sdk_versions={package: version(package) for package in PACKAGES},
        width=reading.program.qubits,
        shots=note["taken"] * reading.circuits,
        circuits=reading.circuits,
        **note["result"],
    )


def _bits(item: Any, note: dict[str, Any]) -> np.ndarray:
    """Read-outs of the program's qubits, int8, shape ``(randomizations, …, shots, qubits)``, random flips undone."""
    bits = np.asarray(item["_meas"], dtype=bool)
    if "measurement_flips._meas" in item:
        bits = bits ^ np.asarray(item["measurement_flips._meas"], dtype=bool)
    return bits[..., note["measured"]].astype(np.int8)


def _table(numbers: np.ndarray) -> Table:
    return tuple(map(tuple, numbers.tolist()))


# --- the Sampler ----------------------------------------------------------------------------------------------------


def _for_sampler(envelope: JobEnvelope, payload: Payload, device: BackendV2) -> tuple[list[Any], dict[str, Any]]:
    plan = plan_program(envelope, payload, device)
    pubs: list[tuple[Any, ...]] = []
    for prepared, measurement in zip(plan.prepared, plan.reading.measurements, strict=True):
        if free := kept(prepared.circuit):
            pubs.append((prepared.circuit, measurement.angles[:, free]))
        else:
            # no parameters, no broadcast
            pubs += [(prepared.circuit,)] * len(measurement.angles)
    note = dict(plan.record)
    if note["confusion"] and envelope.algorithm.mitigation.twirling:
        note["confusion"] = [flipped(confusion) for confusion in note["confusion"]]
    return pubs, note


def _from_bits(name: str, note: dict[str, Any], answer: Any) -> JobResult:
    try:
        # Qiskit's registers are little-endian: "little" puts qubit 0 first
        parts = [pub.data.c.to_bool_array(order="little").astype(np.int8) for pub in answer]
        bits = [one for part in parts for one in (part if part.ndim > 2 else [part])]
        if any(one.ndim != 2 or len(one) < note["shots"] for one in bits):
            # more may come: twirling rounds up
            raise ValueError(f"fewer than {note['shots']} shots")
    except (AttributeError, TypeError, ValueError) as error:
        raise BackendError(f"the answer reads out no circuits ({redacted(str(error))})", FailureClass.BACKEND) from None
    return answer_program(
        note,
        bits,
        backend=name,
        version=note["version"],
        sdk_versions={package: version(package) for package in PACKAGES},
        evidence=EvidenceClass(note["evidence"]),
    )
