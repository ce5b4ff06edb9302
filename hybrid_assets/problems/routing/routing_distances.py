"""Distances of routing files: whole numbers from coordinates or from a written matrix, by TSPLIB's rules.

Here: the formulas (Reinelt, TSPLIB95, 1995) and the orders in which a matrix may be written. Not here: reading lines
(``routing_files``).
"""

from __future__ import annotations

import numpy as np

#: TSPLIB's own constants for ``GEO``; with others the published optima do not hold.
_PI, _EARTH = 3.141592, 6378.388

#: Orders of ``EDGE_WEIGHT_FORMAT`` → (part of the matrix, whether by columns, whether with the diagonal).
MATRIX_FORMATS: dict[str, tuple[str, bool, bool]] = {
    "FULL_MATRIX": ("full", False, True),
    "UPPER_ROW": ("upper", False, False),
    "LOWER_ROW": ("lower", False, False),
    "UPPER_DIAG_ROW": ("upper", False, True),
    "LOWER_DIAG_ROW": ("lower", False, True),
    "UPPER_COL": ("upper", True, False),
    "LOWER_COL": ("lower", True, False),
    "UPPER_DIAG_COL": ("upper", True, True),
    "LOWER_DIAG_COL": ("lower", True, True),
}
#: Kinds of ``EDGE_WEIGHT_TYPE`` that are computed from two coordinates.
COORDINATE_TYPES = ("EUC_2D", "CEIL_2D", "MAN_2D", "MAX_2D", "ATT", "GEO")


def between(places: np.ndarray, kind: str) -> np.ndarray:
    """Distances of points.

    Args:
        places: float64, shape ``(n, 2)``.
        kind: one of ``COORDINATE_TYPES``.

    Returns:
        int64, shape ``(n, n)``, symmetric, zero on the diagonal. ``EUC_2D`` is ``floor(d + 0.5)``: rounding halves to
        even gives other optima.
    """
    if kind == "GEO":
        whole = np.trunc(places)
        radians = _PI * (whole + 5.0 * (places - whole) / 3.0) / 180.0
        latitude, longitude = radians[:, 0], radians[:, 1]
        q1 = np.cos(longitude[:, None] - longitude)
        q2, q3 = np.cos(latitude[:, None] - latitude), np.cos(latitude[:, None] + latitude)
        angle = np.arccos(np.clip(0.5 * ((1.0 + q1) * q2 - (1.0 - q1) * q3), -1.0, 1.0))
        distance = np.floor(_EARTH * angle + 1.0)
    else:
        apart = np.abs(places[:, None, :] - places[None, :, :])
        if kind == "MAN_2D":
            distance = np.floor(apart.sum(axis=2) + 0.5)
        elif kind == "MAX_2D":
            distance = np.floor(apart + 0.5).max(axis=2)
        else:
            squared = (apart**2).sum(axis=2)
            if kind == "ATT":
                distance = np.ceil(np.sqrt(squared / 10.0))
            else:
                distance = np.ceil(np.sqrt(squared)) if kind == "CEIL_2D" else np.floor(np.sqrt(squared) + 0.5)
    np.fill_diagonal(distance, 0.0)
    return distance.astype(np.int64)


def truncated_tenths(places: np.ndarray) -> np.ndarray:
    """Euclidean distances in tenths, cut off: the convention of the exact results on Solomon's instances.

    Args:
        places: float64, shape ``(n, 2)``.

    Returns:
        int64, shape ``(n, n)``.
    """
    squared = ((places[:, None, :] - places[None, :, :]) ** 2).sum(axis=2)
    # an exact root must not fall below its whole number
    return np.floor(10.0 * np.sqrt(squared) + 1e-9).astype(np.int64)


def weights_expected(size: int, form: str) -> int:
    """How many numbers a matrix of this format has."""
    part, _, diagonal = MATRIX_FORMATS[form]
    return size * size if part == "full" else size * (size + 1 if diagonal else size - 1) // 2


def matrix(numbers: np.ndarray, size: int, form: str) -> np.ndarray:
    """The full matrix from the numbers in the order of the file.

    Args:
        numbers: as many as ``weights_expected``.

    Returns:
        Same dtype, shape ``(size, size)``, the diagonal set to zero; symmetric unless ``FULL_MATRIX`` was not.
    """
    part, by_columns, diagonal = MATRIX_FORMATS[form]
    full = np.zeros((size, size), dtype=numbers.dtype)
    if part == "full":
        full[:] = numbers.reshape(size, size)
    else:
        # the upper part by columns is the lower part by rows, and the other way round
        upper = (part == "upper") != by_columns
        shift = 0 if diagonal else 1
        places = np.triu_indices(size, shift) if upper else np.tril_indices(size, -shift)
        full[places] = numbers
        full = full + full.T
    np.fill_diagonal(full, 0)
    return full
