"""Readers of the portfolio family: OR-Library ``port`` files and histories of prices or returns.

Here: what a format looks like and what its columns mean. Not here: returns, moments and the checks on them
(``portfolio_moments``), or options.
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hybrid_assets.problems.source import SourceFile
from resources.failures import InputError

if TYPE_CHECKING:
    import pandas as pd

#: Nothing in a portfolio is larger than this; it keeps every later product finite.
LARGEST = 1e12
_DATE_NAMES = {"", "date", "datum", "day", "month", "period", "time", "timestamp", "datetime", "yyyymm", "index"}
_TICKER_NAMES = {"ticker", "symbol", "asset", "name", "isin"}
_PRICE_NAMES = ("adj close", "adj_close", "adjclose", "price", "close", "value")
_ISO = re.compile(r"^(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[T ].*)?$")
_COMPACT = re.compile(r"^\d{6}(?:\d{2})?$")
_WORDS = re.compile(r"[A-Za-z]{3}.*\d{4}|\d{4}.*[A-Za-z]{3}|\d.*[A-Za-z]{3}.*\d{4}")


@dataclass(frozen=True)
class Moments:
    """A ``port`` file: means and standard deviations, shape ``(n,)``, correlations, shape ``(n, n)``."""

    file: str
    mean: np.ndarray
    deviation: np.ndarray
    correlation: np.ndarray


@dataclass(frozen=True)
class History:
    """Prices or returns, dates × assets, sorted by date, missing values as NaN.

    Attributes:
        kind: what the values are: prices, or simple returns per period (percent already divided by 100).
    """

    file: str
    table: pd.DataFrame
    kind: Literal["prices", "returns"]
    notes: tuple[str, ...]


def is_port(source: SourceFile) -> bool:
    """Whether the first line is one integer and the next two lines are pairs of decimals."""
    lines = [line.split() for line in source.head.split("\n", 4)[:3]]
    if len(lines) < 3 or len(lines[0]) != 1 or not lines[0][0].isdigit():
        return False
    return all(
        len(line) == 2 and all(_number(t) is not None for t in line) and "." in "".join(line) for line in lines[1:]
    )


def is_delimited(source: SourceFile) -> bool:
    """Whether the content is Parquet, or its first line has several delimited fields: a table, not a ``port`` file."""
    first = next((line for line in source.head.splitlines() if line.strip()), "")
    return source.content[:4] == b"PAR1" or len(_fields(first, _delimiter(first))) > 1


def is_history(source: SourceFile) -> bool:
    """Whether the content is Parquet, or delimited text with dates and numbers."""
    if source.content[:4] == b"PAR1":
        return True
    lines = [line for line in source.head.splitlines() if line.strip()]
    if len(lines) < 2:
        return False
    cut = _delimiter(lines[0])
    header, first = (_fields(line, cut) for line in lines[:2])
    # one date and one number per row is a time series, not a choice of assets
    if len(header) < 3 or len(first) < 3:
        return False
    if _long_columns(header) is not None:
        return True
    # a head of 4,096 characters may cut a wide row; the cells that are there count
    cells = first[1 : len(first) - (len(lines) == 2)] or first[1:]
    return _is_date(first[0]) and not _is_date(header[0]) and all(c == "" or _number(c) is not None for c in cells)


def read_port(source: SourceFile) -> Moments:
    """Read ``N``, then N lines ``mean deviation``, then lines ``i j correlation`` (1-based).

    Raises:
        InputError: names the line and the fix.
    """
    lines = [(n, line.split()) for n, line in enumerate(source.text.splitlines(), 1) if line.strip()]
    first = lines[0][1] if lines else []
    if len(first) != 1 or not first[0].isdigit() or int(first[0]) < 1:
        raise InputError(
            source.name,
            "line 1",
            f"it must be one number, that of the assets, it is {' '.join(first)[:40]!r}",
            "write a positive integer",
        )
    size = int(first[0])
    if len(lines) < 1 + size or size > 5_000:
        raise InputError(
            source.name,
            "line 1",
            f"it announces {first[0][:20]} assets, the file has {len(lines) - 1} lines after it",
            "give one line `mean deviation` per asset",
        )
    rows = np.array(
        [_numbers(source.name, n, tokens, 2, "mean and standard deviation") for n, tokens in lines[1 : 1 + size]]
    )
    if (rows[:, 1] < 0).any():
        bad = int(np.argmax(rows[:, 1] < 0))
        raise InputError(
            source.name,
            f"line {lines[1 + bad][0]}",
            f"the deviation {rows[bad, 1]:g} is negative",
            "give standard deviations of zero or more",
        )
    correlation = np.full((size, size), np.nan)
    for n, tokens in lines[1 + size :]:
        i, j, value = _numbers(source.name, n, tokens, 3, "i, j and their correlation")
        if not (i.is_integer() and j.is_integer() and 1 <= i <= size and 1 <= j <= size):
            raise InputError(
                source.name,
                f"line {n}",
                f"the assets {tokens[0]} {tokens[1]} are not integers from 1 to {size}",
                "number the assets from 1",
            )
        a, b = int(i) - 1, int(j) - 1
        if not abs(value) <= 1 + 1e-6:
            raise InputError(
                source.name,
                f"line {n}",
                f"the correlation {tokens[2]} lies outside [-1, 1]",
                "give a correlation, not a covariance",
            )
        if a == b and abs(value - 1) > 1e-6:
            raise InputError(
                source.name, f"line {n}", f"the correlation of asset {a + 1} with itself is {tokens[2]}", "write 1"
            )
        if not abs(correlation[a, b] - value) <= 1e-9 and not math.isnan(correlation[a, b]):
            raise InputError(
                source.name,
                f"line {n}",
                f"the pair {a + 1} {b + 1} has correlation {tokens[2]} here and {correlation[a, b]:g} earlier",
                "make the matrix symmetric",
            )
        correlation[a, b] = correlation[b, a] = min(1.0, max(-1.0, value))
    np.fill_diagonal(correlation, 1.0)
    missing = np.argwhere(np.isnan(np.tril(correlation)))
    if len(missing):
        b, a = missing[0] + 1
        raise InputError(
            source.name,
            f"pair {a} {b}",
            f"its correlation is missing ({len(missing)} of {size * (size - 1) // 2} pairs are)",
            "give a line for every pair i < j",
        )
    return Moments(source.name, rows[:, 0], rows[:, 1], correlation)


def read_history(source: SourceFile) -> History:
    """Read a CSV (comma, semicolon or tab) or Parquet table, wide (dates × assets) or long (date, ticker, price).

    Raises:
        InputError: names the row or column and the fix.
    """
    import pandas as pd

    notes: list[str] = []
    frame = _parquet(source) if source.content[:4] == b"PAR1" else _csv(source)
    columns = _long_columns([str(c) for c in frame.columns])
    if columns is not None:
        date, ticker, price = columns
        frame = frame.iloc[:, [date, ticker, price]]
        frame.columns = pd.Index(["date", "ticker", "price"])
        if (blank := frame["ticker"].isna() | (frame["ticker"].astype(str).str.strip() == "")).any():
            raise InputError(source.name, f"row {int(np.argmax(blank)) + 2}", "the ticker is missing", "name the asset")
        frame["date"] = _dates(source.name, frame["date"])
        frame["price"] = _values(source.name, frame["price"], "price")
        repeated = frame.duplicated(["date", "ticker"], keep=False)
        _same_or_refuse(source.name, frame[repeated], ["date", "ticker"], notes)
        table = frame.drop_duplicates(["date", "ticker"]).pivot(index="date", columns="ticker", values="price")
        table.columns = pd.Index([str(c).strip() for c in table.columns])
    else:
        if frame.shape[1] < 2:
            raise InputError(
                source.name, "header", "it has no asset columns", "write a date column, then one per asset"
            )
        names = [str(c).strip() for c in frame.columns[1:]]
        if doubled := sorted({n for n in names if names.count(n) > 1}):
            raise InputError(
                source.name, "header", f"the column {doubled[0]!r} appears twice", "give each asset one column"
            )
        table = pd.DataFrame({n: _values(source.name, frame.iloc[:, k + 1], n) for k, n in enumerate(names)})
        table.insert(0, "\0date", _dates(source.name, frame.iloc[:, 0]))
        _same_or_refuse(source.name, table[table.duplicated("\0date", keep=False)], ["\0date"], notes)
        table = table.drop_duplicates("\0date").set_index("\0date")
    if not table.index.is_monotonic_increasing:
        notes.append("The dates were not in order and have been sorted.")
        table = table.sort_index()
    return _kind(source.name, table, notes)


def _kind(file: str, table: pd.DataFrame, notes: list[str]) -> History:
    """Tell prices from returns: prices are positive, a fifth of all returns and more is negative."""
    values = table.to_numpy()
    known = values[~np.isnan(values)]
    if not len(known):
        raise InputError(file, "values", "there is no number in the table", "give prices or returns")
    if (known < 0).mean() < 0.2:
        return History(file, table, "prices", tuple(notes))
    percent = bool(known.min() < -1.0)
    unit = "in percent" if percent else "per period"
    notes.append(f"A fifth of the values or more is negative: read as returns {unit}, not prices.")
    return History(file, table / 100.0 if percent else table, "returns", tuple(notes))


def _same_or_refuse(file: str, repeated: pd.DataFrame, keys: list[str], notes: list[str]) -> None:
    """Rows that repeat a date must agree; then all but the first go."""
    if repeated.empty:
        return
    first = repeated.sort_values(keys).iloc[0]
    where = " ".join(str(first[k].date() if k != "ticker" else first[k]) for k in keys)
    if len(repeated.drop_duplicates()) != len(repeated.drop_duplicates(keys)):
        raise InputError(
            file, f"date {where}", "it appears more than once with different values", "keep one row per date"
        )
    extra = len(repeated) - len(repeated.drop_duplicates(keys))
    notes.append(f"{extra} row(s) that repeat a date with the same values were dropped (first: {where}).")


def _csv(source: SourceFile) -> pd.DataFrame:
    import pandas as pd

    text = source.text
    header = next((line for line in text.splitlines() if line.strip()), "")
    try:
        frame = pd.read_csv(io.StringIO(text), sep=_delimiter(header), dtype=str, keep_default_na=False, header=None)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise InputError(
            source.name,
            "table",
            f"it is not a regular table ({' '.join(str(error).split())[:120]})",
            "give every row as many cells as the header",
        ) from None
    if len(frame) < 2:
        raise InputError(source.name, "table", "it has a header and no rows", "give one row per date")
    names = frame.iloc[0].astype(str).str.strip()
    return frame.iloc[1:].set_axis(names, axis=1).reset_index(drop=True)


def _parquet(source: SourceFile) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        stored = pq.read_table(pa.BufferReader(source.content))
        # damaged pages decode to anything, strings that are not UTF-8 included, and pandas trusts them
        stored.validate(full=True)
        frame = stored.to_pandas()
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, UnicodeDecodeError) as error:
        raise InputError(
            source.name, "file", f"the Parquet content is damaged ({type(error).__name__})", "write the file again"
        ) from None
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index()
    if not len(frame):
        raise InputError(source.name, "table", "it has no rows", "give one row per date")
    return frame


def _dates(file: str, column: pd.Series) -> pd.Series:
    """Dates without time of day: ISO, YYYYMM, YYYYMMDD or with the month's name; never 03/04/2020."""
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column):
        stamps = column
    else:
        text = column.astype(str).str.strip()
        stamps = pd.to_datetime(text.map(_iso), errors="coerce", format="mixed")
    if (bad := stamps.isna()).any():
        row = int(np.argmax(bad))
        raise InputError(
            file, f"row {row + 2}", f"{str(column.iloc[row])[:40]!r} is no date", "write dates as YYYY-MM-DD"
        )
    return stamps.dt.tz_localize(None).dt.normalize().astype("datetime64[ns]")


def _iso(text: str) -> str | None:
    if found := _ISO.match(text):
        return "-".join(found.groups())
    if _COMPACT.match(text):
        return f"{text[:4]}-{text[4:6]}-{text[6:] or '01'}"
    return text if _WORDS.match(text) else None


def _is_date(text: str) -> bool:
    return _iso(text) is not None


def _values(file: str, column: pd.Series, name: str) -> np.ndarray:
    """Numbers of a column; blanks are missing, anything else that is no finite number is refused."""
    import pandas as pd

    text = column.astype(str).str.strip()
    blank = column.isna() | text.str.lower().isin({"", "nan", "na", "n/a", "null", "none", "<na>"})
    if pd.api.types.is_float_dtype(column) or pd.api.types.is_integer_dtype(column):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        cells = text.where(~blank, "nan").tolist()
        values = np.array([np.nan if (v := _number(cell)) is None else v for cell in cells])
    bad = (np.isnan(values) & ~blank.to_numpy()) | (np.abs(np.nan_to_num(values, posinf=np.inf)) > LARGEST)
    if bad.any():
        row = int(np.argmax(bad))
        problem = "is no number" if np.isnan(values[row]) else "is too large"
        raise InputError(
            file,
            f"row {row + 2}, column {name}",
            f"{text.iloc[row][:40]!r} {problem}",
            "write plain decimal numbers, and leave missing values blank",
        )
    return values


def _long_columns(header: list[str]) -> tuple[int, int, int] | None:
    """Positions of date, ticker and price in the header of a long table, or ``None``."""
    names = [h.strip().lower() for h in header]
    date = next((k for k, n in enumerate(names) if n and n in _DATE_NAMES), None)
    ticker = next((k for k, n in enumerate(names) if n in _TICKER_NAMES), None)
    price = next((names.index(p) for p in _PRICE_NAMES if p in names), None)
    return None if date is None or ticker is None or price is None else (date, ticker, price)


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


def _fields(line: str, delimiter: str) -> list[str]:
    return [field.strip().strip('"') for field in line.split(delimiter)]


def _number(text: str) -> float | None:
    try:
        # Python also reads 1_000, which nobody means in a table
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _numbers(file: str, line: int, tokens: list[str], count: int, what: str) -> list[float]:
    values = [_number(t) for t in tokens]
    if len(tokens) != count or any(v is None for v in values):
        raise InputError(
            file, f"line {line}", f"it must hold {what}, it is {' '.join(tokens)[:60]!r}", f"write {count} numbers"
        )
    finite = [v for v in values if v is not None]
    if not all(math.isfinite(v) and abs(v) <= LARGEST for v in finite):
        raise InputError(
            file, f"line {line}", f"{' '.join(tokens)[:60]!r} is not finite or too large", "give plain decimal numbers"
        )
    return finite
