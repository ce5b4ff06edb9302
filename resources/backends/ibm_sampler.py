"""IBM's client-side Sampler: what is sent to a device, real or fake, and what is made of the answer.

Uses ``executor_sampler.Sampler`` of ``qiskit-ibm-runtime`` (``SamplerV2`` of its top level is deprecated). Here: the
plan of a job with its note, the sampler's options, the result document. Not here: the two backends (``ibm``,
``ibm_local``), or circuits and angles (``resources.circuits``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from resources.backends.base import Estimate
from resources.backends.readout import check_payload, counted
from resources.circuits import device as on_device
from resources.circuits import mitigation as mitigating
from resources.circuits.ising import Ising
from resources.envelope import EvidenceClass, JobEnvelope, JobResult, PostProcessing, Timings
from resources.failures import BackendError, FailureClass, redacted

if TYPE_CHECKING:
    import dimod
    from qiskit import QuantumCircuit
    from qiskit.providers import BackendV2

_PACKAGES = ("qiskit-ibm-runtime", "qiskit")
#: What of ``Mitigation`` is offered (read-out and post-selection on this side), and the Sampler's pulse sequences.
MITIGATION = ("readout", "dynamical_decoupling", "twirling", "postselect")
DECOUPLING = ("XX", "XpXm", "XY4")
#: Seconds that IBM charges a job beyond its shots, and a shot with its reset, as its guide to estimating usage says.
JOB_SECONDS, SHOT_SECONDS = 2.0, 350e-6
#: Complete graphs up to here are compiled for an estimate; above, a swap network on a heavy-hex lattice bounds it.
_COMPILED_ESTIMATE = 20


def check_decoupling(name: str, envelope: JobEnvelope) -> None:
    """Refuse a pulse sequence that IBM does not have.

    Raises:
        BackendError: class ``capability``.
    """
    asked = envelope.algorithm.mitigation.dynamical_decoupling
    if asked is not None and asked not in DECOUPLING:
        raise BackendError(
            f"backend {name} has no dynamical decoupling {asked!r} (it has {', '.join(DECOUPLING)})",
            FailureClass.CAPABILITY,
        )


def planned(
    name: str, envelope: JobEnvelope, payload: dimod.BinaryQuadraticModel, device: BackendV2, evidence: EvidenceClass
) -> tuple[QuantumCircuit, dict[str, Any]]:
    """The bound circuit of a job on ``device``, and the JSON-able note from which ``finished`` makes its result.

    Raises:
        BackendError: class ``circuit``: the payload is not what the envelope says, or cannot be compiled; class
            ``capability``: it does not fit the device.
    """
    check_payload(envelope, payload)
    algorithm, mitigation = envelope.algorithm, envelope.algorithm.mitigation
    ising = Ising.from_bqm(payload)
    started = time.perf_counter()
    prepared = on_device.prepare(ising.structure(algorithm.depth), algorithm.compilation, device)
    compiled = time.perf_counter()
    angles = on_device.tune(payload, ising, algorithm, deadline=compiled + envelope.timeout.execution)
    circuit = prepared.bind(ising.angles(angles.gammas[None], angles.betas[None])[0])
    parameters = angles.record | {
        "device": device.name,
        "tuning_seconds": time.perf_counter() - compiled,
        "dynamical_decoupling": mitigation.dynamical_decoupling,
        "twirling": mitigation.twirling,
    }
    result = {
        "envelope_digest": envelope.digest,
        "evidence_class": evidence,
        "backend": name,
        "backend_version": f"{device.name} {device.backend_version or 'of unknown version'}",
        "sdk_versions": {package: version(package) for package in _PACKAGES},
        "width": ising.variables,
        "depth": prepared.depth,
        "two_qubit_gates": prepared.two_qubit_gates,
        "logical_depth": prepared.logical_depth,
        "logical_two_qubit_gates": prepared.logical_two_qubit_gates,
        "layout": prepared.layout,
        "success_probability": prepared.success_probability,
        "calibration": prepared.calibration,
        "parameters": parameters,
        "tuning_shots": angles.shots,
        "circuits": angles.circuits + 1,
    }
    note = {"payload": payload.to_serializable(), "compile_seconds": compiled - started, "result": result}
    if mitigation.readout:
        confusion = mitigating.confusion_of(device.target, prepared.measured)
        # twirling flips the bits read out at random and back again, so that both errors become their mean
        note["confusion"] = ((confusion + confusion[:, ::-1, ::-1]) / 2 if mitigation.twirling else confusion).tolist()
    if mitigation.postselect:
        note["symmetry"] = mitigating.declared_symmetry(envelope.tags)
    return circuit, note


def sampler(mode: Any, envelope: JobEnvelope, tags: Sequence[str] = ()) -> Any:
    """The client-side Sampler with the envelope's mitigation; ``mode`` is a device, a batch or a session."""
    from qiskit_ibm_runtime.executor_sampler import Sampler

    mitigation = envelope.algorithm.mitigation
    options: dict[str, Any] = {"max_execution_time": math.ceil(envelope.timeout.execution)}
    if tags:
        options["environment"] = {"job_tags": list(tags)}
    if mitigation.dynamical_decoupling:
        options["dynamical_decoupling"] = {"enable": True, "sequence_type": mitigation.dynamical_decoupling}
    if mitigation.twirling:
        # the vendor rounds the shots up to whole randomizations; what was taken is reported and charged
        options["twirling"] = {"enable_gates": True, "enable_measure": True}
    return Sampler(mode=mode, options=options)


def finished(note: dict[str, Any], answer: Any, timings: Timings, cost: float = 0.0) -> JobResult:
    """The job document of a sampler's answer.

    Raises:
        BackendError: class ``backend``: the answer is not one read-out of the note's variables.
    """
    import dimod

    width = note["result"]["width"]
    try:
        # Qiskit's registers are little-endian: "little" puts variable 0 first
        bits = answer[0].data.c.to_bool_array(order="little").astype(np.int8)
        if bits.ndim != 2 or bits.shape[1] != width:
            raise ValueError(f"shape {bits.shape}")
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise BackendError(
            f"the answer does not read out {width} variables ({redacted(str(error))})", FailureClass.BACKEND
        ) from None
    payload = dimod.BinaryQuadraticModel.from_serializable(note["payload"])
    kept = mitigating.postselected(bits, tuple(note["symmetry"])) if "symmetry" in note else bits
    return JobResult(
        **note["result"],
        samples=counted(payload, kept),
        post_processing=PostProcessing.POSTSELECTED if "symmetry" in note else PostProcessing.RAW,
        shots=len(kept),
        discarded_shots=len(bits) - len(kept),
        expectation_raw=float(payload.energies((bits, range(width))).mean()),
        expectation_mitigated=mitigating.mitigated_expectation(payload, bits, np.array(note["confusion"]))
        if "confusion" in note
        else None,
        timings=timings.model_copy(update={"compile": note["compile_seconds"]}),
        actual_cost=cost,
    )


def missing_package(name: str) -> str | None:
    """A sentence naming the packages that are not installed, or ``None``."""
    absent = [package for package in _PACKAGES if find_spec(package.replace("-", "_")) is None]
    return f"backend {name} needs {', '.join(absent)}: install the extra `ibm`" if absent else None


def estimated(envelope: JobEnvelope, device: BackendV2, queue_seconds: float) -> Estimate:
    """Worst case of the payload; seconds as IBM's guide has them."""
    n, algorithm = envelope.payload_variables, envelope.algorithm
    at = (
        on_device.worst_case(n, algorithm, device)
        if n <= _COMPILED_ESTIMATE
        else on_device.estimate_on("heavy-hex", n, algorithm.depth)
    )
    return Estimate(
        queue_seconds=queue_seconds,
        execution_seconds=JOB_SECONDS + SHOT_SECONDS * algorithm.shots,
        cost=0.0,
        two_qubit_gates=at.two_qubit_gates,
        depth=at.depth,
        logical_two_qubit_gates=at.logical_two_qubit_gates,
        logical_depth=at.logical_depth,
        coupling_map=str(device.name),
    )
