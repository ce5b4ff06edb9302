"""A backend in one file: any dimod sampler, here multi-start steepest descent, behind the quantum seam."""

from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from resources.backends.base import Capabilities, Estimate, LocalBackend
from resources.backends.readout import counted
from resources.envelope import EvidenceClass, JobEnvelope, JobResult
from resources.payloads import Payload, model_of


@dataclass
class Descent(LocalBackend):
    """A classical sampler, so its class is ``surrogate``: it never counts as quantum."""

    name = "descent"

    def capabilities(self) -> Capabilities:
        return Capabilities(EvidenceClass.SURROGATE, max_variables=5000, algorithms=("annealing",))

    def version(self) -> str:
        return version("dwave-samplers")

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        seconds = 1e-7 * envelope.algorithm.shots * envelope.payload_variables
        return Estimate(queue_seconds=0.0, execution_seconds=seconds, cost=0.0)

    def run(self, envelope: JobEnvelope, payload: Payload) -> JobResult:
        from dwave.samplers import SteepestDescentSampler

        payload = model_of(envelope, payload)
        shots, n = envelope.algorithm.shots, envelope.payload_variables
        starts = np.random.default_rng(envelope.algorithm.seed).integers(0, 2, (shots, n), dtype=np.int8)
        found = SteepestDescentSampler().sample(payload, initial_states=(starts, range(n)), num_reads=shots)
        bits = found.record.sample[:, [found.variables.index(variable) for variable in range(n)]]
        return JobResult(
            envelope_digest=envelope.digest,
            samples=counted(payload, bits),
            backend=self.name,
            evidence_class=EvidenceClass.SURROGATE,
            backend_version=self.version(),
            sdk_versions={"dwave-samplers": self.version()},
            width=n,
            depth=0,
            two_qubit_gates=0,
            shots=shots,
        )
