"""The qubo family: every format means what its source says, and every malformation is one sentence with a line."""

from __future__ import annotations

import csv
import gzip
import json
import os
from pathlib import Path

import dimod
import numpy as np
import pytest
from dimod.serialization import coo
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets.problems.base import FamilyOptions, Instance
from hybrid_assets.problems.graphs.maxcut import MaxCut
from hybrid_assets.problems.graphs.mis import Mis
from hybrid_assets.problems.qubo import Qubo
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.problems.unconstrained import UnconstrainedFamily
from resources.failures import InputError

FAMILY = Qubo()
SHIPPED = Path(__file__).parents[2] / "data" / "inbox" / "qubo"
SHARED = os.environ.get("HYBRID_INSTANCES")


def source(content: str | bytes) -> SourceFile:
    data = content if isinstance(content, bytes) else content.encode()
    return SourceFile("example.txt", data, "0" * 64)


def instances(content: str | bytes, family: UnconstrainedFamily = FAMILY) -> list[Instance]:
    return [family.normalize(raw, FamilyOptions(), "example") for raw in family.read(source(content))]


def value(instance: Instance, bits: np.ndarray) -> float:
    return FAMILY.evaluate(instance, bits).objective


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    """An upper triangular matrix with at least one entry, decimals of two places."""
    n = draw(st.integers(1, 7))
    cells = n * (n + 1) // 2
    numbers = draw(st.lists(st.integers(-500, 500), min_size=cells, max_size=cells).filter(any))
    upper = np.zeros((n, n))
    upper[np.triu_indices(n)] = np.array(numbers) / 100
    return upper


def lines(upper: np.ndarray, base: int) -> list[str]:
    return [f"{i + base} {j + base} {upper[i, j]:.2f}" for i, j in zip(*np.nonzero(upper), strict=True)]


def all_bits(n: int) -> np.ndarray:
    return (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(np.int8)


@settings(max_examples=30, deadline=None)
@given(matrices())
def test_biqmac_and_orlib_are_symmetric_and_qbsolv_is_not(upper: np.ndarray) -> None:
    n, entries = len(upper), lines(upper, 1)
    symmetric = upper + np.triu(upper, 1).T
    (sparse,) = instances(f"{n} {len(entries)}\n" + "\n".join(entries))
    first, second = instances("2\n" + 2 * (f"{n} {len(entries)}\n" + "\n".join(entries) + "\n"))
    nodes = int(np.count_nonzero(np.diag(upper)))
    (qbsolv,) = instances(
        f"c note\np qubo 0 {n} {nodes} {len(entries) - nodes}\n"
        + "\n".join(lines(np.diag(np.diag(upper)), 0))
        + "\n"
        + "\n".join(lines(np.triu(upper, 1), 0))
    )
    assert (sparse.sense, first.sense, second.sense, qbsolv.sense) == ("min", "max", "max", "min")
    assert first.digest == second.digest != sparse.digest
    program = FAMILY.model(first)
    for x in all_bits(n):
        assert value(sparse, x) == pytest.approx(x @ symmetric @ x)
        assert value(first, x) == pytest.approx(x @ symmetric @ x)
        assert value(qbsolv, x) == pytest.approx(x @ upper @ x)
        # the program is always minimized
        assert program.cqm.objective.energy((x, range(n))) == pytest.approx(-(x @ symmetric @ x))


@settings(max_examples=30, deadline=None)
@given(matrices(), st.sampled_from(["SPIN", "BINARY"]), st.integers(-300, 300))
def test_dimod_formats_keep_energies_offset_and_labels(upper: np.ndarray, vartype: str, offset: int) -> None:
    n = len(upper)
    bqm = dimod.BinaryQuadraticModel(
        {i: upper[i, i] for i in range(n)},
        {(i, j): upper[i, j] for i in range(n) for j in range(i + 1, n) if upper[i, j]},
        offset / 100,
        vartype,
    )
    named = bqm.relabel_variables({i: f"v{i}" for i in range(n)}, inplace=False)
    with named.to_file() as stored:
        (binary,) = instances(stored.read())
    (text,) = instances(json.dumps(named.to_serializable()))
    assert binary.digest == text.digest
    assert text.labels == tuple(f"v{i}" for i in range(n))
    last = int(np.max(np.nonzero(upper)))  # COO text knows no variable beyond the last entry, and no offset
    (coordinates,) = instances(coo.dumps(bqm, vartype_header=True))
    assert coordinates.size == last + 1
    for x in all_bits(n):
        states = x if vartype == "BINARY" else 2 * x - 1
        energy = bqm.energy((states, range(n)))
        assert value(binary, x) == pytest.approx(energy)
        rest = sum(bqm.linear[i] * states[i] for i in range(last + 1, n))
        assert value(coordinates, x[: last + 1]) == pytest.approx(energy - offset / 100 - rest)


def test_order_and_zeros_do_not_change_the_instance() -> None:
    (plain,) = instances("3 2\n1 2 4\n2 3 -1\n")
    (shuffled,) = instances("# a comment\n\n3 3\n2 3 -1\n1 3 0\n1 2 4\n")
    assert plain.digest == shuffled.digest
    assert shuffled.notes[-1] == "1 zero couplings dropped"


def test_a_gzipped_file_is_the_same_instance(tmp_path: Path) -> None:
    content = b"3 2\n1 1 4\n2 3 -1\n"
    (tmp_path / "a.sparse").write_bytes(content)
    (tmp_path / "a.sparse.gz").write_bytes(gzip.compress(content))
    plain, packed = (
        FAMILY.normalize(FAMILY.read(SourceFile.open(tmp_path / name))[0], FamilyOptions(), "a")
        for name in ("a.sparse", "a.sparse.gz")
    )
    assert plain.digest == packed.digest


MALFORMED = [
    ("# nothing\n\n", "it holds no data"),
    ("nodes edges\n1 2 3\n", "line 1: the header is 'nodes edges'"),
    ("3\n", "header: the file ends before its header"),
    ("3 2\n1 2 1\n", "header: it promises 2 entries, the file has 1"),
    ("3 1\n1 2 1\n2 3 1\n", "header: it promises 1 entries, the file has 2"),
    ("# c\n3 2\n1 2 1\n2 3 nan\n", "line 4: '2 3 nan' holds a value that is not a finite number"),
    ("3 1\n1 2 -inf\n", "line 2: '1 2 -inf' holds"),
    ("3 1\n1 2 1e308\n", "line 2: the coefficient of '1 2 1e308' is larger than 1e+15"),
    ("3 3\n1 2 1\n2 3 1\n1 2 4\n", "line 4: the pair '1 2' was given before, in line 2"),
    ("3 2\n1 2 1\n3 1 1\n", "line 3: '3 1 1' lies below the diagonal"),
    ("3 1\n-1 2 1\n", "line 2: an index of '-1 2 1' is not between 1 and 3"),
    ("3 1\n0 2 1\n", "line 2: an index of '0 2 1' is not between 1 and 3"),
    ("3 1\n1 4 1\n", "line 2: an index of '1 4 1' is not between 1 and 3"),
    ("3 1\n1 2.5 1\n", "line 2: an index of '1 2.5 1' is not a whole number"),
    ("3 1\n1 2 x\n", "line 2: 'x' is not a number"),
    ("3 2\n1 2 1\n2 3\n", "line 3: it has 2 fields where 3 are expected"),
    ("3 1\n1 2 0\n", "coefficients: all of them are zero"),
    ("99999999999 1\n1 2 1\n", "line 1: the header gives n = 99999999999"),
    (b"3 1\n1 2 \x00\n", "file: it is binary"),
    ("1\n2 3\n1 2 3\n", "line 2: it promises 3 entries, the file has 1 more lines"),
    ("1\n2 1\n1 2 3\n4 5 6\n", "line 4: data goes on after the last of 1 instances"),
    ("p qubo 0 3 2 0\n0 1 3\n1 1 2\n", "line 1: it promises 2 nodes, the file has 1 diagonal entries"),
    ("p qubo 0 3\n", "line 1: the header is 'p qubo 0 3'"),
    ("# vartype=TERNARY\n0 1 3\n", "vartype: it is 'TERNARY'"),
    ("# vartype=SPIN\n0 900000 3\n", "index: the largest is 900000"),
    ('{"type": "BinaryQuadraticModel", ', "file: dimod cannot read it"),
]


@pytest.mark.parametrize(("content", "message"), MALFORMED)
def test_malformed_files_are_one_sentence(content: str | bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        instances(content)
    assert message in str(caught.value)
    assert str(caught.value).startswith("example.txt: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bias", [float("nan"), float("inf"), 1e308])
def test_dimod_models_with_impossible_biases_are_refused(bias: float) -> None:
    with dimod.BinaryQuadraticModel({0: 1}, {(0, 1): bias}, 0, "SPIN").to_file() as stored, pytest.raises(InputError):
        instances(stored.read())


def test_a_half_copied_dimod_file_is_never_another_instance() -> None:
    with dimod.generators.ran_r(3, 10, seed=1).to_file() as stored:
        whole = stored.read()
    (expected,) = instances(whole)
    refused = 0
    for end in range(8, len(whole), 7):
        try:
            (got,) = instances(whole[:end])
        except InputError:
            refused += 1
        else:
            assert got.digest == expected.digest
    assert refused > 0


RECOGNISED = [
    ("3 2\n1 2 1\n2 3 1\n", {"qubo", "maxcut"}),
    ("3 2\n1 2 1\n2 2 1\n", {"qubo"}),
    ("3 2\n1 2\n2 3\n", {"maxcut"}),
    ("# a QUBO\n3 2\n1 2 1\n2 3 1\n", {"qubo"}),
    ("# rudy\n3 2\n1 2 1\n2 3 1\n", {"maxcut"}),
    ("# QUBO from a MaxCut\n3 2\n1 2 1\n2 3 1\n", {"qubo", "maxcut"}),
    ("c x\np qubo 0 3 1 1\n0 0 -1\n0 1 2\n", {"qubo"}),
    ("c x\np edge 3 1\ne 1 2\n", {"maxcut", "mis"}),
    ("c a rudy graph\np edge 3 1\ne 1 2\n", {"maxcut"}),
    ("c an Independent Set\np col 3 1\ne 1 2\n", {"mis"}),
    ("c MIS\n3 2\n1 2\n2 3\n", {"mis"}),
    ("p edge 3 1\ne 1 2 5\n", {"maxcut"}),
    ("p edge 3 1\nn 1 4\ne 1 2\n", {"mis"}),
    ("1\n3 1\n1 2 -4\n", {"qubo"}),
    ("# vartype=SPIN\n0 1 2\n", {"qubo"}),
    # a broken entry does not hide what the file wants to be
    ("3 2\n1 2 nan\n2 3 1\n", {"qubo", "maxcut"}),
    # other families' files, and nobody's
    ("2\n0.001 0.04\n0.002 0.05\n1 1 1\n1 2 .3\n2 2 1\n", set()),
    ("date,A,B\n2020-01-02,10,11\n", set()),
    ("4 11\n8 4\n10 5\n", set()),
    ("p cnf 3 1\n1 -2 0\n", set()),
    ('{"some": "json"}', set()),
    (b"\x00\x01", set()),
    ("", set()),
]


@pytest.mark.parametrize(("content", "families"), RECOGNISED)
def test_recognised_by_content(content: str | bytes, families: set[str]) -> None:
    assert {f.name for f in (Qubo(), MaxCut(), Mis()) if f.recognises(source(content))} == families


def test_a_diagonal_entry_far_down_the_file_is_seen() -> None:
    entries = [f"{i} {j} 1" for i in range(1, 60) for j in range(i + 1, 61)]
    assert MaxCut().recognises(source(f"60 {len(entries)}\n" + "\n".join(entries)))
    entries.append("60 60 2")
    assert not MaxCut().recognises(source(f"60 {len(entries)}\n" + "\n".join(entries)))


def test_comments_with_bytes_outside_utf8_are_accepted_and_data_is_not() -> None:
    (instance,) = instances(b"# pages 608\x96624\n2 1\n1 2 -3\n")
    assert value(instance, np.array([1, 1])) == -6
    with pytest.raises(InputError, match="binary"):
        instances(b"2 1\n1 2 \x96\n")


def test_random_assignments_respect_what_is_fixed() -> None:
    (instance,) = instances("6 1\n1 6 2\n")
    base, free = np.array([1, 0, 1, 0, 1, 0], dtype=np.int8), np.array([0, 3])
    drawn = FAMILY.random_assignments(instance, 400, 5, free, base)
    assert (drawn[:, [1, 2, 4, 5]] == base[[1, 2, 4, 5]]).all()
    assert abs(drawn[:, free].mean() - 0.5) < 0.1
    assert (drawn == FAMILY.random_assignments(instance, 400, 5, free, base)).all()


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.[!y]*")), ids=lambda p: p.name)
def test_shipped_files_are_read(path: Path) -> None:
    (raw,) = FAMILY.read(SourceFile.open(path))
    assert FAMILY.normalize(raw, FamilyOptions(), path.stem).size in (16, 30)


def shared_rows() -> list[dict[str, str]]:
    if not SHARED:
        return []
    with (Path(SHARED) / "MANIFEST.tsv").open() as stored:
        return [
            row
            for row in csv.DictReader(stored, delimiter="\t")
            if row["family"] in ("qubo", "maxcut") and row["own_solution_file"]
        ]


@pytest.mark.parametrize("row", shared_rows(), ids=lambda row: row["instance"])
def test_published_instances_and_solutions_agree(row: dict[str, str]) -> None:
    family: UnconstrainedFamily = FAMILY if row["family"] == "qubo" else MaxCut()
    file = SourceFile.open(Path(SHARED or "") / row["file"])
    assert family.recognises(file)
    instance = family.normalize(family.read(file)[0], FamilyOptions(), row["instance"])
    bits = np.array([int(c) for c in (Path(SHARED or "") / row["own_solution_file"]).read_text().strip()])
    found = family.evaluate(instance, bits).objective
    # a solution found by search may be worse than the best known value, never better
    proven = row["proven_optimal"] == "yes"
    known = float(row["best_known"])
    assert (
        found == pytest.approx(known) if proven else (found - known) * (1 if instance.sense == "min" else -1) >= -1e-6
    )
