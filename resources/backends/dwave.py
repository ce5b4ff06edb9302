"""D-Wave: a mock device offline, quantum processors and hybrid solvers in the cloud.

``dwave-mock`` samples classically on a real topology (evidence ``surrogate``); ``dwave`` is a quantum processor with
the same embedding and read-out (``hardware``). ``dwave-hybrid`` is a Leap hybrid solver: a classical heuristic that
consults a processor to an extent D-Wave does not publish, so its rows are ``surrogate`` and never fill a quantum best.
Not here: embedding (``dwave_embedding``), a problem's life in the cloud (``dwave_sapi``), simulated annealing without a
topology (``annealer``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from resources.backends.base import Capabilities, Estimate, LocalBackend, QuantumBackend
from resources.backends.device_time import annealer_seconds
from resources.backends.dwave_embedding import Graph, embed, topology_name, unembedded
from resources.backends.dwave_sapi import Sapi, missing, upload
from resources.backends.readout import counted
from resources.envelope import EvidenceClass, JobEnvelope, JobResult, Timings
from resources.failures import BackendError, FailureClass
from resources.payloads import Payload, model_of

if TYPE_CHECKING:
    import dimod
    from dwave.cloud.api.models import ProblemStatusMaybeWithAnswer, SolverConfiguration

_PACKAGES = ("dwave-system", "dwave-cloud-client", "dimod")


@dataclass
class DWaveMock(LocalBackend):
    """``MockDWaveSampler``: a Pegasus processor's interface, topology and embedding over simulated annealing.

    Its own sampler, which plants the exact ground state into small answers, is replaced by seeded simulated annealing
    of the embedded problem; few sweeps, so that chains break now and then as they do on a device.
    """

    name = "dwave-mock"
    modules = ("dwave.system.testing", "dwave.samplers", "minorminer")
    max_variables: int = 40
    #: Pegasus size: 680 qubits, cliques of up to 60 variables.
    size: int = 6
    sweeps: int = 200

    def capabilities(self) -> Capabilities:
        """Annealing of what fits the topology; classical samples."""
        return Capabilities(EvidenceClass.SURROGATE, self.max_variables, ("annealing",))

    def version(self) -> str:
        """Version of dwave-system."""
        return version("dwave-system")

    def available(self) -> str | None:
        """Names the extra when it is not installed."""
        return missing(self.name, token=False)

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        """Seconds = embedding + reads × sweeps × physical qubits × 30 ns, a complete graph assumed; one core."""
        n, shots = envelope.payload_variables, envelope.algorithm.shots
        qubits = n * (n // 12 + 2)
        return Estimate(
            0.0,
            0.05 + 1e-4 * n**2 + shots * self.sweeps * qubits * 3e-8,
            0.0,
            coupling_map=topology_name({"type": "pegasus", "shape": [self.size]}),
            device_seconds=annealer_seconds(shots),
        )

    def run(self, envelope: JobEnvelope, payload: Payload) -> JobResult:
        """Embed, sample ``shots`` reads, unembed.

        Raises:
            BackendError: class ``circuit``, when the payload is not what the envelope says; ``capability``, when it
                does not fit the topology.
        """
        payload = model_of(envelope, payload)
        sampler, graph = _mock(self.size)
        seeds = np.random.default_rng(envelope.algorithm.seed).integers(2**31, size=2)
        placement = embed(payload, graph, int(seeds[0]), envelope.timeout.execution)
        started = time.perf_counter()
        # a copy: another thread may be sampling with another seed
        seeded = copy(sampler)
        seeded.substitute_kwargs = {"num_sweeps": self.sweeps, "seed": int(seeds[1])}
        answer = seeded.sample(placement.model, num_reads=envelope.algorithm.shots)
        executed = time.perf_counter()
        bits, chains = unembedded(payload, placement.chains, answer)
        return _result(
            self,
            envelope,
            payload,
            bits,
            parameters={
                "solver": "MockDWaveSampler",
                "topology": [graph.topology, *graph.shape],
                "sampler": "simulated annealing",
                "num_sweeps": self.sweeps,
                "chain_strength": placement.chain_strength,
                **chains,
            },
            timings=Timings(
                compile=placement.seconds, execute=executed - started, post_process=time.perf_counter() - executed
            ),
        )


@lru_cache(maxsize=2)
def _mock(size: int) -> tuple[Any, Graph]:
    from dwave.samplers import SimulatedAnnealingSampler
    from dwave.system.testing import MockDWaveSampler

    sampler = MockDWaveSampler(
        topology_type="pegasus",
        topology_shape=[size],
        substitute_sampler=SimulatedAnnealingSampler(),
    )
    return sampler, Graph.of(sampler.properties)


def _result(
    backend: QuantumBackend,
    envelope: JobEnvelope,
    payload: dimod.BinaryQuadraticModel,
    bits: np.ndarray,
    **more: Any,
) -> JobResult:
    return JobResult(
        envelope_digest=envelope.digest,
        samples=counted(payload, bits),
        evidence_class=backend.capabilities().evidence_class,
        backend=backend.name,
        sdk_versions={package: version(package) for package in _PACKAGES},
        width=envelope.payload_variables,
        depth=0,
        two_qubit_gates=0,
        shots=len(bits),
        **{"backend_version": backend.version(), **more},
    )


# --- the cloud --------------------------------------------------------------------------------------------------------


@dataclass
class DWave(Sapi):
    """A quantum processor; the payload is embedded on its working graph before it is sent."""

    name = "dwave"
    category: ClassVar[str] = "qpu"
    max_variables: int = 5000

    def capabilities(self) -> Capabilities:
        """Quantum annealing of what can be embedded: about 180 variables of a complete graph, thousands of sparse
        ones."""
        return Capabilities(
            EvidenceClass.HARDWARE,
            self.max_variables,
            ("annealing",),
            metered=True,
            tier="hardware",
            remote=True,
            leaves_machine=True,
            settling_seconds=30.0,
            batch=20,
            device=os.environ.get(self.solver_variable, ""),
        )

    def calibration(self) -> dict[str, Any] | None:
        """Solver and working graph, which changes with every calibration."""
        solver = self.solver()
        graph = solver.identity.version.graph_id if solver.identity.version else None
        return {"solver": solver.identity.name, "graph_id": graph}

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        """Access time as ``annealer_seconds``, on the topology of the solver that will get it; the queue is seconds as
        a rule."""
        seconds = annealer_seconds(envelope.algorithm.shots)
        return Estimate(5.0, seconds, seconds * self.price_per_second, coupling_map=self._topology())

    def _topology(self) -> str:
        """With its size where the solver can be asked."""
        if self.available() is None:
            with suppress(BackendError):
                return topology_name(self.solver().properties["topology"])
        return "pegasus"

    def prepare(
        self, envelope: JobEnvelope, payload: dimod.BinaryQuadraticModel, solver: SolverConfiguration
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The embedded problem in SAPI's ``qp`` encoding; biases are scaled to the processor's ranges there."""
        from dwave.cloud.coders import encode_problem_as_qp
        from dwave.cloud.solver import StructuredSolver

        most = solver.properties.get("num_reads_range", [1, 10_000])[1]
        if envelope.algorithm.shots > most:
            raise BackendError(
                f"{solver.identity.name} takes at most {most} reads, the job has {envelope.algorithm.shots}",
                FailureClass.CAPABILITY,
            )
        graph = Graph.of(solver.properties)
        placement = embed(payload, graph, envelope.algorithm.seed % 2**31, envelope.timeout.execution)
        model = placement.model
        data = encode_problem_as_qp(
            StructuredSolver(None, solver), dict(model.linear), dict(model.quadratic), undirected_biases=True
        )
        note = {
            "chains": placement.chains,
            "chain_strength": placement.chain_strength,
            "embedding_seconds": placement.seconds,
            "topology": [graph.topology, *graph.shape],
            "calibration": self.calibration(),
        }
        return {"data": data, "params": {"num_reads": envelope.algorithm.shots}, "type": "ising"}, note

    def read(
        self,
        envelope: JobEnvelope,
        payload: dimod.BinaryQuadraticModel,
        note: Mapping[str, Any],
        problem: ProblemStatusMaybeWithAnswer,
    ) -> JobResult:
        """Qubits back to variables, with the processor's own timing."""
        import dimod
        from dwave.cloud.coders import decode_qp_numpy

        answer = problem.answer.root.model_dump(mode="json")
        decoded = decode_qp_numpy({"answer": answer, "type": problem.type.value})
        active = decoded["active_variables"]
        samples = dimod.SampleSet.from_samples(
            (decoded["solutions"][:, active], active.tolist()),
            vartype="SPIN",
            energy=decoded["energies"],
            num_occurrences=decoded["num_occurrences"],
        )
        bits, chains = unembedded(payload, note["chains"], samples)
        timing = {name: float(value) for name, value in decoded["timing"].items()}
        return _result(
            self,
            envelope,
            payload,
            bits,
            backend_version=f"{problem.solver.name} {note['calibration']['graph_id']}",
            calibration=note["calibration"],
            parameters={
                "solver": problem.solver.name,
                "topology": note["topology"],
                "chain_strength": note["chain_strength"],
                "timing_us": timing,
                **chains,
            },
            # no clock of the reading process: whoever reads the answer gets the same document
            **self.spent(problem, timing["qpu_access_time"] * 1e-6, compile=note["embedding_seconds"]),
        )


@dataclass
class DWaveHybrid(Sapi):
    """Leap's hybrid solver for binary quadratic models; ``shots`` is ignored, it answers with its few best samples."""

    name = "dwave-hybrid"
    category: ClassVar[str] = "hybrid"
    solver_variable: ClassVar[str] = "HYBRID_DWAVE_HYBRID_SOLVER"
    max_variables: int = 1_000_000

    def capabilities(self) -> Capabilities:
        """Answers to large sparse problems; never evidence of a quantum advantage (see the module)."""
        return Capabilities(
            EvidenceClass.SURROGATE,
            self.max_variables,
            ("annealing",),
            metered=True,
            tier="hardware",
            remote=True,
            leaves_machine=True,
            settling_seconds=30.0,
            batch=20,
            device=os.environ.get(self.solver_variable, ""),
        )

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        """At least 3 s of solver time, growing with the number of variables; the solver's definition decides."""
        seconds = max(3.0, 3e-3 * envelope.payload_variables)
        return Estimate(5.0, seconds, seconds * self.price_per_second)

    def prepare(
        self, envelope: JobEnvelope, payload: dimod.BinaryQuadraticModel, solver: SolverConfiguration
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Upload the model; the time limit is the least the solver takes for this size, the cheapest there is."""
        sizes, limits = np.transpose(solver.properties["minimum_time_limit"])
        limit = float(np.interp(envelope.payload_variables, sizes, limits))
        if limit > envelope.timeout.execution:
            raise BackendError(
                f"{solver.identity.name} takes at least {limit:g} s for {envelope.payload_variables} variables, the "
                f"job allows {envelope.timeout.execution:g} s",
                FailureClass.CAPABILITY,
            )
        with payload.to_file() as stored:
            reference = upload(stored.read(), envelope.timeout.queue)
        data = {"format": "ref", "data": reference}
        return {"data": data, "params": {"time_limit": limit}, "type": "bqm"}, {"time_limit": limit}

    def read(
        self,
        envelope: JobEnvelope,
        payload: dimod.BinaryQuadraticModel,
        note: Mapping[str, Any],
        problem: ProblemStatusMaybeWithAnswer,
    ) -> JobResult:
        """The few samples that come back, with run and charged time."""
        from dwave.cloud.coders import decode_bq

        answer = problem.answer.root.model_dump(mode="json")
        samples = decode_bq({"answer": answer, "type": problem.type.value})["sampleset"]
        order = [samples.variables.index(v) for v in range(envelope.payload_variables)]
        rows = (samples.record.sample[:, order] > 0).astype(np.int8)
        info = {name: value for name, value in samples.info.items() if name.endswith("_time")}
        return _result(
            self,
            envelope,
            payload,
            np.repeat(rows, samples.record.num_occurrences, axis=0),
            backend_version=problem.solver.name,
            parameters={"solver": problem.solver.name, "time_limit": note["time_limit"], "timing_us": info},
            **self.spent(problem, float(info.get("charge_time", info["run_time"])) * 1e-6),
        )
