"""QAOA alone on up to 20 variables: no polish, no local search, sampled read-outs only.

    HYBRID_INSTANCES=DIR .venv/bin/python -m benchmarks.qaoa_small [--json] [--seeds 20] [--depths 5 20]

Instances are gka1b with its 10- and 15-variable prefixes and two 18-variable blocks of gka1c (the other variables at
0). A run is ``qaoa-library``: five ramps and three stored schedules are compared by the CVaR of 160 shots each (1,280
in all), then 1,024 final shots are drawn; a hit is the optimum among the final shots alone. The optimum is enumerated
here, after the run, and never told to it. ``p_opt`` is its probability under the chosen angles, by the kernel.

Controls draw 1,024 times too: ``uniform`` bits; independent bits with the run's own ``marginals``; random bits with
steepest ``descent`` for as many ΔE evaluations as the energies of 1,024 + 1,280 read-outs take. ``lift`` is the
difference between QAOA's share of hits and the control's, with a paired bootstrap interval (95 %) over the seeds. The
aim's 2 s are judged by processor time, for a machine that others use; the clock is shown beside it.
"""

from __future__ import annotations

import os

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

import argparse  # noqa: E402 - thread counts are read at import
import json  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import dimod  # noqa: E402
import numpy as np  # noqa: E402

FINAL, TUNING, BUDGET = 1024, 160, 2.0
RESAMPLES = 2_000
CONTROLS = ("uniform", "marginals", "descent")
#: Share of seeds to reach, by depth.
AIMS = {20: 0.95, 5: 0.60}


def models(folder: Path) -> Iterator[tuple[str, dimod.BinaryQuadraticModel]]:
    """Names and models over 0 … n−1, read by the ``qubo`` family."""
    from hybrid_assets.problems.qubo import Qubo
    from hybrid_assets.problems.source import SourceFile

    whole = {}
    for name in ("gka1b", "gka1c"):
        (raw,) = Qubo().read(SourceFile.open(folder / f"qubo/gka/{name}.sparse"))
        assert raw.sense == "min"
        whole[name] = raw.quadratic.bqm()
    for name, source, first, last in (
        ("gka1b, 10 variables", "gka1b", 0, 10),
        ("gka1b, 15 variables", "gka1b", 0, 15),
        ("gka1b", "gka1b", 0, 20),
        ("gka1c, 1 to 18", "gka1c", 0, 18),
        ("gka1c, 19 to 36", "gka1c", 18, 36),
    ):
        yield name, part(whole[source], first, last)


def part(model: dimod.BinaryQuadraticModel, first: int, last: int) -> dimod.BinaryQuadraticModel:
    """Variables ``first`` … ``last`` − 1, the others at 0."""
    found = model.copy()
    found.fix_variables({k: 0 for k in model.variables if not first <= k < last})
    found.relabel_variables({k: k - first for k in range(first, last)})
    return found


def interval(one: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> list[float]:
    """Difference of the means and its paired bootstrap interval."""
    difference = one.astype(float) - other
    means = difference[rng.integers(0, len(one), (RESAMPLES, len(one)))].mean(axis=1)
    return [round(float(value), 3) for value in (difference.mean(), *np.quantile(means, [0.025, 0.975]))]


def row(name: str, model: dimod.BinaryQuadraticModel, depth: int, seeds: int) -> dict[str, Any]:
    """One instance at one depth."""
    from hybrid_assets.problems.landscape import Block, random_bits
    from hybrid_assets.proposals.arms import ARMS, ArmSettings
    from resources.backends.conformance import envelope_for
    from resources.backends.statevector import Statevector
    from resources.circuits.statevector import Diagonal, evolve
    from resources.envelope import Algorithm

    backend, diagonal, n = Statevector(), Diagonal.of_bqm(model), model.num_variables
    couplings = np.zeros((n, n))
    for i, j, bias in model.iter_quadratic():
        couplings[min(i, j), max(i, j)] = bias
    linear = np.array([model.get_linear(i) for i in range(n)])
    block = Block("whole", linear, couplings, float(model.offset), np.zeros(n, dtype=np.int8))
    best = float(diagonal.values.min())
    optimal = np.isclose(diagonal.values, best)
    descent = ARMS["descent"](ArmSettings(shots=FINAL + 8 * TUNING))

    def hit(bits: np.ndarray) -> bool:
        return bool((block.energies(bits) <= best + 1e-6).any())

    hits: dict[str, list[bool]] = {arm: [] for arm in ("qaoa", *CONTROLS)}
    seconds, busy, chances, sources, charged = [], [], [], [], set()
    for seed in range(seeds):
        algorithm = Algorithm(name="qaoa-library", depth=depth, shots=FINAL, tuning_shots=TUNING, seed=seed)
        envelope = envelope_for(backend, model, algorithm)
        started, used = time.perf_counter(), time.process_time()
        result = backend.answer(envelope, model)
        seconds.append(time.perf_counter() - started)
        busy.append(time.process_time() - used)
        charged.add(result.tuning_shots)
        sources.append(result.parameters["parameter_source"])
        state = evolve(diagonal, result.parameters["gammas"], result.parameters["betas"])
        chances.append(float(state.probabilities()[optimal].sum()))
        bits = np.array([list(s.bits) for s in result.samples], dtype=np.int8)
        counts = np.array([s.count for s in result.samples])
        rng = np.random.default_rng([seed, 1])
        hits["qaoa"].append(hit(bits))
        hits["uniform"].append(hit(random_bits(block, FINAL, rng)))
        means = counts @ bits / counts.sum()
        hits["marginals"].append(hit((rng.random((FINAL, n)) < means).astype(np.int8)))
        hits["descent"].append(hit(descent.propose(block, seed).bits))
    share = {arm: np.array(found) for arm, found in hits.items()}
    rng = np.random.default_rng(0)
    return {
        "instance": name,
        "n": n,
        "p": depth,
        "seeds": seeds,
        "best": best,
        "share": float(share["qaoa"].mean()),
        "p_opt": statistics.median(chances),
        "p_opt_times_states": statistics.median(chances) / float(optimal.mean()),
        "controls": {arm: float(share[arm].mean()) for arm in CONTROLS},
        "lift": {arm: interval(share["qaoa"], share[arm], rng) for arm in CONTROLS},
        "final_shots": FINAL,
        "tuning_shots": max(charged),
        "seconds": statistics.median(seconds),
        "cpu_seconds": statistics.median(busy),
        "slowest": max(seconds),
        "sources": {source: sources.count(source) for source in sorted(set(sources))},
        "met": depth not in AIMS or bool(share["qaoa"].mean() >= AIMS[depth] and statistics.median(busy) <= BUDGET),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--depths", type=int, nargs="*", default=sorted(AIMS))
    asked = parser.parse_args()
    if "HYBRID_INSTANCES" not in os.environ:
        sys.exit("set HYBRID_INSTANCES to the folder of the benchmark instances")
    found = models(Path(os.environ["HYBRID_INSTANCES"]))
    rows = [row(name, model, depth, asked.seeds) for name, model in found for depth in asked.depths]
    record = {"rows": rows, "load": os.getloadavg()[0], "met": all(one["met"] for one in rows)}
    if asked.json:
        print(json.dumps(record))
        return
    print("| instance | n | p | hits | p_opt | × 2⁻ⁿ | uniform | marginals | descent | tuning shots | s | cpu s |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for one in rows:
        lifts = " | ".join("{:+.2f} [{:+.2f}, {:+.2f}]".format(*one["lift"][arm]) for arm in CONTROLS)
        print(
            f"| {one['instance']} | {one['n']} | {one['p']} | {one['share']:.0%} | {one['p_opt']:.4f} | "
            f"{one['p_opt_times_states']:,.0f} | {lifts} | {one['tuning_shots']} | {one['seconds']:.2f} | "
            f"{one['cpu_seconds']:.2f} |"
        )
    print(f"load {record['load']:.1f}; aims {'met' if record['met'] else 'MISSED'}")


if __name__ == "__main__":
    main()
