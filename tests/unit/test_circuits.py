"""Circuits: Ising form, templates against an independent simulation, and what the QAOA loop charges and records."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise

import dimod
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.backends.aer import Aer
from resources.backends.annealer import Annealer
from resources.backends.conformance import asymmetric_problem, envelope_for
from resources.backends.gate_simulator import GateSimulator
from resources.backends.lightning import Lightning
from resources.circuits.ising import Ising, Structure
from resources.circuits.qaoa import WHOLE_RUNS
from resources.circuits.schedules import MIXER_RAMP, cvar, linear_ramp
from resources.circuits.templates import Template, pennylane_template, qiskit_template
from resources.envelope import Algorithm, JobResult, TimeoutBudget
from resources.failures import BackendError, FailureClass, InputError

TEMPLATES = [qiskit_template, pennylane_template]
BACKENDS = [Aer, Lightning]
biases = st.floats(-8, 8, allow_nan=False).map(lambda x: round(x, 3))


@st.composite
def models(draw: st.DrawFn) -> dimod.BinaryQuadraticModel:
    """BINARY models over 0 … n−1, variables added in any order, with zero biases among the others."""
    n = draw(st.integers(1, 6))
    model = dimod.BinaryQuadraticModel("BINARY")
    for i in draw(st.permutations(range(n))):
        model.add_linear(i, draw(biases))
    for i in range(n):
        for j in range(i):
            if draw(st.booleans()):
                model.add_quadratic(i, j, draw(biases | st.just(0.0)))
    model.offset = draw(biases)
    return model


def states(n: int) -> np.ndarray:
    return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(np.int8)


def solve(backend: GateSimulator, payload: dimod.BinaryQuadraticModel, execution: float = 60.0, **set_) -> JobResult:
    algorithm = Algorithm(**{"depth": 3, "shots": 200, "tuning_shots": 50} | set_)
    envelope = envelope_for(backend, payload, algorithm)
    envelope = envelope.model_copy(update={"timeout": TimeoutBudget(execution=execution)})
    return backend.result(backend.submit(envelope, payload, envelope.idempotency_key))


@given(models())
@settings(max_examples=50, deadline=None)
def test_the_ising_form_has_the_payloads_energies(model: dimod.BinaryQuadraticModel) -> None:
    ising = Ising.from_bqm(model)
    bits = states(ising.variables)
    z = 1.0 - 2.0 * bits
    energies = np.full(len(bits), ising.offset) + z[:, list(ising.fields)] @ ising.h
    for (i, j), coupling in zip(ising.edges, ising.couplings, strict=True):
        energies += coupling * z[:, i] * z[:, j]
    expected = model.energies((bits, range(ising.variables)))
    np.testing.assert_allclose(energies, expected, atol=1e-9)
    assert ising.offset == pytest.approx(expected.mean(), abs=1e-9)
    if ising.fields or ising.edges:
        assert ising.scale == pytest.approx(expected.std() / np.sqrt(ising.parts), rel=1e-9)
    assert all(i < j for i, j in ising.edges)


@given(models(), st.floats(0.01, 100), st.floats(-50, 50))
@settings(max_examples=30, deadline=None)
def test_angles_do_not_depend_on_units_or_offset(model: dimod.BinaryQuadraticModel, unit: float, shift: float) -> None:
    ising = Ising.from_bqm(model)
    gammas, betas = (np.array([side]) for side in linear_ramp(3.0, 2))
    other = Ising(ising.variables, ising.fields, ising.h * unit, ising.edges, ising.couplings * unit, shift)
    angles = ising.angles(gammas, betas)
    assert angles.shape == (1, ising.structure(2).parameters)
    if ising.fields or ising.edges:
        np.testing.assert_allclose(other.angles(gammas, betas), angles, atol=1e-9)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("variables", [1, 2, 5, 6])
def test_a_complete_graph_needs_at_most_n_rounds_a_layer(template, variables: int) -> None:
    structure = Ising.from_bqm(asymmetric_problem(variables, 0)).structure(3)
    assert len(structure.edges) == variables * (variables - 1) // 2
    compiled = template(structure)
    assert compiled.two_qubit_gates == 3 * len(structure.edges)
    rounds = 0 if variables == 1 else variables - 1 + variables % 2
    assert compiled.depth <= 1 + 3 * (rounds + 2)


@pytest.mark.parametrize("template", TEMPLATES)
def test_samples_follow_the_conventions(template) -> None:
    """Against matrices written down here: |ψ⟩ = Π exp(+iβΣX) exp(−iγC) |+⟩, bit i of a state being variable i."""
    payload, depth, shots = asymmetric_problem(3, 7), 2, 20_000
    payload.remove_interaction(0, 2)
    ising = Ising.from_bqm(payload)
    gammas, betas = np.array([[0.7, 1.3], [0.2, 0.9]]), np.array([[0.5, 0.2], [0.4, -0.3]])
    bits = template(ising.structure(depth)).sample(ising.angles(gammas, betas), shots, 5)
    assert bits.shape == (2, shots, 3)
    assert bits.dtype == np.int8
    cost = payload.energies((states(3), range(3))) / ising.scale
    flips = sum(np.kron(np.kron(np.eye(2 ** (2 - i)), [[0, 1], [1, 0]]), np.eye(2**i)) for i in range(3))
    values, vectors = np.linalg.eigh(flips)
    for k in range(2):
        psi = np.full(8, 8**-0.5, dtype=complex)
        for gamma, beta in zip(gammas[k], betas[k], strict=True):
            psi = np.exp(-1j * gamma * cost) * psi
            psi = vectors @ (np.exp(1j * beta * values) * (vectors.T @ psi))
        expected = np.abs(psi) ** 2
        found = np.bincount(bits[k] @ [1, 2, 4], minlength=8) / shots
        assert np.abs(found - expected).max() < 5 * np.sqrt(0.25 / shots)


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_seed_decides_a_templates_bits(template) -> None:
    ising = Ising.from_bqm(asymmetric_problem(5, 1))
    compiled = template(ising.structure(2))
    angles = ising.angles(*(np.stack([side, side]) for side in linear_ramp(2.0, 2)))
    first, same, other = (compiled.sample(angles, 60, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()
    # the members of a broadcast are independent
    assert (first[0] != first[1]).any()


def test_the_ramp_rises_and_falls_linearly() -> None:
    gammas, betas = linear_ramp(4.0, 5)
    np.testing.assert_allclose(gammas, [0.4, 1.2, 2.0, 2.8, 3.6])
    np.testing.assert_allclose(betas / MIXER_RAMP, [0.9, 0.7, 0.5, 0.3, 0.1])


@given(st.lists(biases, min_size=1, max_size=40), st.floats(0.01, 1))
@settings(max_examples=50, deadline=None)
def test_cvar_is_the_mean_of_the_best(energies: list[float], alpha: float) -> None:
    best = sorted(energies)[: int(np.ceil(alpha * len(energies)))]
    assert cvar(np.array(energies), alpha) == pytest.approx(np.mean(best), abs=1e-9)
    assert min(energies) - 1e-9 <= cvar(np.array(energies), alpha) <= np.mean(energies) + 1e-9


@pytest.mark.parametrize(("backend", "template"), list(zip(BACKENDS, TEMPLATES, strict=True)))
def test_the_second_job_of_a_structure_compiles_nothing(backend, template) -> None:
    template.cache_clear()
    first = solve(backend(), asymmetric_problem(6, 1))
    assert template.cache_info().misses == 1
    second = solve(backend(), asymmetric_problem(6, 2), seed=9)
    assert template.cache_info().misses == 1
    assert second.timings.compile < first.timings.compile / 3
    assert second.timings.compile < 0.02
    solve(backend(), asymmetric_problem(6, 2), depth=4)
    assert template.cache_info().misses == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_ramp_is_chosen_by_cvar_and_charged(backend) -> None:
    result = solve(backend(), asymmetric_problem(7, 3), ramp_lengths=(0.2, 3.0, 40.0), shots=300)
    assert (result.shots, result.tuning_shots, result.circuits) == (300, 150, 4)
    values = dict(result.parameters["cvar_by_ramp_length"])
    assert set(values) == {0.2, 3.0, 40.0}
    assert values[result.parameters["ramp_length"]] == min(values.values())
    gammas, betas = linear_ramp(result.parameters["ramp_length"], 3)
    assert (result.parameters["gammas"], result.parameters["betas"]) == (gammas.tolist(), betas.tolist())
    assert result.run_energies == ()
    single = solve(backend(), asymmetric_problem(7, 3), ramp_lengths=(3.0,))
    assert (single.tuning_shots, single.circuits) == (0, 1)


def test_equal_cvars_are_decided_by_the_mean() -> None:
    """On two variables every length reaches the best state in a tenth of the shots."""
    payload = asymmetric_problem(2, 4)
    result = solve(Lightning(), payload, ramp_lengths=(0.01, 3.0), tuning_shots=200)
    (_, weak), (_, strong) = result.parameters["cvar_by_ramp_length"]
    assert weak == strong
    assert result.parameters["ramp_length"] == 3.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_repeats_whole_runs_within_its_budget(backend) -> None:
    result = solve(backend(), asymmetric_problem(6, 5), name="qaoa-trained", shots=203, training_circuits=12)
    runs = result.parameters["runs"]
    assert len(runs) == len(result.run_energies) == WHOLE_RUNS
    assert result.shots == 203
    assert min(result.run_energies) == pytest.approx(result.samples[0].energy)
    trained = [len(run["training_cvars"]) for run in runs]
    assert max(trained) <= 12
    assert result.circuits == sum(trained) + WHOLE_RUNS * (5 + 1)
    assert result.tuning_shots == 50 * (result.circuits - WHOLE_RUNS)
    # the runs are independent: they don't share their sampling noise
    assert all(a["cvar_by_ramp_length"] != b["cvar_by_ramp_length"] for a, b in pairwise(runs))


def test_training_helps_on_average() -> None:
    def share_of_best(result: JobResult) -> float:
        return result.samples[0].count / result.shots

    settings_ = {"shots": 1000, "tuning_shots": 200}
    gains = []
    for seed in range(6):
        payload = asymmetric_problem(8, 20 + seed)
        ramp = solve(Lightning(), payload, seed=seed, **settings_)
        trained = solve(Lightning(), payload, name="qaoa-trained", seed=seed, training_circuits=30, **settings_)
        assert trained.samples[0].energy == pytest.approx(ramp.samples[0].energy)
        gains.append(share_of_best(trained) / share_of_best(ramp))
    assert np.exp(np.mean(np.log(gains))) > 1.0, gains


@dataclass
class Slow:
    """A real template that takes at least 50 ms per circuit, and writes down every call."""

    template: Template
    calls: list[int]

    @property
    def depth(self) -> int:
        return self.template.depth

    @property
    def two_qubit_gates(self) -> int:
        return self.template.two_qubit_gates

    def sample(self, angles: np.ndarray, shots: int, seed: int) -> np.ndarray:
        self.calls.append(len(angles))
        time.sleep(0.05 * len(angles))
        return self.template.sample(angles, shots, seed)


@dataclass
class SlowLightning(Lightning):
    seconds_model = (0.05, 0.0, 0.0)

    def __post_init__(self) -> None:
        self.calls: list[int] = []

    def template(self, structure: Structure) -> Template:
        return Slow(super().template(structure), self.calls)


def test_a_short_time_limit_shrinks_the_grid_and_says_so() -> None:
    backend = SlowLightning()
    result = solve(backend, asymmetric_problem(5, 1), execution=0.21)
    left_out = result.parameters["ramp_lengths_left_out"]
    assert 0 < len(left_out) < 5
    assert len(result.parameters["cvar_by_ramp_length"]) == 5 - len(left_out)
    assert backend.calls == [1] * result.circuits
    assert result.timings.execute < 0.21 + 0.05
    assert result.shots == 200


@pytest.mark.parametrize("name", ["qaoa-ramp", "qaoa-trained"])
def test_without_any_time_one_circuit_still_answers(name: str) -> None:
    backend = SlowLightning()
    result = solve(backend, asymmetric_problem(5, 2), execution=1e-6, name=name)
    assert backend.calls == [1]
    assert result.tuning_shots == 0
    if name == "qaoa-ramp":
        assert result.parameters["ramp_lengths_left_out"] == [2.0, 4.0, 6.0, 8.0, 12.0]
        assert result.shots == 200
    else:
        assert result.parameters["runs_left_out"] == WHOLE_RUNS - 1
        assert result.shots == 200 // WHOLE_RUNS
        assert len(result.run_energies) == 1


def test_training_shares_the_time_among_the_runs() -> None:
    backend = SlowLightning()
    result = solve(
        backend, asymmetric_problem(5, 3), execution=1.6, name="qaoa-trained", ramp_lengths=(3.0,), shots=100
    )
    assert result.timings.execute < 1.6 + 0.06
    assert len(result.run_energies) == WHOLE_RUNS
    assert all(0 < len(run["training_cvars"]) < 40 for run in result.parameters["runs"])


def test_an_annealer_past_its_time_returns_the_reads_it_has() -> None:
    payload = asymmetric_problem(8, 0)
    backend = Annealer()
    algorithm = Algorithm(name="annealing", shots=5000)
    envelope = envelope_for(backend, payload, algorithm).model_copy(update={"timeout": TimeoutBudget(execution=0.02)})
    result = backend.run(envelope, payload)
    assert 0 < result.shots < 5000
    assert result.parameters["reads_left_out"] == 5000 - result.shots


@pytest.mark.parametrize("backend", [Aer, Lightning, Annealer])
def test_a_payload_that_is_not_what_was_announced_is_a_defect(backend) -> None:
    good = asymmetric_problem(3, 0)
    algorithm = Algorithm(name=backend().capabilities().algorithms[0])
    envelope = envelope_for(backend(), good, algorithm)
    named = good.relabel_variables({0: "a"}, inplace=False)
    for payload in (good.spin.copy(), named, asymmetric_problem(4, 0)):
        with pytest.raises(BackendError, match="must be a BINARY quadratic model") as refusal:
            backend().submit(envelope, payload, "key")
        assert refusal.value.failure_class is FailureClass.CIRCUIT


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("qubits", [0, 27])
def test_a_wrong_size_limit_is_one_sentence(backend, qubits: int) -> None:
    with pytest.raises(InputError, match=f"max_qubits: {qubits} is out of range; use 1 to 26"):
        backend(max_qubits=qubits)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Aer, "packages", ("qiskit-aer", "no-such-package"))
    assert Aer().available() == "backend aer needs no-such-package: install the package"


def test_describing_the_backends_loads_no_sdk() -> None:
    script = """
import sys
from resources.backends.aer import Aer
from resources.backends.annealer import Annealer
from resources.backends.lightning import Lightning
for backend in (Aer(), Lightning(), Annealer()):
    assert backend.available() is None and backend.capabilities() and backend.version()
heavy = {"qiskit", "qiskit_aer", "pennylane", "dimod", "scipy", "networkx"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_scale_of_many_equal_parts_is_that_of_one() -> None:
    one = dimod.BinaryQuadraticModel({0: 1.0, 1: -0.5}, {(0, 1): 2.0}, 0.0, dimod.BINARY)
    many = dimod.BinaryQuadraticModel("BINARY")
    for k in range(5):
        many.update(one.relabel_variables({0: 2 * k, 1: 2 * k + 1}, inplace=False))
    many.add_variable(10)
    assert Ising.from_bqm(many).parts == 5
    assert Ising.from_bqm(many).scale == pytest.approx(Ising.from_bqm(one).scale)
