"""One trip to a device: what is decided about a QAOA job before it is sent, and the result made from its bits.

Here: the ``plan`` of a job (angles, compiled circuit, a JSON-able record) and ``answer``, which needs only that record
and the bits, so that another process can ask for the result. Not here: sending (each backend's own) or compiling
(``resources.circuits.device``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resources.backends.readout import counted
from resources.circuits.checkpoint import resumable
from resources.circuits.device import Prepared, prepare, tune
from resources.circuits.ising import Ising
from resources.circuits.mitigation import confusion_of, declared_symmetry, mitigated_expectation, postselected
from resources.circuits.qaoa import Angles, choose_angles
from resources.circuits.templates import Template
from resources.envelope import EvidenceClass, JobEnvelope, JobResult, PostProcessing, Timings
from resources.payloads import Payload, model_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from qiskit import QuantumCircuit
    from qiskit.providers import BackendV2


@dataclass(frozen=True)
class Plan:
    """What is sent, and what is remembered.

    Attributes:
        prepared: the compiled circuit; its angles are free.
        angles: one row of ``Ising.angles``, shape ``(parameters,)``.
        record: JSON-able, all that ``answer`` needs; no secret is in it.
    """

    prepared: Prepared
    angles: np.ndarray
    record: dict[str, Any]

    @property
    def circuit(self) -> QuantumCircuit:
        """The compiled circuit with its angles."""
        return self.prepared.bind(self.angles)


def plan(
    envelope: JobEnvelope,
    payload: Payload,
    device: BackendV2,
    training: Callable[[Prepared], Template] | None = None,
) -> Plan:
    """Choose the angles, compile (or take the template from the cache) and write down what the answer needs.

    Args:
        envelope: of a QAOA job; its execution budget limits the choice of angles.
        payload: BINARY model over 0 … n−1.
        device: the machine.
        training: makes the compiled circuit runnable at once, for a machine within reach: ``qaoa-trained`` then
            trains on it, with mitigated energies where read-out mitigation is asked, unless ``tuning`` is ``local``.
            Otherwise angles come from the local kernel.

    Raises:
        BackendError: class ``capability`` or ``circuit``, for a job that the device cannot run.
    """
    payload = model_of(envelope, payload)
    algorithm, deadline = envelope.algorithm, time.perf_counter() + envelope.timeout.execution
    symmetry = declared_symmetry(envelope.tags) if algorithm.mitigation.postselect else None
    ising = Ising.from_bqm(payload)
    started = time.perf_counter()
    prepared = prepare(ising.structure(algorithm.depth), algorithm.compilation, device)
    compiled = time.perf_counter() - started
    confusion = confusion_of(device.target, prepared.measured) if algorithm.mitigation.readout else None
    chosen: Angles
    if training is not None and algorithm.name == "qaoa-trained" and algorithm.tuning == "device":
        where = f"{prepared.calibration['device']} {prepared.calibration['id']}"
        with resumable(where, payload, algorithm) as checkpoint:
            chosen = choose_angles(payload, ising, training(prepared), algorithm, deadline, confusion, checkpoint)
        chosen.record["angles_from"] = "the device itself"
    else:
        chosen = tune(payload, ising, algorithm, deadline)
    vectors = payload.to_numpy_vectors(variable_order=range(ising.variables))
    terms = zip(*(part.tolist() for part in vectors.quadratic), strict=True)
    record = {
        "envelope_digest": envelope.digest,
        "trained": algorithm.name == "qaoa-trained",
        "payload": {
            "linear": vectors.linear_biases.tolist(),
            "quadratic": [list(term) for term in terms],
            "offset": float(vectors.offset),
        },
        "confusion": None if confusion is None else confusion.tolist(),
        "symmetry": symmetry,
        "compile_seconds": compiled,
        "tune_seconds": time.perf_counter() - started - compiled,
        "result": {
            "width": ising.variables,
            "depth": prepared.depth,
            "two_qubit_gates": prepared.two_qubit_gates,
            "logical_depth": prepared.logical_depth,
            "logical_two_qubit_gates": prepared.logical_two_qubit_gates,
            "layout": prepared.layout,
            "success_probability": prepared.success_probability,
            "calibration": prepared.calibration,
            "tuning_shots": chosen.shots,
            "circuits": chosen.circuits + 1,
            "parameters": chosen.record | {"routing": prepared.routing},
        },
    }
    return Plan(prepared, ising.angles(chosen.gammas[None], chosen.betas[None])[0], record)


def answer(
    record: dict[str, Any],
    bits: np.ndarray,
    *,
    backend: str,
    version: str,
    sdk_versions: dict[str, str],
    evidence: EvidenceClass,
    queue_seconds: float = 0.0,
    execute_seconds: float = 0.0,
    cost: float = 0.0,
) -> JobResult:
    """The result of a planned job.

    Args:
        record: of its ``Plan``, perhaps through JSON.
        bits: all read-outs, int8, shape ``(shots, n)``, variable 0 first.
        backend, version, sdk_versions, evidence: who sampled.
        queue_seconds, execute_seconds, cost: as the machine tells them.

    Raises:
        BackendError: class ``capability``, when post-selection leaves no shot or mthree is missing.
    """
    import dimod

    started = time.perf_counter()
    terms = record["payload"]
    payload = dimod.BinaryQuadraticModel(
        dict(enumerate(terms["linear"])),
        {(i, j): coupling for i, j, coupling in terms["quadratic"]},
        terms["offset"],
        dimod.BINARY,
    )
    kept = bits if record["symmetry"] is None else postselected(bits, tuple(record["symmetry"]))
    samples = counted(payload, kept)
    mitigated = None
    if record["confusion"] is not None:
        # of all shots: the confusion matrices say nothing about a selection
        mitigated = mitigated_expectation(payload, bits, np.array(record["confusion"]))
    return JobResult(
        envelope_digest=record["envelope_digest"],
        samples=samples,
        evidence_class=evidence,
        post_processing=PostProcessing.RAW if kept is bits else PostProcessing.POSTSELECTED,
        backend=backend,
        backend_version=version,
        sdk_versions=sdk_versions,
        shots=len(kept),
        discarded_shots=len(bits) - len(kept),
        expectation_raw=float(payload.energies((bits, range(bits.shape[1]))).mean()),
        expectation_mitigated=mitigated,
        run_energies=(samples[0].energy,) if record["trained"] else (),
        timings=Timings(
            queue=queue_seconds,
            compile=record["compile_seconds"],
            execute=record["tune_seconds"] + execute_seconds,
            post_process=time.perf_counter() - started,
        ),
        actual_cost=cost,
        **record["result"],
    )
