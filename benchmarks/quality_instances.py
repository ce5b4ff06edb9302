"""Instances of the quality benchmark: the manifest of a folder, the sets, and a file as a normalized instance.

Here: what is read and how. Not here: runs (``quality_runs``) or tables. The best known value is kept apart from the
instance: only gaps are computed with it.
"""

from __future__ import annotations

import csv
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrid_assets import registry
from hybrid_assets.problems.base import Instance, ProblemFamily
from hybrid_assets.problems.source import SourceFile

#: Families of the manifest and the registered ones that read them.
FAMILIES = {
    "qubo": "qubo",
    "qubo-generated": "qubo",
    "maxcut": "maxcut",
    "tsp": "tsp",
    "atsp": "tsp",
    "cvrp": "cvrp",
    "vrptw": "cvrp",
    "jobshop": "jobshop",
    "rcpsp": "rcpsp",
    "mknap": "knapsack",
    "qkp": "knapsack",
    "binpack": "binpacking",
    "qap": "qap",
    "qoblib-mis": "mis",
    "qoblib-labs": "labs",
    "qoblib-marketsplit": "marketsplit",
    "portfolio-cardinality": "portfolio",
    "qoblib-portfolio": "program",
}
#: Instances of each set and the seconds of both budgets.
SETS: dict[str, tuple[float, str]] = {
    "smoke": (
        5.0,
        "gka1b bqp50-1 gka4b bqp100-2 be120.8.2 be150.3.2 gka1e be250.1 bqp250-1 bqp500-1 bqp500-5 "
        "g05_60.0 pm1s_80.1 pw09_100.1 w05_100.1 ising2.5-100_5555 t2g10_5555 t3g5_5555",
    ),
    "gset": (20.0, "G1 G11 G12 G15 G16 G23 G33 G35 G48 G50 p3000.1"),
    "portfolio": (
        10.0,
        "port1_K10_l0 port1_K10_l0.5 port1_K10_l0.8 port1_K10_l0.9 port1_K10_l0.95 port1_K10_l0.98 port1_K10_l1 "
        "port3_K10_l0.5 port3_K10_l0.8 port3_K10_l0.9 port5_K10_l0.3 port5_K10_l0.5 port5_K10_l0.8",
    ),
    "routing": (
        20.0,
        "burma14 gr17 gr24 bayg29 swiss42 gr48 hk48 eil51 berlin52 br17 ftv35 ftv47 "
        "P-n19-k2 P-n22-k8 A-n32-k5 A-n37-k6 A-n48-k7 B-n35-k5 B-n45-k6 E-n31-k7 F-n45-k4 P-n50-k10 C101",
    ),
    "scheduling": (
        20.0,
        "ft06 la02 la04 la06 la12 la16 la17 la19 abz5 ft10 orb03 orb09 j301_1 j302_1 j3010_1 j3012_1 j3014_1",
    ),
    "packing": (
        20.0,
        "mknap1#1 mknap1#4 mknap1#7 mknapcb1#1 mknapcb1#11 mknapcb1#21 jeu_100_25_1 jeu_100_50_4 jeu_100_75_2 "
        "jeu_100_100_1 u120_00 u120_02 u120_08 u120_19",
    ),
    "small": (
        20.0,
        "nug12 nug20 had20 tai17a tai20b chr20a esc16a scr20 rou12 chesapeake ibm32 hamming6-4 brock200-2 es60fst01 "
        "gen200_p0-9_44 labs020 labs025 labs028 labs029 ms_03_050_002 ms_04_050_001",
    ),
    "programs": (20.0, "po_a010_t10_orig_b004_l0 po_a010_t10_orig_b004_l0.00001"),
    "development": (
        2.0,
        "gka1b bqp250-1 ising2.5-100_5555 G11 G15 gr17 berlin52 A-n32-k5 ft06 la16 j301_1 mknapcb1#1 jeu_100_25_1 "
        "u120_00 nug20 brock200-2 labs025 ms_03_050_002 port1_K10_l0.5",
    ),
}
#: Instances on which arms answer the same frozen log: two graphs and one instance of every other family.
REPLAYED = "G11 G15 bqp250-1 berlin52 A-n32-k5 la16 j301_1 mknapcb1#1 u120_00 nug20 brock200-2 labs025 ms_03_050_002"


@dataclass(frozen=True)
class Entry:
    """One line of the manifest: what to load, and the value that only gaps are computed with."""

    name: str
    family: str
    path: Path
    form: str
    best_known: float | None
    proven: bool


def folder() -> Path:
    """The folder of instances, named by HYBRID_INSTANCES."""
    found = os.environ.get("HYBRID_INSTANCES")
    if not found or not (Path(found) / "MANIFEST.tsv").is_file():
        raise SystemExit("HYBRID_INSTANCES: give the folder that holds MANIFEST.tsv and the instances")
    return Path(found)


def manifest(root: Path) -> dict[str, Entry]:
    """Entries by name that a registered family reads; the first one of a name counts."""
    entries: dict[str, Entry] = {}
    with (root / "MANIFEST.tsv").open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            family = FAMILIES.get(row["family"])
            if family is None or family not in registry.names("families"):
                continue
            value = row["best_known"]
            best = None if value in ("", "na") else float(value)
            proven = row["proven_optimal"] == "yes"
            entry = Entry(row["instance"], family, root / row["file"], row["format"], best, proven)
            entries.setdefault(entry.name, entry)
    return entries


def chosen(entries: dict[str, Entry], names: list[str]) -> list[Entry]:
    """The entries of these names, in their order; says which are not there."""
    missing = [name for name in names if name not in entries]
    if missing:
        print(f"not in the manifest, left out: {', '.join(missing)}", flush=True)
    return [entries[name] for name in names if name in entries]


def load(entry: Entry) -> tuple[ProblemFamily, Instance]:
    """The family and the normalized instance of an entry."""
    family = registry.family(entry.family)
    source, options = _source(entry)
    raws = family.read(source)
    which = 0
    if len(raws) > 1:
        # mknapcb1#3 is the third of its file, u120_00 the first
        stem, hash_, number = entry.name.partition("#")
        which = int(number) - 1 if hash_ else int(stem.rpartition("_")[2])
    return family, family.normalize(raws[which], family.options.model_validate(options), entry.name)


def _source(entry: Entry) -> tuple[SourceFile, dict[str, Any]]:
    """The file that holds the instance, and the options that the manifest's own formats ask for."""
    if entry.form == "card-json":
        asked = json.loads(entry.path.read_text())
        root = next(parent for parent in entry.path.parents if (parent / "MANIFEST.tsv").is_file())
        bounds = {"min_weight": asked["eps"], "max_weight": asked["delta"]}
        return SourceFile.open(root / asked["data"]), {
            "cardinality": asked["K"],
            "risk_aversion": asked["lambda"],
            **bounds,
        }
    if entry.form == "palubeckis-spec":
        return SourceFile(entry.name, _palubeckis(**json.loads(entry.path.read_text())), "generated"), {}
    return SourceFile.open(entry.path), {}


def _palubeckis(generator: str, n: int, density: int, seed: int) -> bytes:
    """The generator of Palubeckis (2004): multiplicative congruential, weights -100 … 100, as sparse text."""
    modulus, state = 2**31 - 1, seed
    lines = []

    def drawn() -> int:
        nonlocal state
        state = 16807 * state % modulus
        return state

    def weight() -> int:
        return -math.floor(drawn() / (modulus + 1) * 201.0 - 100.0)

    for i in range(1, n + 1):
        lines.append(f"{i} {i} {weight()}")
        for j in range(i + 1, n + 1):
            if drawn() / (modulus + 1) * 100 <= density:
                lines.append(f"{i} {j} {weight()}")
    return "\n".join([f"{n} {len(lines)}", *lines, ""]).encode()
