"""The ``program`` family: its formats and what is wrong with them, bounds, rows, bits, instances without solution."""

from __future__ import annotations

import gzip
import json
import lzma
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import dimod
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets import cli, registry
from hybrid_assets.landing import recognise
from hybrid_assets.problems.base import FamilyOptions, Instance
from hybrid_assets.problems.conformance import source
from hybrid_assets.problems.programs.polynomial import Layout, Terms, digits, whole
from hybrid_assets.problems.programs.program import MathematicalProgram
from hybrid_assets.problems.programs.program_bits import Bits
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.session import Session, open_session
from hybrid_assets.solvers.base import SolveTask
from resources.envelope import PostProcessing
from resources.failures import InfeasibleError, InputError
from resources.home import Home
from tests.unit import program_examples as examples

FAMILY = MathematicalProgram()


def instance(content: bytes) -> Instance:
    return FAMILY.normalize(FAMILY.read(source(content))[0], FamilyOptions(), "test")


def lp(constraints: str, rest: str = "", objective: str = "x + y") -> bytes:
    """A program over two integers in 0 … 3, from its constraints."""
    bounds = "bounds\n x <= 3\n y <= 3\ngeneral\n x y"
    return f"minimize\n obj: {objective}\nsubject to\n{constraints}\n{bounds}\n{rest}\nend\n".encode()


def everything(of: Instance) -> Iterator[np.ndarray]:
    """All points within the bounds."""
    a = of.arrays
    ranges = zip(a["lower"].tolist(), a["upper"].tolist(), a["step"].tolist(), strict=True)
    for point in product(*(range(low, high + 1, step) for low, high, step in ranges)):
        yield np.array(point)


# -- what the formats say ----------------------------------------------------------------------------------------


def test_lp_text() -> None:
    found = instance(examples.LP)
    assert (found.sense, found.labels) == ("max", ("x", "y", "z", "w"))
    assert found.arrays["upper"].tolist() == [4, 3, 1, 1]
    # 3·4 + 2·2 + 0.5 + 2·16/2 + 1
    value = FAMILY.evaluate(found, np.array([4, 2, 0, 1]))
    assert (value.objective, value.violations) == (33.5, {})
    broken = FAMILY.evaluate(found, np.array([4, 3, 1, 1]))
    assert broken.violations == {"stock": 2.0, "range": 1.0}
    assert FAMILY.evaluate(found, np.array([0, 0, 0, 0])).violations == {"range (lower side)": 1.0}
    assert FAMILY.constraints(found)["r2"] == "+0.5 x -0.25 y >= -1"
    assert set(FAMILY.evaluate(found, np.array([5, 1.5, 0, 0])).violations) == {"bounds of x", "y is whole", "stock"}


def test_mps_text() -> None:
    found = instance(examples.MPS)
    assert (found.sense, found.labels) == ("max", ("x", "y", "z"))
    # 4 − 2 + 5 + ½·2·16 − (4·−1)
    value = FAMILY.evaluate(found, np.array([4, -1, 0]))
    assert (value.objective, value.violations) == (27.0, {})
    # a range on a row of type L reaches down from its side
    assert FAMILY.evaluate(found, np.array([1, 0, 1])).violations == {"lim1 (lower side)": 0.5}
    assert FAMILY.evaluate(found, np.array([4, 1, 2])).violations == {"lim1": 1.0}


def test_polynomials() -> None:
    cubic = instance(examples.HUBO)
    assert FAMILY.evaluate(cubic, np.array([1, 1, 1, 0, 1])).objective == 0.5 - 4 + 1 - 1
    assert FAMILY.evaluate(cubic, np.ones(5)).objective == 0.5 - 4 + 3 + 1 + 2.5 - 1
    program = FAMILY.model(cubic)
    assert program.higher == {(0, 1, 2): -4.0, (0, 2, 3, 4): 2.5}
    spins = instance(examples.SPINS)
    assert spins.arrays["step"].tolist() == [2, 2, 2, 2]
    assert FAMILY.evaluate(spins, np.array([1, -1, 1, -1])).objective == -1 - 2 - 0.5 + 7
    assert "0 is whole" in FAMILY.evaluate(spins, np.array([0, 1, 1, 1])).violations


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["cqm", "lp"])
def test_what_dimod_writes_has_dimod_s_values(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = dimod.ConstrainedQuadraticModel()
    x = [dimod.Binary("a"), dimod.Binary("b"), dimod.Integer("k", lower_bound=-2, upper_bound=3)]
    x.append(dimod.Integer("m", lower_bound=0, upper_bound=int(rng.integers(1, 6))))
    numbers = iter(np.round(rng.normal(scale=4, size=40), 2).tolist())
    model.set_objective(sum(next(numbers) * v for v in x) + next(numbers) * x[0] * x[2] + next(numbers) * x[2] * x[3])
    for k, sense in enumerate(("<=", ">=")):
        model.add_constraint(sum(next(numbers) * v for v in x), sense, next(numbers) - (9 if k else -9), label=f"c{k}")
    model.add_constraint(2 * x[0] * x[3] + x[1] <= 4, label="q")
    content = model.to_file().read() if kind == "cqm" else dimod.lp.dumps(model).encode()
    assert recognise(source(content)) == "program"
    found = instance(content)
    order = [list(found.labels).index(v) for v in ("a", "b", "k", "m")]
    for point in everything(found):
        sample = dict(zip("abkm", point[order].tolist(), strict=True))
        value = FAMILY.evaluate(found, point)
        assert value.objective == pytest.approx(model.objective.energy(sample), abs=1e-9)
        broken = {d.label: d.violation for d in model.iter_constraint_data(sample) if d.violation > 1e-9}
        assert value.violations == pytest.approx(broken, abs=1e-9)


def test_another_reader_finds_the_same_optimum(tmp_path: Path) -> None:
    from pyscipopt import Model

    (tmp_path / "small.mps").write_bytes(examples.MPS)
    model = Model()
    model.hideOutput()
    model.readProblem(str(tmp_path / "small.mps"))
    model.optimize()
    found = instance(examples.MPS)
    result = registry.solver("highs").solve(SolveTask(FAMILY, found), 30.0, 0)
    assert (result.status, result.objective) == ("optimal", pytest.approx(model.getObjVal(), abs=1e-6))


@pytest.mark.parametrize("squeeze", [gzip.compress, lzma.compress])
def test_compressed_files(tmp_path: Path, squeeze) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "a.lp.z"
    path.write_bytes(squeeze(examples.LP))
    assert SourceFile.open(path).content == examples.LP
    path.write_bytes(squeeze(examples.LP)[:-12])
    with pytest.raises(InputError, match="the compressed data is damaged"):
        SourceFile.open(path)


def test_declared_and_free_numbers_of_every_kind() -> None:
    found = instance(
        b"MIN\n 2e1 x + .5y - - z\nST\n -1.5 <= x - z\n 2 >= y\n x + y + z <= 9\nBOUNDS\n -2 <= x <= 2\n z free\n"
        b" z >= -1\n y = 1\nINTEGERS\n x y z\nEND\n"
    )
    assert found.arrays["lower"].tolist() == [-2, 1, -1]
    # z has no upper bound of its own: x ≥ −2 and the first row give one
    assert found.arrays["upper"].tolist() == [2, 1, 3]
    assert any("inferred" in note for note in found.notes)
    value = FAMILY.evaluate(found, np.array([2, 1, -1]))
    assert (value.objective, value.violations) == (39.5, {})


def test_mps_integers_without_bounds_are_binaries() -> None:
    text = b"NAME\nROWS\n N c\nCOLUMNS\n m 'MARKER' 'INTORG'\n x c 1\n y c 1\nRHS\nBOUNDS\n UP b y 7\nENDATA\n"
    found = instance(text)
    assert found.arrays["upper"].tolist() == [1, 7]
    assert found.notes[0] == "1 integers without bounds are read as binaries"


# -- what is wrong with them -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lp(" c: x + 3 y >= "), r"line 4: 'end of section' where a number is expected"),
        (lp(" c: x + y 2"), r"line 4: '2' where <=, >= or = is expected"),
        (lp(" c: x ^2 >= 1"), r"line 4: '\^' where <=, >= or = is expected"),
        (lp(" c: [ x ^3 ] >= 1"), r"line 4: '3' where the power 2 .* is expected"),
        (lp(" c: [ x y ] >= 1"), r"line 4: 'y' where \^2 or \* and a variable is expected"),
        (lp(" c: x >= 1\n c: y >= 1"), r"line 5: constraint 'c' was given before"),
        (lp(" c: x >= 1e16"), r"line 4: 1e\+16 is too large"),
        (lp(" c: x >= 1", "binary\n q"), r"line 11: 'q' where a variable of the objective or a constraint is expected"),
        (lp(" c: x >= 1", "sos2\n s: x:1 y:2"), r"line 10: section 'sos2' cannot be read"),
        (lp(" c: x >= 1").replace(b"end\n", b""), r"end of file: the line 'end' is missing"),
        (lp(" c: x >= 1") + b"minimize\n", r"'minimize' is out of place"),
        (lp(" c: x >= 1", objective="x + y + w"), r"variable w: it is continuous, and only whole numbers become bits"),
        (lp(" c: x >= 1", "general\n w", "x + y + w"), r"variable w: it has no upper bound, and none follows"),
        (lp(" c: x >= 1", "bounds\n -inf <= y"), r"variable y: it has no lower bound"),
        (lp(" c: x \x07 >= 1"), r"line 4: '.*' cannot be read"),
        (examples.MPS.replace(b" L  lim1", b" Q  lim1"), r"line 7: 'Q lim1' is no row"),
        (examples.MPS.replace(b"x  lim2  1.0", b"x  lim9  1.0"), r"line 13: there is no row 'lim9'"),
        (examples.MPS.replace(b"x  lim2  1.0", b"x  lim1  1.0"), r"line 13: 'x' in row 'lim1' was given before"),
        (examples.MPS.replace(b"lim1  4.0", b"lim1  four"), r"line 19: 'four' is not a number"),
        (examples.MPS.replace(b" UP bnd  x", b" SC bnd  x"), r"line 24: bound 'SC' cannot be read"),
        (examples.MPS.replace(b" UP bnd  x", b" UP bnd  q"), r"line 24: there is no column 'q'"),
        (examples.MPS.replace(b"QUADOBJ", b"SOS"), r"line 28: section 'SOS' cannot be read"),
        (examples.MPS.replace(b"ENDATA\n", b""), r"the line ENDATA is missing"),
        (examples.MPS.replace(b"    MARK0  'MARKER'  'INTORG'\n", b""), r"variable x: it is continuous"),
        (examples.HUBO.replace(b"BINARY", b"TERNARY"), r"vartype: 'TERNARY' is no kind of variable"),
        (examples.HUBO.replace(b"-4", b'"-4"'), r"term 1: '-4' is no number"),
        (examples.HUBO.replace(b"-4", b"NaN"), r"term 1: nan is too large or no number"),
        (examples.HUBO.replace(b'"coefficient": 3', b'"weight": 3'), r"term 2: it is not variables and a coefficient"),
        (examples.HUBO[:-2], r"line 1: it is no JSON document from there on"),
        (b'{"type": "polynomial", "vartype": "SPIN", "terms": []}', r"terms: there are none"),
        (b'{"type": "polynomial", "vartype": "SPIN", "pairs": []}', r"pairs: there is no such key"),
        (examples.cqm()[:300], r"content: dimod cannot read the constrained quadratic model"),
    ],
)
def test_wrong_files_are_refused_with_their_place(content: bytes, said: str) -> None:
    with pytest.raises(InputError) as caught:
        instance(content)
    assert re.search(said, str(caught.value)), caught.value
    assert not isinstance(caught.value, InfeasibleError)


def test_soft_and_real_parts_of_a_cqm_are_refused() -> None:
    model = dimod.ConstrainedQuadraticModel()
    model.add_variable("BINARY", "x")
    model.add_constraint([("x", 1.0)], "<=", 0.0, label="wish", weight=2.0)
    with pytest.raises(InputError, match="constraint wish: it is soft"):
        instance(model.to_file().read())
    model = dimod.ConstrainedQuadraticModel()
    model.set_objective(dimod.Real("r") + dimod.Binary("x"))
    with pytest.raises(InputError, match="variable r: it is continuous"):
        instance(model.to_file().read())


# -- without solution --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lp(" c: x + y >= 7"), r"line 4: constraint 'c' asks for at least 7, .* between 0 and 6"),
        (lp(" c: 2 x + 2 y = 3"), r"line 4: constraint 'c' asks for 3, which its coefficients never add up to"),
        (lp(" c: 2 <= x + y <= 1"), r"line 4: constraint 'c' asks for between 2 and 1"),
        (lp(" c: x >= 1", "bounds\n x >= 5"), r"variable x: no whole number lies between its bounds 5 and 3"),
        (examples.INFEASIBLE, r"constraints: HiGHS proves that they contradict each other"),
    ],
)
def test_programs_without_solution_are_recognised(content: bytes, said: str) -> None:
    with pytest.raises(InfeasibleError, match=r"input: no solution exists: " + said):
        instance(content)


@pytest.mark.parametrize("seed", range(60))
def test_infeasible_is_said_of_what_is_infeasible_only(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = []
    for k in range(4):
        a, b = rng.integers(-5, 6, 2)
        lines.append(f" c{k}: {a} x + {b} y {rng.choice(['<=', '>=', '='])} {rng.integers(-6, 7)}")
    content = lp("\n".join(lines))
    wide = instance(lp(" c: x + y >= 0"))
    raw = FAMILY.read(source(content))[0]

    def holds(point: np.ndarray) -> bool:
        sides = [sum(value * point[key[0]] for key, value in row.terms.items()) for row in raw.rows]
        return all(row.low <= side <= row.high for row, side in zip(raw.rows, sides, strict=True))

    feasible = [point for point in everything(wide) if holds(point)]
    try:
        found = FAMILY.normalize(raw, FamilyOptions(), "test")
    except InfeasibleError:
        assert not feasible
        return
    assert feasible
    assert {tuple(p) for p in everything(found) if FAMILY.evaluate(found, p).feasible} == {tuple(p) for p in feasible}
    reference = FAMILY.reference(found, FAMILY.model(found), seed)
    assert FAMILY.complete(found, reference.assignment).evaluation.feasible


def test_the_command_ends_with_code_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "none.lp"
    path.write_bytes(examples.INFEASIBLE)
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setenv("HYBRID_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.argv", ["hybrid", "solve", str(path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == cli.NO_ANSWER == 3
    assert capsys.readouterr().err.startswith("none.lp: no solution exists: constraints: HiGHS proves")
    # landed by the inbox it is only parsed; the line says so later
    inbox = tmp_path / "inbox" / "program"
    inbox.mkdir(parents=True)
    path.rename(inbox / "none.lp")
    monkeypatch.setenv("HYBRID_INBOX", str(inbox.parent))
    with open_session(home=Home(tmp_path / "home")) as session:
        ((landing,), refused) = session.land_inbox()
        outcome = session.process(landing.instance)
    assert not refused
    assert outcome.infeasible
    assert outcome.failure_class == "input"


def test_instances_without_an_answer_are_told_apart() -> None:
    rows = pd.DataFrame({"instance": ["a", "b"], "feasible": [True, False], "reason": ["won", "nobody"]})
    session = SimpleNamespace(lake=SimpleNamespace(read=lambda table, keys: rows[rows["instance"].isin(keys)]))
    assert Session.unanswered(session, ["a", "b"]) == {"b": "nobody"}  # type: ignore[arg-type]
    assert Session.unanswered(session, ["a"]) == {}  # type: ignore[arg-type]
    assert Session.unanswered(session, []) == {}  # type: ignore[arg-type]


# -- bits --------------------------------------------------------------------------------------------------------


def test_rows_of_decimals_become_whole_numbers_where_they_are() -> None:
    found = instance(lp(" c: 0.25 x + 1.5 y <= 2.3\n d: 4 x + 6 y <= 13\n e: 0.12345678 x + y <= 3.5"))
    a = found.arrays
    assert a["row_value"].tolist() == [1.0, 6.0, 2.0, 3.0, 0.12345678, 1.0]
    assert a["row_rhs"].tolist() == [9.0, 6.0, 3.5]
    assert a["row_whole"].tolist() == [1, 1, 0]
    assert any("discretisation error" in note for note in found.notes)
    # 0.25·3 + 1.5·2 = 3.75 in the file's units
    assert FAMILY.evaluate(found, np.array([3, 2])).violations == pytest.approx({"c": 1.45, "d": 11.0})


def test_whole_numbers_and_their_fraction() -> None:
    assert whole([0.1, 0.2, -0.3]) == ([1, 2, -3], 10, 1)
    assert whole([4.0, -6.0]) == ([2, -3], 1, 2)
    assert whole([1 / 3]) is None


@given(st.integers(0, 3000))
def test_digits_reach_every_value_and_none_beyond(span: int) -> None:
    weights = digits(span)
    assert sum(weights) == span
    assert len(weights) == span.bit_length()
    layout = Layout.of(np.array([-7]), np.array([span - 7]), np.array([1]))
    for value in {0, span // 3, span // 2, span}:
        bits = layout.bits(np.array([value - 7]))
        assert layout.values(bits).tolist() == [value - 7]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_expansion_has_the_polynomial_s_values(data: st.DataObject) -> None:
    n = 3
    lower = np.array(data.draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n)))
    step = np.array(data.draw(st.lists(st.sampled_from([1, 2]), min_size=n, max_size=n)))
    upper = lower + step * np.array(data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n)))
    keys = st.lists(st.integers(0, n - 1), max_size=4).map(lambda v: tuple(sorted(v)))
    terms: Terms = data.draw(st.dictionaries(keys, st.integers(-9, 9).map(float), max_size=5))
    layout = Layout.of(lower, upper, step)
    bits = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(layout.owner), max_size=len(layout.owner))))
    values = layout.values(bits)
    assert ((lower <= values) & (values <= upper)).all()
    expanded = layout.expanded(terms, 10_000)
    assert expanded is not None
    direct = sum(c * float(np.prod([float(values[i]) for i in key])) for key, c in terms.items())
    over_bits = sum(c * float(np.prod([float(bits[k]) for k in key])) for key, c in expanded.items())
    assert over_bits == pytest.approx(direct, abs=1e-6)
    assert all(list(key) == sorted(set(key)) for key in expanded)


def one_hot(groups: int, size: int) -> bytes:
    """An assignment: one of ``size`` in each group, at most two groups on each choice."""
    names = [[f"x{g}_{k}" for k in range(size)] for g in range(groups)]
    rows = [" + ".join(names[g]) + " = 1" for g in range(groups)]
    rows += [" + ".join(names[g][k] for g in range(groups)) + " <= 2" for k in range(size)]
    cost = " + ".join(f"{(3 * g + 5 * k) % 7} {names[g][k]}" for g in range(groups) for k in range(size))
    flat = " ".join(name for row in names for name in row)
    body = "\n ".join(rows)
    return f"min\n {cost}\nst\n {body}\nbinary\n {flat}\nend\n".encode()


def test_broken_assignments_are_repaired_and_called_so() -> None:
    found = instance(one_hot(8, 5))
    rng = np.random.default_rng(0)
    for bits in rng.integers(0, 2, (20, 40), dtype=np.int8):
        solution = FAMILY.complete(found, bits)
        assert solution.evaluation.feasible
        assert solution.post_processing is PostProcessing.REPAIRED


def test_random_assignments_vary_what_is_free() -> None:
    found = instance(one_hot(8, 5))
    bits = Bits.of(found)
    base = FAMILY.reference(found, FAMILY.model(found), 0).assignment
    free = np.arange(20)
    draws = FAMILY.random_assignments(found, 40, 1, free=free, base=base)
    assert (draws[:, 20:] == base[20:]).all()
    assert all(bits.holds(draw) for draw in draws)
    assert len(np.unique(draws, axis=0)) > 20


def test_too_many_bits_are_refused_when_a_program_is_asked_for() -> None:
    document = {"type": "polynomial", "vartype": "BINARY", "terms": []}
    document["terms"] = [{"variables": [k, k + 1], "coefficient": 1} for k in range(5_001)]
    found = instance(json.dumps(document).encode())
    assert FAMILY.program_size(found) == 5_002
    with pytest.raises(InputError, match="5002 bits would make a program too large to hold"):
        FAMILY.model(found)


def test_the_reference_is_near_the_optimum_of_a_small_program() -> None:
    found = instance(one_hot(6, 4))
    program = FAMILY.model(found)
    reference = FAMILY.reference(found, program, 3)
    proven = registry.solver("cpsat-program").solve(SolveTask(FAMILY, found), 30.0, 0)
    assert proven.status == "optimal"
    assert proven.objective is not None
    assert FAMILY.complete(found, reference.assignment).evaluation.objective <= proven.objective + 2
