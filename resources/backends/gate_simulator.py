"""What gate-model simulators in this process share: one ``run`` over a template of their SDK.

Here: capabilities, the cost model, and the job document made from a read-out. Not here: circuits and angle choice
(``resources.circuits``), or anything of one SDK (``aer``, ``lightning``).
"""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

from resources.backends.base import Capabilities, Estimate, LocalBackend, package_version
from resources.backends.device_time import on_device
from resources.backends.measuring import sampled, tables
from resources.backends.readout import counted
from resources.circuits.checkpoint import resumable
from resources.circuits.device import CouplingMapName, estimate_on, estimate_program, tune
from resources.circuits.ising import Ising
from resources.circuits.pauli import Reading
from resources.circuits.qaoa import STORED, WHOLE_RUNS, read_out, run_qaoa
from resources.circuits.templates import Shape, Template
from resources.envelope import KINDS, PAULI, QAOA, Algorithm, EvidenceClass, JobEnvelope, JobResult, Timings
from resources.failures import InputError
from resources.payloads import Payload, model_of, reading_of

#: A ramp grid runs as one uninterruptible call when it is estimated to take at most this share of the time limit.
BROADCAST_SHARE = 0.1
#: The lattice on which estimates say what the circuit would take on a device.
COUPLING_MAP: CouplingMapName = "heavy-hex"


@dataclass
class GateSimulator(LocalBackend):
    """A gate-model simulator that runs QAOA.

    Attributes:
        max_qubits: largest payload accepted, 1 to ``most_qubits``.

    Raises:
        InputError: ``max_qubits`` out of range.
    """

    max_qubits: int = 16
    #: A statevector of 26 qubits takes 1 GiB.
    most_qubits: ClassVar[int] = 26
    tier: ClassVar[str] = "simulator"
    #: What its rows are evidence of.
    evidence: ClassVar[EvidenceClass] = EvidenceClass.SIMULATOR
    #: Packages of the SDK; the first is the one whose version is the backend's.
    packages: ClassVar[tuple[str, ...]]
    #: Measured seconds per circuit: a constant, per gate, and per gate and amplitude.
    seconds_model: ClassVar[tuple[float, float, float]]

    def __post_init__(self) -> None:
        if not 1 <= self.max_qubits <= self.most_qubits:
            problem = f"{self.max_qubits} is out of range"
            raise InputError(self.name, "max_qubits", problem, f"use 1 to {self.most_qubits}")

    @abstractmethod
    def template(self, structure: Shape) -> Template:
        """The compiled circuit of this structure; compiled once, then taken from a cache."""

    def settings(self) -> dict[str, Any]:
        """Settings of the simulation that change its answer, for the record."""
        return {}

    def fidelity(self, structure: Shape) -> float | None:
        """Estimated success probability of the circuit; ``None`` for an ideal machine."""
        return None

    def claim(self, variables: int) -> EvidenceClass:
        """What the rows of a job of this size are evidence of; never more than ``capabilities`` says."""
        return self.capabilities().evidence_class

    def capabilities(self) -> Capabilities:
        """All QAOA algorithms and programs on at most ``max_qubits`` variables."""
        return Capabilities(self.evidence, self.max_qubits, (*QAOA, PAULI), KINDS, tier=self.tier)

    def version(self) -> str:
        """Version of the simulator's package."""
        return package_version(self.packages[0])

    def available(self) -> str | None:
        """Names the packages that are not installed."""
        missing = [package for package in self.packages if find_spec(package.replace("-", "_")) is None]
        return f"backend {self.name} needs {', '.join(missing)}: install the package" if missing else None

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        """Worst case: a complete graph with all fields (of a program, all its circuits), and what it would take on a
        heavy-hex lattice.

        Seconds = circuits × (constant + gates × (a + b·2ⁿ)), constants measured on one core; gates in a layer are
        n fields, n mixers and n(n−1)/2 couplings.
        """
        n, algorithm = envelope.payload_variables, envelope.algorithm
        if envelope.kind == "sample":
            routed = estimate_on(COUPLING_MAP, n, algorithm.depth)
            seconds = circuits_of(algorithm) * self._circuit_seconds(n, n * (n + 1) // 2, algorithm.depth)
        else:
            routed, program = estimate_program(COUPLING_MAP, n, envelope.program), envelope.program
            seconds = program.circuits * self._circuit_seconds(n, program.two_qubit_gates + program.rotations, 1)
        expected = Estimate(
            queue_seconds=0.0,
            execution_seconds=seconds,
            cost=0.0,
            two_qubit_gates=routed.two_qubit_gates,
            depth=routed.depth,
            logical_two_qubit_gates=routed.logical_two_qubit_gates,
            logical_depth=routed.logical_depth,
            coupling_map=routed.coupling_map,
        )
        # a device gets one circuit of a sample job: its angles are chosen before
        return on_device(expected, envelope.program.circuits * algorithm.shots)

    def _circuit_seconds(self, n: int, terms: int, depth: int) -> float:
        constant, per_gate, per_amplitude = self.seconds_model
        return constant + depth * (terms + n) * (per_gate + per_amplitude * 2.0**n)

    def run(self, envelope: JobEnvelope, payload: Payload) -> JobResult:
        """Compile (or take the templates from the cache), run QAOA or the program's circuits, count.

        Raises:
            BackendError: class ``circuit``, when the payload is not what the envelope says.
            TimedOut: a program's circuits take longer than the execution budget.
        """
        if envelope.kind != "sample":
            return self._run_program(envelope, reading_of(envelope, payload))
        payload = model_of(envelope, payload)
        algorithm = envelope.algorithm
        started = time.perf_counter()
        ising = Ising.from_bqm(payload)
        structure = ising.structure(algorithm.depth, algorithm.groups)
        template = self.template(structure)
        compiled = time.perf_counter()
        terms = len(ising.fields) + len(ising.edges)
        grid_seconds = _schedules(algorithm) * self._circuit_seconds(ising.variables, terms, algorithm.depth)
        deadline = compiled + envelope.timeout.execution
        if algorithm.tuning == "local":
            chosen = tune(payload, ising, algorithm, deadline)
            readout = read_out(payload, ising, template, algorithm, chosen)
        else:
            with resumable(f"{self.name} {self.version()} {self.settings()}", payload, algorithm) as checkpoint:
                readout = run_qaoa(
                    payload,
                    ising,
                    template,
                    algorithm,
                    deadline=deadline,
                    broadcast=grid_seconds <= BROADCAST_SHARE * envelope.timeout.execution,
                    checkpoint=checkpoint,
                )
        executed = time.perf_counter()
        samples = counted(payload, readout.bits)
        return JobResult(
            envelope_digest=envelope.digest,
            samples=samples,
            evidence_class=self.claim(ising.variables),
            backend=self.name,
            backend_version=self.version(),
            sdk_versions={package: package_version(package) for package in self.packages},
            width=ising.variables,
            depth=template.depth,
            two_qubit_gates=template.two_qubit_gates,
            logical_depth=template.depth,
            logical_two_qubit_gates=template.two_qubit_gates,
            success_probability=self.fidelity(structure),
            calibration=self.calibration(),
            shots=len(readout.bits),
            expectation_raw=float(sum(sample.energy * sample.count for sample in samples) / len(readout.bits)),
            tuning_shots=readout.tuning_shots,
            circuits=readout.circuits,
            parameters=self.settings() | readout.parameters,
            run_energies=readout.run_energies,
            timings=Timings(
                compile=compiled - started,
                execute=executed - compiled,
                post_process=time.perf_counter() - executed,
            ),
        )

    def _run_program(self, envelope: JobEnvelope, reading: Reading) -> JobResult:
        started = time.perf_counter()
        templates = [self.template(measurement.structure) for measurement in reading.measurements]
        compiled = time.perf_counter()
        bits = sampled(reading, templates, envelope.algorithm, compiled + envelope.timeout.execution)
        executed = time.perf_counter()
        fidelities = [self.fidelity(measurement.structure) for measurement in reading.measurements]
        return JobResult(
            envelope_digest=envelope.digest,
            evidence_class=self.claim(reading.program.qubits),
            backend=self.name,
            backend_version=self.version(),
            sdk_versions={package: package_version(package) for package in self.packages},
            depth=max(template.depth for template in templates),
            two_qubit_gates=max(template.two_qubit_gates for template in templates),
            logical_depth=max(template.depth for template in templates),
            logical_two_qubit_gates=max(template.two_qubit_gates for template in templates),
            success_probability=min((one for one in fidelities if one is not None), default=None),
            parameters=self.settings() | {"bases": list(reading.bases)},
            timings=Timings(
                compile=compiled - started,
                execute=executed - compiled,
                post_process=time.perf_counter() - executed,
            ),
            **tables(reading, bits),
        )


def _schedules(algorithm: Algorithm) -> int:
    """Schedules to choose from."""
    return len(algorithm.ramp_lengths) + (STORED if algorithm.name == "qaoa-library" else 0)


def circuits_of(algorithm: Algorithm) -> int:
    """Most circuits a job of this algorithm runs."""
    there = _schedules(algorithm)
    grid = there if there > 1 else 0
    if algorithm.name != "qaoa-trained":
        return grid + 1
    runs = 1 if algorithm.tuning == "local" else min(WHOLE_RUNS, algorithm.shots)
    return runs * (grid + algorithm.training_circuits + 1)
