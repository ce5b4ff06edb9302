"""IBM's client-side Sampler: what is sent to a device, real or fake, and what is made of the answer.

Uses ``executor_sampler.Sampler`` of ``qiskit-ibm-runtime`` (``SamplerV2`` of its top level is deprecated). Here: the
plan of a sample job with its note, the primitives' options, the result document. Not here: the two backends (``ibm``,
``ibm_local``), other kinds of jobs (``ibm_programs``), or what every trip to a device has in common (``trip``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from resources.backends import trip
from resources.backends.base import Estimate
from resources.circuits import device as on_device
from resources.envelope import EvidenceClass, JobEnvelope, JobResult, Timings
from resources.failures import BackendError, FailureClass, redacted

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.providers import BackendV2

    from resources.payloads import Payload

PACKAGES = ("qiskit-ibm-runtime", "qiskit")
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
    envelope: JobEnvelope, payload: Payload, device: BackendV2, evidence: EvidenceClass
) -> tuple[QuantumCircuit, dict[str, Any]]:
    """The bound circuit of a job on ``device``, and the JSON-able note from which ``finished`` makes its result.

    Raises:
        BackendError: class ``circuit`` or ``capability``, for a job that the device cannot run.
    """
    plan, mitigation = trip.plan(envelope, payload, device), envelope.algorithm.mitigation
    note = plan.record | {
        "shots": envelope.algorithm.shots,
        "evidence": evidence,
        "version": f"{device.name} {device.backend_version or 'of unknown version'}",
    }
    note["result"]["parameters"] |= {
        "device": device.name,
        "dynamical_decoupling": mitigation.dynamical_decoupling,
        "twirling": mitigation.twirling,
        "tuning_seconds": note["tune_seconds"],
    }
    if note["confusion"] and mitigation.twirling:
        note["confusion"] = flipped(note["confusion"])
    return plan.circuit, note


def flipped(confusion: Sequence[Any]) -> list[Any]:
    """Confusion matrices (shape ``(n, 2, 2)``) under measurement twirling: bits are flipped at random before they are
    read out and back afterwards, so that both errors become their mean."""
    matrices = np.array(confusion)
    twirled: list[Any] = ((matrices + matrices[:, ::-1, ::-1]) / 2).tolist()
    return twirled


def sampler(mode: Any, envelope: JobEnvelope, tags: Sequence[str] = ()) -> Any:
    """The client-side Sampler with the envelope's mitigation; ``mode`` is a device, a batch or a session."""
    from qiskit_ibm_runtime.executor_sampler import Sampler

    twirled = {}
    if envelope.algorithm.mitigation.twirling:
        # the vendor rounds the shots up to whole randomizations; what was taken is reported and charged
        twirled = {"twirling": {"enable_gates": True, "enable_measure": True}}
    return Sampler(mode=mode, options=options(envelope, tags) | twirled)


def options(envelope: JobEnvelope, tags: Sequence[str] = ()) -> dict[str, Any]:
    """What both of the client-side primitives are told: time limit, tags, pulse sequence."""
    asked: dict[str, Any] = {"max_execution_time": math.ceil(envelope.timeout.execution)}
    if tags:
        asked["environment"] = {"job_tags": list(tags)}
    if sequence := envelope.algorithm.mitigation.dynamical_decoupling:
        asked["dynamical_decoupling"] = {"enable": True, "sequence_type": sequence}
    return asked


def finished(name: str, note: dict[str, Any], answer: Any, timings: Timings) -> JobResult:
    """The job document of a sampler's answer, for the backend ``name``.

    Args:
        timings: ``execute`` is the device's own; the note adds what was spent here before.

    Raises:
        BackendError: class ``backend``: the answer is not one read-out of the note's variables, or shots are missing.
    """
    width = note["result"]["width"]
    try:
        # Qiskit's registers are little-endian: "little" puts variable 0 first
        bits = answer[0].data.c.to_bool_array(order="little").astype(np.int8)
        if bits.ndim != 2 or bits.shape[1] != width:
            raise ValueError(f"shape {bits.shape}")
        if len(bits) < note["shots"]:
            # more may come: twirling rounds up
            raise ValueError(f"{len(bits)} of {note['shots']} shots")
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise BackendError(
            f"the answer does not read out {width} variables ({redacted(str(error))})", FailureClass.BACKEND
        ) from None
    result = trip.answer(
        note,
        bits,
        backend=name,
        version=note["version"],
        sdk_versions={package: version(package) for package in PACKAGES},
        evidence=EvidenceClass(note["evidence"]),
    )
    # reading the answer is not timed: a job that is asked twice has one result
    own = Timings(
        queue=timings.queue,
        compile=note["compile_seconds"],
        execute=timings.execute,
        total=timings.total + note["compile_seconds"] + note["tune_seconds"],
    )
    return result.model_copy(update={"timings": own})


def missing_package(name: str) -> str | None:
    """A sentence naming the packages that are not installed, or ``None``."""
    absent = [package for package in PACKAGES if find_spec(package.replace("-", "_")) is None]
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
