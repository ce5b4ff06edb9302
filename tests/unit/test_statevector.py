"""The statevector kernel against matrix exponentials, a plain numpy simulation, Aer, finite differences and counts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.backends.conformance import asymmetric_problem
from resources.backends.statevector import Statevector
from resources.circuits.diagonal_template import DiagonalTemplate
from resources.circuits.ising import Ising, Structure
from resources.circuits.schedules import cvar, linear_ramp
from resources.circuits.statevector import (
    Diagonal,
    Mixer,
    State,
    bits_of,
    evolve,
    gradient,
    sample_block,
)
from resources.failures import BackendError, InputError

X = np.array([[0, 1], [1, 0]], dtype=complex)
Y = np.array([[0, -1j], [1j, 0]])
Z = np.diag([1.0 + 0j, -1.0])
TOLERANCE = {"single": 1e-5, "double": 1e-12}
HIGHER = {(0, 1, 3): 1.3, (0, 1, 2, 3): -0.7}


def polynomial(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=n), np.triu(rng.normal(size=(n, n)), 1)


def schedule(seed: int, depth: int = 3) -> tuple[np.ndarray, np.ndarray]:
    # some of these turn by more than π/4, where the mixer takes two steps
    rng = np.random.default_rng(seed)
    return rng.normal(size=depth), rng.normal(size=depth) * 2


def amplitudes(state: State) -> np.ndarray:
    return state.re.astype(float) + 1j * state.im.astype(float)


def on(operators: dict[int, np.ndarray], n: int) -> np.ndarray:
    """The matrix with these operators on these variables."""
    matrix = np.eye(1)
    for k in range(n):
        matrix = np.kron(operators.get(k, np.eye(2)), matrix)
    return matrix


def exact(
    diagonal: Diagonal, gammas: np.ndarray, betas: np.ndarray, start: np.ndarray, generators: list[np.ndarray]
) -> np.ndarray:
    """The circuit by matrix exponentials of its generators, applied one after the other."""
    from scipy.linalg import expm

    state = start.astype(complex)
    for gamma, beta in zip(gammas, betas, strict=True):
        state = np.exp(-1j * gamma / diagonal.scale * diagonal.values) * state
        for generator in generators:
            state = expm(1j * beta * generator) @ state
    return state


def simulated(diagonal: Diagonal, gammas: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """The X-mixer circuit in plain numpy, in double."""
    n = diagonal.variables
    state = np.full(2**n, 2.0 ** (-n / 2), dtype=complex)
    for gamma, beta in zip(gammas, betas, strict=True):
        state *= np.exp(-1j * gamma / diagonal.scale * diagonal.values)
        for k in range(n):
            pairs = state.reshape(-1, 2, 2**k)
            state = (np.cos(beta) * pairs + 1j * np.sin(beta) * pairs[:, ::-1]).ravel()
    return state


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("higher", [None, HIGHER])
def test_x_mixer_is_the_matrix_exponential(precision, higher) -> None:
    n, (gammas, betas) = 4, schedule(1)
    diagonal = Diagonal.of(*polynomial(n, 1), 0.3, higher)
    wanted = exact(diagonal, gammas, betas, np.full(2**n, 0.25), [sum(on({k: X}, n) for k in range(n))])
    found = amplitudes(evolve(diagonal, gammas, betas, precision=precision))
    assert np.abs(found - wanted).max() < TOLERANCE[precision]


@pytest.mark.parametrize("precision", ["single", "double"])
def test_warm_start_is_the_matrix_exponential(precision) -> None:
    n, (gammas, betas) = 4, schedule(2)
    diagonal, theta = Diagonal.of(*polynomial(n, 2)), np.array([0.3, 2.0, 1.0, np.pi / 2])
    start = np.ones(1)
    for angle in theta:
        start = np.kron([np.cos(angle / 2), np.sin(angle / 2)], start)
    generator = sum(np.sin(theta[k]) * on({k: X}, n) + np.cos(theta[k]) * on({k: Z}, n) for k in range(n))
    wanted = exact(diagonal, gammas, betas, start, [generator])
    found = amplitudes(evolve(diagonal, gammas, betas, initial=theta, precision=precision))
    assert np.abs(found - wanted).max() < TOLERANCE[precision]


def test_a_warm_start_alone_is_an_eigenstate_of_its_mixer() -> None:
    diagonal, theta = Diagonal.of(*polynomial(5, 3)), np.linspace(0.1, 3.0, 5)
    still = evolve(diagonal, [0.0], [0.7], initial=theta, precision="double")
    start = evolve(diagonal, [], [], initial=theta, precision="double")
    assert still.probabilities() == pytest.approx(start.probabilities(), abs=1e-12)
    assert start.probabilities()[-1] == pytest.approx(np.prod(np.sin(theta / 2) ** 2))


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize(
    ("groups", "pairs"),
    [
        (((0, 2, 3),), [(0, 2), (2, 3), (3, 0)]),
        (((4, 1, 0, 3),), [(4, 1), (0, 3), (1, 0), (3, 4)]),
        (((0, 1), (2, 3), (4,)), [(0, 1), (2, 3)]),
    ],
)
def test_xy_mixer_is_its_product_of_matrix_exponentials(groups, pairs, precision) -> None:
    n, (gammas, betas) = 5, schedule(3)
    diagonal = Diagonal.of(*polynomial(n, 4), 0.3)
    states = np.arange(2**n)
    one_hot = np.all([sum((states >> k) & 1 for k in group) == 1 for group in groups], axis=0)
    free = [k for k in range(n) if all(k not in group for group in groups)]
    generators = [on({k: X}, n) for k in free]
    generators += [(on({a: X, b: X}, n) + on({a: Y, b: Y}, n)) / 2 for a, b in pairs]
    wanted = exact(diagonal, gammas, betas, one_hot / np.sqrt(one_hot.sum()), generators)
    found = amplitudes(evolve(diagonal, gammas, betas, Mixer(groups), precision=precision))
    assert np.abs(found - wanted).max() < TOLERANCE[precision]
    assert not found[~one_hot].any()


@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 10, 16, 17, 18])
def test_every_size_is_the_plain_simulation(n, precision) -> None:
    """Below a vector, within one block, and in blocks; odd and even depths end in different passes."""
    diagonal = Diagonal.of(*polynomial(n, n), 0.3)
    for depth in (1, 2) if n > 16 else (0, 1, 4):
        gammas, betas = schedule(n, depth)
        state = evolve(diagonal, gammas, betas, precision=precision)
        assert state.re.dtype == (np.float32 if precision == "single" else np.float64)
        assert np.abs(amplitudes(state) - simulated(diagonal, gammas, betas)).max() < TOLERANCE[precision]
        assert state.norm == pytest.approx(1, abs=TOLERANCE[precision])


@pytest.mark.parametrize("seed", range(4))
def test_it_agrees_with_aer(seed) -> None:
    from qiskit_aer import AerSimulator

    from resources.circuits.templates import logical_circuit

    model, (gammas, betas) = asymmetric_problem(6 + seed, seed), schedule(seed)
    ising, diagonal = Ising.from_bqm(model), Diagonal.of_bqm(model)
    assert diagonal.scale == pytest.approx(ising.scale)
    circuit = logical_circuit(ising.structure(3))
    circuit.remove_final_measurements()
    circuit = circuit.assign_parameters(ising.angles(gammas[None], betas[None])[0])
    circuit.save_statevector()
    # the circuit leaves out the offset's phase
    wanted = np.asarray(AerSimulator(method="statevector").run(circuit).result().data()["statevector"])
    wanted = wanted * np.exp(-1j * gammas.sum() / ising.scale * ising.offset)
    assert np.abs(amplitudes(evolve(diagonal, gammas, betas)) - wanted).max() < 1e-5


def test_phases_of_large_costs_are_reduced_in_double() -> None:
    linear, couplings = polynomial(6, 1)
    gammas, betas = linear_ramp(3.0, 3)
    near, far = (evolve(Diagonal.of(linear, couplings, offset), gammas, betas).probabilities() for offset in (0.0, 1e8))
    assert near == pytest.approx(far, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**20), st.booleans())
def test_the_diagonal_is_the_polynomial(n, seed, with_higher) -> None:
    linear, couplings = polynomial(n, seed)
    rng = np.random.default_rng(seed)
    drawn = [tuple(sorted(rng.choice(n, min(n, 3), replace=False).tolist())) for _ in range(3)]
    higher = {indices: float(rng.normal()) for indices in drawn} if with_higher and n >= 3 else None
    diagonal = Diagonal.of(linear, couplings, 1.5, higher)
    for state in range(2**n):
        x = np.array([(state >> k) & 1 for k in range(n)])
        wanted = 1.5 + linear @ x + x @ couplings @ x
        wanted += sum(c * np.prod(x[list(indices)]) for indices, c in (higher or {}).items())
        assert diagonal.values[state] == pytest.approx(wanted, abs=1e-12)
    assert diagonal.scale == pytest.approx(diagonal.values.std(), rel=1e-9)


def test_a_constant_cost_has_scale_one() -> None:
    for offset in (0.0, 0.1, 1e9):
        assert Diagonal.of(np.zeros(12), np.zeros((12, 12)), offset).scale == 1.0


def test_expectation_and_cvar_are_those_of_the_probabilities() -> None:
    # 11 variables: more than one block of sums
    for diagonal in (
        Diagonal.of(*polynomial(11, 5), 2.0),
        Diagonal.of(np.round(polynomial(11, 5)[0]), np.zeros((11, 11))),
        Diagonal.of(np.zeros(11), np.zeros((11, 11)), 4.0),
    ):
        state = evolve(diagonal, *linear_ramp(3.0, 3), precision="double")
        probabilities = np.abs(amplitudes(state)) ** 2
        assert state.probabilities() == pytest.approx(probabilities, abs=1e-12)
        assert state.expectation(diagonal) == pytest.approx(probabilities @ diagonal.values, abs=1e-9)
        for alpha in (0.001, 0.1, 0.5, 1.0):
            assert state.cvar(diagonal, alpha) == pytest.approx(cvar(diagonal.values, alpha, probabilities), abs=1e-8)


@pytest.mark.parametrize(
    ("mixer", "initial"),
    [(Mixer(), None), (Mixer(((0, 3, 4), (1, 2))), None), (Mixer(), np.linspace(0.2, 2.5, 6))],
    ids=["x", "xy", "warm"],
)
def test_gradient_is_that_of_finite_differences(mixer, initial) -> None:
    diagonal, (gammas, betas) = Diagonal.of(*polynomial(6, 6), 0.3, HIGHER), schedule(6)
    value, by_gamma, by_beta = gradient(diagonal, gammas, betas, mixer, initial, "double")

    def cost(at: np.ndarray) -> float:
        return evolve(diagonal, at[0], at[1], mixer, initial, "double").expectation(diagonal)

    at = np.stack([gammas, betas])
    assert value == pytest.approx(cost(at))
    for side, slopes in enumerate((by_gamma, by_beta)):
        for layer in range(3):
            step = np.zeros_like(at)
            step[side, layer] = 1e-5
            assert slopes[layer] == pytest.approx((cost(at + step) - cost(at - step)) / 2e-5, abs=1e-7)
    single = gradient(diagonal, gammas, betas, mixer, initial)
    assert single[1] == pytest.approx(by_gamma, abs=1e-4)
    assert single[2] == pytest.approx(by_beta, abs=1e-4)


def chi_square(indices: np.ndarray, probabilities: np.ndarray) -> float:
    """p-value of counts against probabilities; rare states are one class."""
    from scipy.stats import chisquare

    counts, expected = np.bincount(indices, minlength=len(probabilities)), probabilities * len(indices)
    kept = expected >= 5
    observed, wanted = counts[kept], expected[kept]
    if not kept.all():
        observed, wanted = np.append(observed, counts[~kept].sum()), np.append(wanted, expected[~kept].sum())
    return float(chisquare(observed, wanted).pvalue)


@pytest.mark.parametrize("n", [3, 6, 12])
def test_samples_follow_the_probabilities(n) -> None:
    linear, couplings = polynomial(n, n)
    gammas, betas = linear_ramp(3.0, 3)
    state = evolve(Diagonal.of(linear, couplings), gammas, betas)
    found = state.sample(20_000, np.random.default_rng(7))
    assert chi_square(found, state.probabilities()) > 1e-3
    bits = sample_block(linear, couplings, 0.0, gammas, betas, 20_000, seed=7)
    assert bits.dtype == np.int8
    assert chi_square(bits @ (1 << np.arange(n)), state.probabilities()) > 1e-3
    # other probabilities would be noticed
    assert chi_square(found, evolve(Diagonal.of(linear, couplings), gammas, 0.9 * betas).probabilities()) < 1e-3


def test_a_certain_state_is_always_read() -> None:
    for index in (0, 1000, 1500, 2047):
        re = np.zeros(2048, np.float32)
        re[index] = 1
        found = State(re, np.zeros_like(re)).sample(500, np.random.default_rng(0))
        assert (found == index).all()


def test_bits_are_little_endian() -> None:
    assert bits_of(np.array([1, 6]), 3).tolist() == [[1, 0, 0], [0, 1, 1]]


def test_a_block_is_decided_by_its_seed_and_stays_in_its_groups() -> None:
    linear, couplings = polynomial(8, 8)
    gammas, betas = linear_ramp(3.0, 3)
    arguments = (linear, couplings, 0.5, gammas, betas, 64)
    first = sample_block(*arguments, seed=3)
    assert (first == sample_block(*arguments, seed=3)).all()
    assert (first != sample_block(*arguments, seed=4)).any()
    # any integer is a seed
    assert (sample_block(*arguments, seed=-1) != sample_block(*arguments, seed=2**64)).any()
    groups = ((0, 1, 2), (5, 7))
    bits = sample_block(*arguments, seed=3, higher={(0, 3, 4): 2.0}, groups=groups)
    assert all((bits[:, list(group)].sum(axis=1) == 1).all() for group in groups)
    assert len(np.unique(bits, axis=0)) > 1


def test_the_ramp_leads_to_the_minimum() -> None:
    """The direction test of the conventions, with exact expectations: 20 asymmetric problems, three depths."""
    depths, averages = (2, 4, 8), np.zeros(3)
    for seed in range(20):
        diagonal = Diagonal.of_bqm(asymmetric_problem(6 + seed % 3, seed))
        states = [evolve(diagonal, *linear_ramp(3.0, depth)) for depth in depths]
        gains = np.array([(state.expectation(diagonal) - diagonal.values.mean()) / diagonal.scale for state in states])
        assert (gains < 0).all()
        assert states[-1].probabilities()[diagonal.values.argmin()] > 2.0**-diagonal.variables
        averages += gains
    assert (np.diff(averages) < 0).all()
    # the first variable is the lowest bit
    field = Diagonal.of(np.array([-1.0, 3.0]), np.zeros((2, 2)))
    assert evolve(field, *linear_ramp(3.0, 8)).probabilities().argmax() == 1


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read where Linux shows it")
def test_memory_is_two_vectors() -> None:
    """The costs, and real and imaginary parts in single precision: 16 bytes a state, with nothing beside them."""
    code = (
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from resources.circuits.schedules import linear_ramp\n"
        "from resources.circuits.statevector import Diagonal, evolve\n"
        "def peak(n):\n"
        "    diagonal = Diagonal.of(np.ones(n), np.ones((n, n)))\n"
        "    state = evolve(diagonal, *linear_ramp(3.0, 2))\n"
        "    state.sample(100, np.random.default_rng(0)), state.expectation(diagonal), state.cvar(diagonal, 0.1)\n"
        "    status = Path('/proc/self/status').read_text()\n"
        "    return int(status.split('VmHWM:')[1].split()[0])\n"
        "before = peak(10)\n"
        "print((peak(22) - before) * 1024 / 2**22)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    assert 14 < float(done.stdout) < 17.5


def test_what_does_not_fit_is_refused() -> None:
    diagonal = Diagonal.of(*polynomial(3, 1))
    with pytest.raises(ValueError, match="same shape"):
        evolve(diagonal, [0.1, 0.2], [0.1])
    with pytest.raises(ValueError, match="one of the two"):
        evolve(diagonal, [0.1], [0.1], Mixer(((0, 1),)), np.ones(3))
    with pytest.raises(ValueError, match="shape"):
        evolve(diagonal, [0.1], [0.1], initial=np.ones(2))
    with pytest.raises(ValueError, match="disjoint"):
        Mixer(((0, 1), (1, 2)))
    with pytest.raises(ValueError, match=r"not in 0 … 2"):
        evolve(diagonal, [0.1], [0.1], Mixer(((2, 3),)))
    with pytest.raises(ValueError, match="float64"):
        Diagonal(np.zeros(8, np.float32), 3)
    with pytest.raises(ValueError, match="couplings"):
        Diagonal.of(np.ones(3), np.ones((2, 2)))
    with pytest.raises(ValueError, match="a variable"):
        Diagonal.of(np.ones(0), np.ones((0, 0)))


def test_loops_compile_where_nothing_can_be_cached() -> None:
    from resources.circuits.statevector_costs import compiled

    scope: dict = {}
    # a function without a file stands for one in a read-only place: numba refuses to cache either
    exec("def double(x):\n    return 2 * x", scope)
    assert compiled(scope["double"])(3) == 6


# -- the backend -----------------------------------------------------------------------------------------------------


def test_the_template_samples_the_circuit_of_its_angles() -> None:
    model = asymmetric_problem(5, 1)
    ising, (gammas, betas) = Ising.from_bqm(model), schedule(4, 3)
    template = Statevector().template(ising.structure(3))
    angles = ising.angles(np.stack([gammas, np.zeros(3)]), np.stack([betas, betas]))
    bits = template.sample(angles, 20_000, seed=5)
    assert bits.shape == (2, 20_000, 5)
    wanted = evolve(Diagonal.of_bqm(model), gammas, betas).probabilities()
    assert chi_square(bits[0].astype(int) @ (1 << np.arange(5)), wanted) > 1e-3
    assert chi_square(bits[1].astype(int) @ (1 << np.arange(5)), np.full(32, 1 / 32)) > 1e-3


def test_the_template_refuses_layers_of_different_costs() -> None:
    template = DiagonalTemplate(Structure(2, (0, 1), ((0, 1),), 2))
    with pytest.raises(BackendError, match="different costs"):
        template.sample(np.array([[0.1, 0.2, 0.3, 0.5, 0.1, 0.2, 0.4, 0.5]]), 10, seed=0)


def test_the_template_counts_the_gates_of_the_circuit() -> None:
    from resources.circuits.templates import qiskit_template

    structure = Ising.from_bqm(asymmetric_problem(6, 2)).structure(3)
    ours, qiskit = DiagonalTemplate(structure), qiskit_template(structure)
    assert (ours.depth, ours.two_qubit_gates) == (qiskit.depth, qiskit.two_qubit_gates)


def test_the_backend_knows_its_precisions() -> None:
    assert Statevector(precision="double").settings() == {"precision": "double"}
    with pytest.raises(InputError, match="use single or double"):
        Statevector(precision="half")  # type: ignore[arg-type]
