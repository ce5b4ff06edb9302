"""The quick way through long coordinate lists reads what the careful one reads, and leaves the rest to it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets.problems.coordinate import Lines, _plain_table
from resources.failures import InputError

NUMBERS = st.one_of(
    st.integers(-(10**15), 10**15).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["1e5", "-.5", "5.", "1E-7", "0.1", "1e400", "4.9e-324"]),
)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS).map(" ".join), min_size=1, max_size=30))
@settings(max_examples=200, deadline=None)
def test_it_reads_to_the_last_bit_what_numpy_reads(texts: list[str]) -> None:
    found = _plain_table(texts, 3)
    expected = np.loadtxt(texts, ndmin=2, comments=None)
    if found is not None:
        np.testing.assert_array_equal(found, expected)


def test_plain_lines_are_taken() -> None:
    found = _plain_table(["1 2 -3", "4 5 0.5"], 3)
    assert found is not None
    assert found.tolist() == [[1, 2, -3], [4, 5, 0.5]]
    pairs = _plain_table(["1 2", "3 4"], 2)
    assert pairs is not None
    assert pairs.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "odd", ["1  2 3", "1\t2 3", "1 2", "1 2 3 4", "", '"1" 2 3', "1 2 x", "1 2 NA", "1 2 0x1", "1 2 1_0"]
)
def test_everything_else_is_left_to_the_careful_way(odd: str) -> None:
    assert _plain_table(["1 2 3", odd, "4 5 6"], 3) is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2 3", "line 3: it has 2 fields where 3 are expected"),
        ("2 3 x", "line 3: 'x' is not a number"),
        ("2 3 nan", "line 3: '2 3 nan' holds a value that is not a finite number"),
        ("2.5 3 1", "line 3: an index of '2.5 3 1' is not a whole number"),
    ],
)
def test_messages_name_the_line_all_the_same(line: str, said: str) -> None:
    lines = Lines("list.txt", ["4 3", "1 2 1", line, "3 4 1"], range(1, 5))
    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        lines.entries(1, 4, 4, loops=False, lower=True)
