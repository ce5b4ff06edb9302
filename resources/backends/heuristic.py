"""The classical end of a fallback chain: steepest descents and one short tabu search, evidence class ``classical``.

It answers in this process and in milliseconds, so that there is an answer when no machine and no worker gives one.
Not here: the baselines that quantum results are compared with (``hybrid_assets.solvers``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from resources.backends.base import Capabilities, Estimate, LocalBackend, installed, package_version
from resources.backends.readout import counted
from resources.envelope import EvidenceClass, JobEnvelope, JobResult, Timings
from resources.payloads import Payload, model_of

if TYPE_CHECKING:
    import dimod

#: Descents between two looks at the clock.
BATCH = 32
#: Moves of the tabu search per variable, and the most variables it takes (it stores a dense matrix).
TABU_MOVES, TABU_VARIABLES = 200, 2000


@dataclass
class Heuristic(LocalBackend):
    """Multi-start steepest descent, one read per shot; the best read goes on as a tabu search of fixed length.

    Source: G. Palubeckis, "Multistart tabu search strategies for the unconstrained binary quadratic optimization
    problem", Annals of Operations Research 131 (2004), as in dwave-samplers.
    """

    name = "heuristic"
    modules = ("dwave.samplers",)
    in_process = True
    max_variables: int = 20_000

    def capabilities(self) -> Capabilities:
        """Descent on at most ``max_variables`` variables."""
        return Capabilities(EvidenceClass.CLASSICAL, self.max_variables, ("descent",), tier="cpu")

    def version(self) -> str:
        """Version of dwave-samplers."""
        return package_version("dwave-samplers")

    def available(self) -> str | None:
        """Names the package when it is not installed."""
        if installed("dwave.samplers"):
            return None
        return "backend heuristic needs dwave-samplers: install the package"

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        """Seconds = 3 ms + reads × (10 µs + n² × 7 ns) + moves × n × 1.5 ns, measured on one core; complete graph."""
        n, shots = envelope.payload_variables, envelope.algorithm.shots
        return Estimate(0.0, 3e-3 + shots * (1e-5 + 7e-9 * n * n) + TABU_MOVES * n * n * 1.5e-9, 0.0)

    def run(self, envelope: JobEnvelope, payload: Payload) -> JobResult:
        """Descend ``shots`` times, search on from the best. Past the time limit it returns the reads it has.

        Raises:
            BackendError: class ``circuit``, when the payload is not what the envelope says.
        """
        from dwave.samplers import SteepestDescentSampler, TabuSampler

        payload = model_of(envelope, payload)
        algorithm, n = envelope.algorithm, envelope.payload_variables
        started = time.perf_counter()
        deadline = started + envelope.timeout.execution
        rng, order = np.random.default_rng(algorithm.seed), list(range(n))
        reads: list[np.ndarray] = []
        missing = algorithm.shots
        while missing and (not reads or time.perf_counter() < deadline):
            starts = rng.integers(2, size=(min(BATCH, missing), n), dtype=np.int8)
            found = SteepestDescentSampler().sample(payload, initial_states=(starts, order), num_reads=len(starts))
            reads.append(_bits(found, order))
            missing -= len(starts)
        bits = np.concatenate(reads)
        left = deadline - time.perf_counter()
        searched = n <= TABU_VARIABLES and left > 0
        if searched:
            best = int(payload.energies((bits, order)).argmin())
            found = TabuSampler().sample(
                payload,
                initial_states=(bits[best : best + 1], order),
                seed=int(rng.integers(2**32)),
                # its length is counted in moves, so that the seed decides; the clock is for what is far too large
                timeout=max(1, int(1000 * left)),
                num_restarts=0,
                lower_bound_z=TABU_MOVES * n,
                coefficient_z_first=1,
            )
            bits[best] = _bits(found, order)[0]
        executed = time.perf_counter()
        return JobResult(
            envelope_digest=envelope.digest,
            samples=counted(payload, bits),
            evidence_class=EvidenceClass.CLASSICAL,
            backend=self.name,
            backend_version=self.version(),
            sdk_versions={package: package_version(package) for package in ("dwave-samplers", "dimod")},
            width=n,
            depth=0,
            two_qubit_gates=0,
            shots=len(bits),
            parameters={"tabu_moves": TABU_MOVES * n if searched else 0, "reads_left_out": missing},
            timings=Timings(execute=executed - started, post_process=time.perf_counter() - executed),
        )


def _bits(found: dimod.SampleSet, order: list[int]) -> np.ndarray:
    """Samples as int8 of shape ``(reads, n)``, in variable order."""
    return found.record.sample[:, [found.variables.index(v) for v in order]].astype(np.int8)
