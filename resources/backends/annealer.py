"""A classical simulated annealer behind the dimod Sampler interface: evidence class ``surrogate``, never quantum.

It shows that an annealer fits the seam; a quantum annealer's sampler takes the place of ``SimulatedAnnealingSampler``.
Not here: simulated annealing as a baseline (``hybrid_assets.solvers``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from resources.backends.base import Capabilities, Estimate, LocalBackend, installed, package_version
from resources.backends.device_time import annealer_seconds
from resources.backends.readout import counted
from resources.envelope import EvidenceClass, JobEnvelope, JobResult, Timings
from resources.payloads import Payload, model_of

#: Sweeps of one read, the sampler's own default.
SWEEPS = 1000


@dataclass
class Annealer(LocalBackend):
    """Simulated annealing, one read per shot.

    Source: S. Kirkpatrick, C. D. Gelatt, M. P. Vecchi, "Optimization by simulated annealing", Science 220 (1983).
    """

    name = "annealer"
    modules = ("dwave.samplers",)
    max_variables: int = 5000

    def capabilities(self) -> Capabilities:
        """Annealing on at most ``max_variables`` variables."""
        return Capabilities(EvidenceClass.SURROGATE, self.max_variables, ("annealing",))

    def version(self) -> str:
        """Version of dwave-samplers."""
        return package_version("dwave-samplers")

    def available(self) -> str | None:
        """Names the package when it is not installed."""
        if installed("dwave.samplers"):
            return None
        return "backend annealer needs dwave-samplers: install the package"

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        """Seconds = reads × sweeps × n × (12 ns + 0.1 ns × neighbours), measured on one core; complete graph."""
        n, shots = envelope.payload_variables, envelope.algorithm.shots
        seconds = shots * SWEEPS * n * (12e-9 + 1e-10 * (n - 1))
        return Estimate(0.0, seconds, 0.0, device_seconds=annealer_seconds(shots))

    def run(self, envelope: JobEnvelope, payload: Payload) -> JobResult:
        """Anneal ``shots`` times. Past the time limit it stops between two reads and returns those it has.

        Raises:
            BackendError: class ``circuit``, when the payload is not what the envelope says.
        """
        from dwave.samplers import SimulatedAnnealingSampler

        payload = model_of(envelope, payload)
        algorithm = envelope.algorithm
        started = time.perf_counter()
        deadline = started + envelope.timeout.execution
        sampled = SimulatedAnnealingSampler().sample(
            payload,
            num_reads=algorithm.shots,
            num_sweeps=SWEEPS,
            seed=int(np.random.default_rng(algorithm.seed).integers(2**31)),
            interrupt_function=lambda: time.perf_counter() >= deadline,
        )
        executed = time.perf_counter()
        order = [sampled.variables.index(variable) for variable in range(envelope.payload_variables)]
        bits = sampled.record.sample[:, order].astype(np.int8)
        samples = counted(payload, bits)
        return JobResult(
            envelope_digest=envelope.digest,
            samples=samples,
            evidence_class=EvidenceClass.SURROGATE,
            backend=self.name,
            backend_version=self.version(),
            sdk_versions={package: package_version(package) for package in ("dwave-samplers", "dimod")},
            width=envelope.payload_variables,
            depth=0,
            two_qubit_gates=0,
            shots=len(bits),
            parameters={
                "num_sweeps": SWEEPS,
                "beta_range": [float(beta) for beta in sampled.info["beta_range"]],
                "beta_schedule_type": sampled.info["beta_schedule_type"],
                "reads_left_out": algorithm.shots - len(bits),
            },
            timings=Timings(execute=executed - started, post_process=time.perf_counter() - executed),
        )
