"""Conformance suite of the ``QuantumBackend`` seam, to be run by anybody on a backend of their own.

Subclass ``BackendConformance`` in a test module and implement ``backend``; any test runner that collects ``test_*``
methods does the rest (nothing here needs one)::

    class TestMyBackend(BackendConformance):
        def backend(self):
            return MyBackend()

Here: what every backend must do, whatever its vendor. Not here: tests of one backend's internals.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from resources.backends.base import JobHandle, ProviderStatus, QuantumBackend
from resources.backends.conformance_programs import PROGRAM_KINDS, asymmetric_program, exact_values, program_envelope
from resources.envelope import PAULI, QAOA, Algorithm, EvidenceClass, JobEnvelope, JobResult
from resources.failures import BackendError, FailureClass

if TYPE_CHECKING:
    import dimod

    from resources.payloads import Payload

_ENDED = (ProviderStatus.SUCCEEDED, ProviderStatus.FAILED, ProviderStatus.CANCELLED)


def envelope_for(backend: QuantumBackend, payload: dimod.BinaryQuadraticModel, algorithm: Algorithm) -> JobEnvelope:
    """A complete envelope for ``payload``, as the dispatcher would write it."""
    with payload.to_file() as stored:
        reference = hashlib.sha256(stored.read()).hexdigest()
    return JobEnvelope(
        correlation_id="conformance",
        purpose="conformance suite",
        owner="conformance",
        problem_type="qubo",
        instance="qubo.conformance",
        input_digest=reference,
        encoding="penalty",
        encoding_digest=reference,
        payload_ref=reference,
        payload_variables=payload.num_variables,
        algorithm=algorithm,
        backend=backend.name,
        expected_shape=(algorithm.shots, payload.num_variables),
    )


def asymmetric_problem(variables: int, seed: int) -> dimod.BinaryQuadraticModel:
    """A dense Gaussian Ising problem with fields and offset, as a BINARY model over 0 … n−1; no symmetry is left."""
    import dimod

    rng = np.random.default_rng(seed)
    model = dimod.BinaryQuadraticModel("SPIN")
    for i in range(variables):
        model.add_linear(i, rng.normal())
        for j in range(i):
            model.add_quadratic(j, i, rng.normal())
    model.offset = rng.normal()
    return model.change_vartype(dimod.BINARY, inplace=False)


class BackendConformance:
    """The suite. A run sends about a hundred small jobs (1 to 8 variables, at most 2,048 shots a circuit)."""

    #: Seconds to wait for one job; raise it for a backend with a queue.
    patience: float = 600.0
    #: Depths at which the ramp is compared.
    depths: tuple[int, ...] = (2, 4, 8)
    #: Seeds of the direction test's problems; problem ``s`` has 6 + s mod 3 variables.
    problems: range = range(20)
    #: Size of the largest problem; smaller for a backend whose time explodes with it.
    most_variables: int = 8
    #: How much of an ideal machine's values noise may take away.
    noise: float = 0.0

    def backend(self) -> QuantumBackend:
        """A new backend."""
        raise NotImplementedError("implement backend() so that it returns a new backend")

    # -- helpers -------------------------------------------------------------------------------------------------

    def algorithms(self, backend: QuantumBackend, **settings: Any) -> list[Algorithm]:
        """One small setting per algorithm the backend offers."""
        small = {"depth": 3, "shots": 256, "tuning_shots": 32, "training_circuits": 4, **settings}
        names = [name for name in backend.capabilities().algorithms if name != PAULI]
        return [Algorithm.model_validate({"name": name, **small}) for name in names]

    def solve(self, backend: QuantumBackend, payload: dimod.BinaryQuadraticModel, algorithm: Algorithm) -> JobResult:
        """Submit, wait for the end, fetch."""
        envelope = envelope_for(backend, payload, algorithm)
        return self.wait(backend, backend.submit(envelope, payload, envelope.idempotency_key))

    def wait(self, backend: QuantumBackend, handle: JobHandle) -> JobResult:
        """The result of a submitted job."""
        until = time.monotonic() + self.patience
        while (status := backend.status(handle)) not in _ENDED:
            assert time.monotonic() < until, f"job {handle.provider_id} did not end within {self.patience} s"
            time.sleep(0.05)
        assert status is ProviderStatus.SUCCEEDED, f"job {handle.provider_id} ended as {status}"
        return backend.result(handle)

    # -- life cycle ----------------------------------------------------------------------------------------------

    def test_it_is_available_and_named(self) -> None:
        """A backend under test says that it can be used, and has a name and a version."""
        backend = self.backend()
        assert backend.available() is None, f"not available: {backend.available()}"
        assert backend.name, "the backend has no name"
        assert backend.version(), "the backend has no version"

    def test_life_cycle(self) -> None:
        """submit → status → result; ``find`` adopts by key; the same key is the same job."""
        backend, payload = self.backend(), asymmetric_problem(4, seed=1)
        for algorithm in self.algorithms(backend):
            envelope = envelope_for(backend, payload, algorithm)
            key = envelope.idempotency_key
            assert backend.find(key) is None, "find() knows a job that was never sent"
            handle = backend.submit(envelope, payload, key)
            assert handle.backend == backend.name, "the handle names another backend"
            assert handle.key == key, "the handle carries another key"
            first = self.wait(backend, handle)
            assert backend.find(key) == handle, "find() does not adopt the job by its key"
            again = backend.submit(envelope, payload, key)
            assert again == handle, "the same key was sent as a second job"
            assert self.wait(backend, again) == first, "the same job has two results"

    def test_an_unknown_job_is_an_error(self) -> None:
        """A handle nobody gave out is refused, not answered."""
        backend = self.backend()
        handle = JobHandle(backend.name, "no-such-job", "no-such-key")
        for ask in (backend.status, backend.result):
            try:
                ask(handle)
            except BackendError:
                continue
            raise AssertionError(f"{ask.__name__}() answered for a job that does not exist")

    def test_estimate_covers_the_circuit(self) -> None:
        """An estimate comes before anything is sent; depth and two-qubit gates are not exceeded."""
        backend, payload = self.backend(), asymmetric_problem(5, seed=2)
        for algorithm in self.algorithms(backend):
            estimate = backend.estimate(envelope_for(backend, payload, algorithm))
            result = self.solve(backend, payload, algorithm)
            assert estimate.execution_seconds > 0, "no run time is estimated"
            assert backend.capabilities().metered or estimate.cost == 0, "a free backend estimates a cost"
            assert result.depth <= estimate.depth, f"depth {result.depth} exceeds the estimate {estimate.depth}"
            assert result.two_qubit_gates <= estimate.two_qubit_gates, "more two-qubit gates than estimated"

    # -- samples -------------------------------------------------------------------------------------------------

    def test_samples_are_well_formed(self) -> None:
        """Distinct bit strings, sorted by energy and bits, whose counts add up; energies are the payload's own."""
        for seed, variables in enumerate((1, 3, min(7, self.most_variables))):
            backend, payload = self.backend(), asymmetric_problem(variables, seed)
            for algorithm in self.algorithms(backend):
                result = self.solve(backend, payload, algorithm)
                bits = [sample.bits for sample in result.samples]
                assert result.width == variables, f"width {result.width} for {variables} variables"
                assert result.shots == algorithm.shots, f"{result.shots} of {algorithm.shots} shots came back"
                assert len(set(bits)) == len(bits), "a read-out is listed twice"
                order = [(sample.energy, sample.bits) for sample in result.samples]
                assert order == sorted(order), "samples are not sorted by energy and bits"
                states = np.array([[int(bit) for bit in text] for text in bits], dtype=np.int8)
                energies = payload.energies((states, range(variables)))
                reported = np.array([sample.energy for sample in result.samples])
                worst = float(np.abs(energies - reported).max())
                assert worst <= 1e-9 * max(1.0, float(np.abs(energies).max())), f"energies differ by {worst}"

    def test_evidence_is_honest(self) -> None:
        """No row claims a better evidence class than the backend has; spent shots and circuits are charged."""
        backend, payload = self.backend(), asymmetric_problem(4, seed=3)
        ranks = list(EvidenceClass)
        for algorithm in self.algorithms(backend):
            result = self.solve(backend, payload, algorithm)
            best = backend.capabilities().evidence_class
            assert ranks.index(result.evidence_class) >= ranks.index(best), f"{result.evidence_class} out of {best}"
            assert result.backend == backend.name, "the result names another backend"
            assert result.sdk_versions, "no SDK version is recorded"
            assert result.circuits >= 1, "no circuit was run"
            assert (result.tuning_shots > 0) <= (result.circuits > 1), "tuning shots without a circuit to spend them on"

    def test_the_seed_decides(self) -> None:
        """The same seed gives the same samples on a new backend, another seed gives others (hardware apart)."""
        payload = asymmetric_problem(min(7, self.most_variables), seed=4)
        if self.backend().capabilities().evidence_class is EvidenceClass.HARDWARE:
            return
        for index in range(len(self.algorithms(self.backend()))):
            results: list[JobResult] = []
            for seed in (11, 11, 12):
                backend = self.backend()
                results.append(self.solve(backend, payload, self.algorithms(backend, seed=seed)[index]))
            first, same, other = results
            assert first.samples == same.samples, "the same seed gave other samples"
            # an annealer may well find the one best state every time
            if first.evidence_class.is_quantum:
                assert first.samples != other.samples, "the seed has no effect"

    # -- refusals ------------------------------------------------------------------------------------------------

    def test_over_size_is_refused(self) -> None:
        """A payload above ``max_variables`` is refused with class ``capability``."""
        backend, payload = self.backend(), asymmetric_problem(2, seed=5)
        size = backend.capabilities().max_variables * backend.capabilities().parts + 1
        for algorithm in self.algorithms(backend):
            self._refused(backend, payload, envelope_for(backend, payload, algorithm), payload_variables=size)

    def test_groups_are_kept_or_refused(self) -> None:
        """Every read-out has exactly one 1 in each group, or the job is refused (``capability``)."""
        backend, payload = self.backend(), asymmetric_problem(5, seed=2)
        groups = ((0, 2, 4), (1, 3))
        for algorithm in self.algorithms(backend, groups=groups):
            if "xy" not in backend.capabilities().mixers:
                self._refused(backend, payload, envelope_for(backend, payload, algorithm))
                continue
            for sample in self.solve(backend, payload, algorithm).samples:
                ones = [sum(sample.bits[k] == "1" for k in group) for group in groups]
                assert ones == [1] * len(groups), f"read-out {sample.bits} is outside the groups"

    def test_what_it_does_not_offer_is_refused(self) -> None:
        """Unknown algorithms and job kinds are refused with class ``capability``."""
        backend, payload = self.backend(), asymmetric_problem(2, seed=6)
        can = backend.capabilities()
        envelope = envelope_for(backend, payload, self.algorithms(backend)[0])
        for kind in [kind for kind in PROGRAM_KINDS if kind not in can.kinds]:
            program = asymmetric_program(kind)
            asked = program_envelope(backend, program, kind, Algorithm(name=PAULI, shots=64))
            self._refused(backend, program, asked)
        for name in {*QAOA, "annealing", "descent"} - {*can.algorithms}:
            algorithm = envelope.algorithm.model_copy(update={"name": name})
            self._refused(backend, payload, envelope, algorithm=algorithm)

    def _refused(self, backend: QuantumBackend, payload: Payload, envelope: JobEnvelope, **change: Any) -> None:
        wrong = envelope.model_copy(update=change)
        # model_copy keeps what was computed before, digests among it
        wrong = JobEnvelope.model_validate(wrong.model_dump())
        refusal: BackendError | None = None
        try:
            backend.submit(wrong, payload, wrong.idempotency_key)
        except BackendError as error:
            refusal = error
        assert refusal is not None, f"accepted a job with {change}"
        assert refusal.failure_class is FailureClass.CAPABILITY, f"refused as {refusal.failure_class}"
        assert backend.find(wrong.idempotency_key) is None, "a refused job is known afterwards"

    # -- direction -----------------------------------------------------------------------------------------------

    def test_bit_order(self) -> None:
        """The first bit is variable 0: single fields of both signs, and a one-hot state of three variables."""
        import dimod

        backend = self.backend()
        for algorithm in self.algorithms(backend, tuning_shots=256):
            for field, best in ((-1.0, "1"), (1.0, "0")):
                payload = dimod.BinaryQuadraticModel({0: field}, {}, 0.5, "BINARY")
                assert self._most_frequent(backend, payload, algorithm) == best, f"the sign of field {field} is wrong"
            for place in range(3):
                linear = {i: -1.0 if i == place else 1.5 + 0.25 * i for i in range(3)}
                payload = dimod.BinaryQuadraticModel(linear, {(0, 1): 0.5, (1, 2): 0.25}, 0.0, "BINARY")
                best = "".join("1" if i == place else "0" for i in range(3))
                found = self._most_frequent(backend, payload, algorithm)
                assert found == best, f"bits come in the wrong order: {found} instead of {best}"

    def _most_frequent(self, backend: QuantumBackend, payload: dimod.BinaryQuadraticModel, algorithm: Algorithm) -> str:
        return max(self.solve(backend, payload, algorithm).samples, key=lambda sample: sample.count).bits

    def test_direction(self) -> None:
        """Sampling leads to the minimum (design, conventions).

        On every problem the mean energy is below the uniform mean by three standard errors and the best state comes
        more often than 2⁻ⁿ; for ``qaoa-ramp`` the mean, averaged over problems, falls with depth.
        """
        backend = self.backend()
        names = backend.capabilities().algorithms
        # training starts from the ramp: one sampling algorithm per backend is enough, the ramp where there is one
        name = "qaoa-ramp" if "qaoa-ramp" in names else names[0]
        depths = self.depths if name.startswith("qaoa") else self.depths[-1:]
        averages = np.zeros(len(depths))
        for seed in self.problems:
            payload = asymmetric_problem(min(6 + seed % 3, self.most_variables), seed)
            n = payload.num_variables
            states = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
            uniform = payload.energies((states, range(n)))
            for index, depth in enumerate(depths):
                # one ramp length: the schedule itself is under test, not the choice among several
                algorithm = Algorithm.model_validate(
                    {"name": name, "depth": depth, "ramp_lengths": (3.0,), "seed": seed}
                )
                result = self.solve(backend, payload, algorithm)
                energies = np.array([sample.energy for sample in result.samples])
                weights = np.array([sample.count for sample in result.samples]) / result.shots
                mean = float(weights @ energies)
                error = float(np.sqrt(weights @ (energies - mean) ** 2 / result.shots))
                assert mean + 3 * error < uniform.mean(), (
                    f"problem {seed}, depth {depth}: mean energy {mean:.3f} is not below the uniform mean "
                    f"{uniform.mean():.3f}"
                )
                averages[index] += (mean - uniform.mean()) / uniform.std() / len(self.problems)
            best = float(weights[energies <= uniform.min() + 1e-9].sum())
            assert best > 2.0**-n, f"problem {seed}: the best state has frequency {best:.4f}, not above 2^-{n}"
        assert (np.diff(averages) < 0).all(), f"the mean energy does not fall with depth {depths}: {averages.round(3)}"

    # -- programs ------------------------------------------------------------------------------------------------

    def test_values_are_those_of_the_circuits(self) -> None:
        """Expectation values and overlaps within five standard errors of the exact ones, noise apart; the errors are
        those of the shots, and the answer says what it took."""
        backend, algorithm = self.backend(), Algorithm(name=PAULI, shots=2048, seed=5)
        for kind in PROGRAM_KINDS:
            if kind not in backend.capabilities().kinds:
                continue
            program = asymmetric_program(kind)
            envelope, exact = program_envelope(backend, program, kind, algorithm), exact_values(program, kind)
            estimate = backend.estimate(envelope)
            result = self.wait(backend, backend.submit(envelope, program, envelope.idempotency_key))
            values, errors = np.array(result.values), np.array(result.standard_errors)
            assert values.shape == exact.shape == envelope.expected_shape, f"{kind}: values of shape {values.shape}"
            scale = np.abs(exact).max()
            assert (np.abs(values - exact) <= 5 * errors + self.noise * scale + 1e-9).all(), (
                f"{kind}: {values} for {exact}"
            )
            assert (errors <= 3 * scale / np.sqrt(algorithm.shots)).all(), f"{kind}: errors {errors}"
            assert errors.max() > 0, f"{kind}: values of shots have errors"
            assert not result.samples, f"{kind}: samples beside values"
            assert result.circuits == envelope.program.circuits, f"{kind}: {result.circuits} circuits"
            assert result.shots >= algorithm.shots * result.circuits, f"{kind}: {result.shots} shots"
            assert result.width == program.qubits, f"{kind}: width {result.width}"
            assert result.backend == backend.name, f"{kind}: the result names another backend"
            assert result.envelope_digest == envelope.digest, f"{kind}: another envelope's result"
            assert result.evidence_class is backend.capabilities().evidence_class, f"{kind}: {result.evidence_class}"
            assert result.depth <= estimate.depth, f"{kind}: depth {result.depth}, estimated {estimate.depth}"
            assert result.two_qubit_gates <= estimate.two_qubit_gates, f"{kind}: more two-qubit gates than estimated"

    def test_a_program_that_is_not_the_announced_one_is_refused(self) -> None:
        """Class ``circuit``, nothing is run."""
        backend, program = self.backend(), asymmetric_program("estimate")
        if "estimate" not in backend.capabilities().kinds:
            return
        envelope = program_envelope(backend, program, "estimate", Algorithm(name=PAULI, shots=64))
        wrong = envelope.model_copy(update={"program": envelope.program.model_copy(update={"circuits": 1})})
        refusal: BackendError | None = None
        try:
            backend.submit(wrong, program, wrong.idempotency_key)
        except BackendError as error:
            refusal = error
        assert refusal is not None, "a program of another size was accepted"
        assert refusal.failure_class is FailureClass.CIRCUIT, f"refused as {refusal.failure_class}"
        assert backend.find(wrong.idempotency_key) is None, "a refused job is known afterwards"
