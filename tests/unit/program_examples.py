"""Small programs in every format that the ``program`` family reads, for its tests and the conformance suites."""

from __future__ import annotations

import json

import dimod

LP = rb"""\ a small mixed program
Maximize
 profit: 3 x + 2 y - z + 0.5 w + [ 2 x ^2 - 4 x * z ] / 2 + 1
Subject To
 stock: x + y + z <= 6
 r2: 0.5 x - 0.25 y >= -1
 range: 1 <= y + w <= 3
 x - z >= -2
Bounds
 0 <= x <= 4
 y <= 3
General
 x y
Binary
 z w
End
"""

MPS = b"""* a small program
NAME  small
OBJSENSE
    MAX
ROWS
 N  cost
 L  lim1
 G  lim2
 E  pair
COLUMNS
    MARK0  'MARKER'  'INTORG'
    x  cost  1.0  lim1  1.0
    x  lim2  1.0
    y  cost  2.0  lim1  1.0
    y  pair  -1.0
    z  cost  -1.0  pair  1.0
    MARK1  'MARKER'  'INTEND'
RHS
    rhs  lim1  4.0  lim2  1.0
    rhs  pair  1.0  cost  -5.0
RANGES
    rng  lim1  2.5
BOUNDS
 UP bnd  x  4.0
 LO bnd  y  -1.0
 UP bnd  y  1.0
 UP bnd  z  3.0
QUADOBJ
    x  x  2.0
    x  y  -1.0
ENDATA
"""

HUBO = json.dumps(
    {
        "type": "polynomial",
        "vartype": "BINARY",
        "offset": 0.5,
        "terms": [
            {"variables": ["a", "b", "c"], "coefficient": -4},
            {"variables": ["a", "d"], "coefficient": 3},
            {"variables": ["b"], "coefficient": 1},
            {"variables": ["c", "d", "e", "a"], "coefficient": 2.5},
            {"variables": ["e"], "coefficient": -1},
        ],
    }
).encode()

SPINS = json.dumps(
    {
        "type": "polynomial",
        "vartype": "SPIN",
        "sense": "max",
        "terms": [
            {"variables": [0, 1], "coefficient": 1},
            {"variables": [1, 2, 3], "coefficient": -2},
            {"variables": [3], "coefficient": 0.5},
            {"variables": [2, 2], "coefficient": 7},
        ],
    }
).encode()

INFEASIBLE = b"""Minimize
 obj: x + y + z
Subject To
 a: 2 x + 2 y >= 1
 b: 2 y + 2 z >= 1
 c: 2 x + 2 z >= 1
 d: x + y + z <= 1
Binary
 x y z
End
"""


def cqm() -> bytes:
    """A constrained quadratic model with binaries, a spin, an integer and a quadratic constraint."""
    model = dimod.ConstrainedQuadraticModel()
    x, y, s, k = (
        dimod.Binary("x"),
        dimod.Binary("y"),
        dimod.Spin("s"),
        dimod.Integer("k", lower_bound=-2, upper_bound=3),
    )
    model.set_objective(2 * x - 3 * y + s * x + 0.5 * k * k - k * y + 4)
    model.add_constraint(x + y + k <= 3, label="sum")
    model.add_constraint(x * y + s >= -1, label="product")
    model.add_constraint(k - 2 * x == 0, label="tie")
    stored: bytes = model.to_file().read()
    return stored


ALL = (LP, MPS, HUBO, SPINS, cqm())
