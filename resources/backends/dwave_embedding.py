"""Minor embedding: a payload's variables as chains of a device's qubits, and samples of qubits back to variables.

Not here: devices (``dwave``) or the cloud's interface (``dwave_sapi``). Loads dwave-system when used.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from resources.failures import BackendError, FailureClass

if TYPE_CHECKING:
    import dimod

#: Above this share of all pairs a payload is embedded as a clique, in polynomial time.
_DENSE = 0.5


def topology_name(topology: Mapping[str, Any]) -> str:
    """A topology as D-Wave publishes it (``type``, ``shape``), in a word: ``pegasus-16``, ``chimera-16-16-4``."""
    return "-".join([topology["type"], *map(str, topology["shape"])])


@dataclass(frozen=True)
class Graph:
    """A device's working graph: topology (``pegasus`` …) with its shape, qubits and couplers."""

    topology: str
    shape: tuple[int, ...]
    nodes: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, properties: Mapping[str, Any]) -> Graph:
        """From the properties that D-Wave publishes of a solver."""
        topology = properties["topology"]
        return cls(
            topology["type"],
            tuple(topology["shape"]),
            tuple(properties["qubits"]),
            tuple((int(a), int(b)) for a, b in properties["couplers"]),
        )


@dataclass(frozen=True)
class Placement:
    """A payload on a device's qubits.

    Attributes:
        chains: physical qubits of each variable.
        chain_strength: coupling that holds a chain together; ``None`` where every chain is a single qubit.
        model: SPIN model over physical qubits.
        seconds: what the search took.
    """

    chains: list[list[int]]
    chain_strength: float | None
    model: dimod.BinaryQuadraticModel
    seconds: float


def embed(payload: dimod.BinaryQuadraticModel, graph: Graph, seed: int, seconds: float) -> Placement:
    """Place a BINARY payload over 0 … n−1 on a device; the same seed gives the same placement within ``seconds``.

    Sources: J. Cai, W. G. Macready, A. Roy, "A practical heuristic for finding graph minors", arXiv:1406.2741; chain
    strength by uniform torque compensation (dwave-system).

    Raises:
        BackendError: class ``capability``, when no embedding is found.
    """
    import dimod
    import minorminer
    from dwave.embedding import EmbeddedStructure

    started = time.perf_counter()
    model = payload.change_vartype(dimod.SPIN, inplace=False)
    n, found = len(model.variables), {}
    if n > 2 and len(model.quadratic) > _DENSE * n * (n - 1) / 2:
        found = minorminer.busclique.find_clique_embedding(range(n), _networkx(graph), use_cache=False, seed=seed)
    if not found:
        pairs = [*model.quadratic, *((v, v) for v in model.variables)]
        found = minorminer.find_embedding(pairs, graph.edges, random_seed=seed, timeout=seconds)
    if len(found) < n:
        raise BackendError(
            f"no embedding of {n} variables and {len(model.quadratic)} couplings on {graph.topology} "
            f"{list(graph.shape)} was found",
            FailureClass.CAPABILITY,
        )
    structure = EmbeddedStructure(graph.edges, {v: sorted(found[v]) for v in range(n)})
    embedded = structure.embed_bqm(model, smear_vartype=dimod.SPIN)
    strength = structure.chain_strength
    return Placement(
        [list(map(int, structure[v])) for v in range(n)],
        None if strength is None else float(strength),
        embedded,
        time.perf_counter() - started,
    )


@lru_cache(maxsize=4)
def _networkx(graph: Graph) -> Any:
    from dwave.system import qpu_graph

    return qpu_graph(graph.topology, list(graph.shape), graph.nodes, graph.edges)


def unembedded(
    payload: dimod.BinaryQuadraticModel, chains: Sequence[Sequence[int]], answer: dimod.SampleSet
) -> tuple[np.ndarray, dict[str, Any]]:
    """Bits (int8, shape ``(reads, n)``) by majority vote of each chain, and what is worth knowing of the chains.

    Args:
        payload: BINARY model over 0 … n−1.
        chains: physical qubits of each variable.
        answer: SPIN samples over physical qubits.
    """
    import dimod
    from dwave.embedding import unembed_sampleset

    source = payload.change_vartype(dimod.SPIN, inplace=False)
    read = unembed_sampleset(answer, dict(enumerate(chains)), source, chain_break_fraction=True)
    order = [read.variables.index(v) for v in range(len(chains))]
    occurrences = read.record.num_occurrences
    bits = np.repeat((read.record.sample[:, order] > 0).astype(np.int8), occurrences, axis=0)
    lengths = [len(chain) for chain in chains]
    return bits, {
        "chains": [list(chain) for chain in chains],
        "chain_length": {"min": min(lengths), "mean": float(np.mean(lengths)), "max": max(lengths)},
        "physical_qubits": sum(lengths),
        "chain_break_fraction": float(np.average(read.record.chain_break_fraction, weights=occurrences)),
        "chain_break_method": "majority_vote",
    }
