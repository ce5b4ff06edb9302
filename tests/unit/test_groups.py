"""Groups of exactly one 1: from the encoding to the envelope, kept by the statevector simulator, refused by others."""

import json

import dimod
import numpy as np
import pytest

from hybrid_assets.encodings.one_hot_xy import OneHotXY
from hybrid_assets.encodings.samples import leakage
from hybrid_assets.problems.base import Program
from hybrid_assets.proposals.rounds import bits_of
from resources.backends.aer import Aer
from resources.backends.base import QuantumBackend
from resources.backends.conformance import asymmetric_problem, envelope_for
from resources.backends.heuristic import Heuristic
from resources.backends.statevector import Statevector
from resources.circuits.diagonal_template import DiagonalTemplate
from resources.circuits.ising import Ising, Structure
from resources.circuits.statevector import Diagonal, Mixer, evolve
from resources.envelope import Algorithm, JobEnvelope
from resources.failures import BackendError, FailureClass


def matching(n: int, seed: int) -> Program:
    """Each of ``n`` to one of ``n``: rows are groups; that columns are too is left to the objective."""
    costs = np.random.default_rng(seed).integers(1, 20, (n, n))
    cqm = dimod.ConstrainedQuadraticModel()
    same = [(n * i + k, n * j + k) for k in range(n) for i in range(n) for j in range(i + 1, n)]
    heads, tails = zip(*same, strict=True)
    cqm.set_objective(
        dimod.BinaryQuadraticModel.from_numpy_vectors(
            costs.ravel().astype(float), (heads, tails, np.full(len(same), 40.0)), 0.0, dimod.BINARY
        )
    )
    for i in range(n):
        cqm.add_constraint([(n * i + k, 1.0) for k in range(n)], "==", 1, label=f"row {i}")
    return Program(cqm, "matching")


def asked(backend: QuantumBackend, tuning: str = "device") -> tuple[Program, dimod.BinaryQuadraticModel, JobEnvelope]:
    program = matching(3, 1)
    encoded = OneHotXY().encode(program)
    groups = tuple(tuple(group) for group in encoded.detail["groups"])
    settings = {"depth": 4, "shots": 400, "seed": 5, "groups": groups, "tuning": tuning}
    return program, encoded.bqm, envelope_for(backend, encoded.bqm, Algorithm.model_validate(settings))


@pytest.mark.parametrize("tuning", ["device", "local"])
def test_the_simulator_never_leaves_the_groups_and_prefers_low_energies(tuning: str) -> None:
    backend = Statevector()
    program, payload, envelope = asked(backend, tuning)
    result = backend.answer(envelope, payload)
    bits, counts = bits_of(result.samples), np.array([sample.count for sample in result.samples])
    assert leakage(OneHotXY().encode(program), bits, counts) == 0.0
    inside = np.eye(3, dtype=np.int8)[np.array(np.meshgrid(*[range(3)] * 3)).reshape(3, -1).T].reshape(27, 9)
    energies = payload.energies((inside, range(9)))
    assert result.samples[0].energy == pytest.approx(energies.min())
    mean = sum(sample.energy * sample.count for sample in result.samples) / result.shots
    assert mean < energies.mean() - energies.std() / 2


def test_parts_evolve_as_the_whole_does() -> None:
    payload = asymmetric_problem(6, seed=4)
    for i, j in list(payload.quadratic):
        if (min(i, j) < 3) != (max(i, j) < 3):
            payload.remove_interaction(i, j)
    groups = ((1, 0, 2), (3, 5))
    ising = Ising.from_bqm(payload)
    structure = ising.structure(2, groups)
    assert [part.tolist() for part in structure.parts] == [[0, 1, 2], [3, 4, 5]]
    gammas, betas = np.array([[0.7, 1.1]]), np.array([[0.9, 0.4]])
    shots = 40_000
    bits = DiagonalTemplate(structure).sample(ising.angles(gammas, betas), shots, 3)[0]
    found = np.bincount(bits @ (1 << np.arange(6)), minlength=64) / shots
    diagonal = Diagonal.of_bqm(payload)
    state = evolve(diagonal, gammas[0] * diagonal.scale / ising.scale, betas[0], Mixer(groups))
    expected = state.probabilities()
    assert np.abs(found - expected).max() < 5 * np.sqrt(0.25 / shots)
    assert found[expected < 1e-12].sum() == 0


def test_a_group_ties_what_nothing_couples() -> None:
    free = Structure(4, (0, 1, 2, 3), (), 1)
    assert len(free.parts) == 4
    tied = Structure(4, (0, 1, 2, 3), (), 1, ((3, 0),))
    assert [part.tolist() for part in tied.parts] == [[0, 3], [1], [2]]


def test_the_circuit_counts_the_start_state_and_the_mixer() -> None:
    # two gates for all but one, two layers for each of two halvings; then three rotations that share qubits
    alone = DiagonalTemplate(Structure(3, (), (), 1, ((0, 1, 2),)))
    assert (alone.two_qubit_gates, alone.depth) == (4 + 3, 4 + 3)
    # fields and the mixer of the variable outside: 1 + 2 layers; the pair: 2 + 1 + 1
    beside = DiagonalTemplate(Structure(3, (0, 1, 2), (), 1, ((0, 1),)))
    assert (beside.two_qubit_gates, beside.depth) == (2 + 1, 4)


@pytest.mark.parametrize("backend", [Aer(), Heuristic()], ids=lambda backend: backend.name)
def test_others_refuse_with_a_reason(backend: QuantumBackend) -> None:
    _, payload, envelope = asked(backend)
    (name, *_) = backend.capabilities().algorithms
    envelope = envelope.model_copy(update={"algorithm": envelope.algorithm.model_copy(update={"name": name})})
    with pytest.raises(BackendError, match=f"backend {backend.name} does not keep the encoding's groups") as error:
        backend.submit(envelope, payload, "key")
    assert error.value.failure_class is FailureClass.CAPABILITY


def test_groups_make_another_job_and_survive_storage() -> None:
    _, _, envelope = asked(Statevector())
    without = envelope.model_copy(update={"algorithm": envelope.algorithm.model_copy(update={"groups": ()})})
    assert envelope.idempotency_key != without.idempotency_key
    assert JobEnvelope.model_validate(json.loads(envelope.model_dump_json())).digest == envelope.digest


def test_groups_that_share_a_variable_are_not_groups() -> None:
    for wrong in (((0, 1), (1, 2)), ((),), ((-1, 0),)):
        with pytest.raises(ValueError, match="groups must be disjoint"):
            Algorithm(groups=wrong)
