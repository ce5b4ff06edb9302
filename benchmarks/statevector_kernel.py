"""The statevector kernel beside Qiskit Aer, PennyLane lightning and QOKit: one QAOA evaluation, one thread.

    .venv/bin/python -m benchmarks.statevector_kernel [--json] [--sizes 12 16 20 22] [--alone 24 26] [--rounds 5]

An evaluation is p = 3 on a dense Gaussian problem: circuit, expectation and 1,024 samples. Simulators take turns in
this process; figures are medians, in the precision that each has by default (the kernel: single; the others: double),
and for Aer and lightning in single precision too. ``cpu_ms`` is processor time, for a machine that others use. The
others are spared what is not simulation: circuits are built and bound before, and the expectation is taken from their
state or probabilities as one product with the precomputed costs. The kernel's own diagonal is timed apart
(``diagonal_ms``), as it is made once per problem. ``--alone`` sizes run the kernel only, each in a fresh process that
reports its peak memory. QOKit takes part where it is installed. Aim at 16 and 20 variables: ten times faster than Aer,
three times faster than lightning and QOKit.
"""

from __future__ import annotations

import os

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import argparse  # noqa: E402 - thread counts are read at import
import json  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from importlib.util import find_spec  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

DEPTH, SHOTS = 3, 1024
AIMS = {"aer_ratio": 10.0, "lightning_ratio": 3.0, "qokit_ratio": 3.0}
#: One evaluation: the expectation.
Evaluation = Callable[[], float]


def problem(n: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """A dense model and a schedule."""
    from resources.backends.conformance import asymmetric_problem
    from resources.circuits.schedules import linear_ramp

    return asymmetric_problem(n, seed=n), *linear_ramp(3.0, DEPTH)


def drawn(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    ends = np.cumsum(probabilities)
    return np.searchsorted(ends, rng.random(SHOTS) * ends[-1])


def kernel(n: int, precision: Any = "single") -> tuple[Evaluation, float]:
    """The kernel's evaluation, and the seconds that its diagonal takes."""
    from resources.circuits.statevector import Diagonal, evolve

    model, gammas, betas = problem(n)
    Diagonal.of_bqm(model)
    started = time.perf_counter()
    diagonal = Diagonal.of_bqm(model)
    assert diagonal.scale > 0
    seconds, rng = time.perf_counter() - started, np.random.default_rng(0)

    def evaluate() -> float:
        state = evolve(diagonal, gammas, betas, precision=precision)
        assert len(state.sample(SHOTS, rng)) == SHOTS
        return state.expectation(diagonal)

    return evaluate, seconds


def aer(n: int, precision: str = "double") -> Evaluation:
    from qiskit import transpile
    from qiskit_aer import AerSimulator

    from resources.circuits.ising import Ising
    from resources.circuits.statevector import Diagonal
    from resources.circuits.templates import logical_circuit

    model, gammas, betas = problem(n)
    ising, values = Ising.from_bqm(model), Diagonal.of_bqm(model).values
    simulator = AerSimulator(method="statevector", precision=precision, max_parallel_threads=1)
    circuit = logical_circuit(ising.structure(DEPTH))
    circuit = circuit.assign_parameters(ising.angles(gammas[None], betas[None])[0])
    circuit.remove_final_measurements()
    circuit.save_statevector()
    circuit.measure_all()
    circuit = transpile(circuit, simulator, optimization_level=1, seed_transpiler=0)

    def evaluate() -> float:
        result = simulator.run(circuit, shots=SHOTS, seed_simulator=0).result()
        assert sum(result.get_counts().values()) == SHOTS
        state = np.asarray(result.data()["statevector"])
        return float((state.real**2 + state.imag**2) @ values)

    return evaluate


def lightning(n: int, precision: str = "double") -> Evaluation:
    import pennylane as qml

    from resources.circuits.ising import Ising
    from resources.circuits.statevector import Diagonal
    from resources.circuits.templates import pennylane_gates

    model, gammas, betas = problem(n)
    ising, values = Ising.from_bqm(model), Diagonal.of_bqm(model).values
    gates = pennylane_gates(ising.structure(DEPTH), ising.angles(gammas[None], betas[None])[0].tolist())
    # wire 0 is the highest bit of PennyLane's index and variable 0 the lowest of ours
    script = qml.tape.QuantumScript(gates, [qml.probs(wires=range(n)[::-1])])
    device = qml.device("lightning.qubit", wires=n, c_dtype=np.complex64 if precision == "single" else np.complex128)
    (script,), _ = device.preprocess_transforms(device.setup_execution_config(circuit=script))([script])
    rng = np.random.default_rng(0)

    def evaluate() -> float:
        (probabilities,) = device.execute([script])
        assert len(drawn(probabilities, rng)) == SHOTS
        return float(probabilities @ values)

    return evaluate


def qokit(n: int) -> Evaluation:
    from qokit.fur import choose_simulator

    from resources.circuits.statevector import Diagonal

    model, gammas, betas = problem(n)
    diagonal, rng = Diagonal.of_bqm(model), np.random.default_rng(0)
    simulator = choose_simulator(name="c")(n, costs=diagonal.values)
    # its phase is exp(−iγC), its mixer exp(−iβΣX)
    gammas, betas = gammas / diagonal.scale, -betas

    def evaluate() -> float:
        state = simulator.simulate_qaoa(gammas, betas)
        assert len(drawn(simulator.get_probabilities(state, preserve_state=True), rng)) == SHOTS
        return float(simulator.get_expectation(state))

    return evaluate


def compared(n: int, rounds: int) -> dict[str, Any]:
    """One row: medians in ms and ratios to the kernel's."""
    evaluation, diagonal_seconds = kernel(n)
    ways = {
        "kernel": evaluation,
        "kernel_double": kernel(n, "double")[0],
        "aer": aer(n),
        "aer_single": aer(n, "single"),
        "lightning": lightning(n),
        "lightning_single": lightning(n, "single"),
    }
    if find_spec("qokit"):
        ways["qokit"] = qokit(n)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    busy: dict[str, list[float]] = {name: [] for name in ways}
    values = {name: way() for name, way in ways.items()}
    for _ in range(rounds):
        for name, way in ways.items():
            # the kernel is fast enough to be asked more often
            for _ in range(5 if name == "kernel" else 1):
                started, used = time.perf_counter(), time.process_time()
                way()
                seconds[name].append(time.perf_counter() - started)
                busy[name].append(time.process_time() - used)
    ms = {name: 1e3 * statistics.median(taken) for name, taken in seconds.items()}
    row: dict[str, Any] = {"n": n, "ms": ms.pop("kernel"), "diagonal_ms": 1e3 * diagonal_seconds}
    row |= {f"{name}_ms": value for name, value in ms.items()}
    row |= {f"{name}_ratio": value / row["ms"] for name, value in ms.items() if not name.startswith("kernel")}
    row.setdefault("qokit_ratio", None)
    row["cpu_ms"] = {name: 1e3 * statistics.median(taken) for name, taken in busy.items()}
    row["worst_difference"] = max(abs(values["kernel_double"] - value) for value in values.values())
    return row


def alone(n: int) -> dict[str, Any]:
    """The kernel only: median of three, and the peak memory of this process."""
    evaluation, diagonal_seconds = kernel(n)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        evaluation()
        seconds.append(time.perf_counter() - started)
    # unlike getrusage's, this peak begins with the program
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    ratios = dict.fromkeys(AIMS)
    return (
        {"n": n, "ms": 1e3 * statistics.median(seconds), "diagonal_ms": 1e3 * diagonal_seconds}
        | ratios
        | {"peak_mb": peak}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="*", default=[12, 16, 20, 22])
    parser.add_argument("--alone", type=int, nargs="*", default=[24, 26])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only is not None:
        print(json.dumps(alone(asked.only)))
        return
    rows = [compared(n, asked.rounds) for n in asked.sizes]
    for n in asked.alone:
        command = [sys.executable, "-m", "benchmarks.statevector_kernel", "--only", str(n)]
        rows.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    judged = [row for row in rows if row["n"] in (16, 20)]
    record = {
        "rows": rows,
        "load": os.getloadavg()[0],
        "note": None if find_spec("qokit") else "QOKit is not installed: qokit_ratio is null",
        "met": bool(judged)
        and all(row[name] is None or row[name] >= aim for row in judged for name, aim in AIMS.items()),
    }
    if asked.json:
        print(json.dumps(record))
        return
    for row in rows:
        print(", ".join(f"{name} {value:.4g}" for name, value in row.items() if isinstance(value, float | int)))
    print(f"load {record['load']:.1f}; aims {'met' if record['met'] else 'MISSED'}; {record['note'] or ''}")


if __name__ == "__main__":
    main()
