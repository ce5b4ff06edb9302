"""The report page: what it says is what the marts say, and it stays small and whole however much there is."""

from __future__ import annotations

from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hybrid_assets import report
from hybrid_assets.problems.base import Instance
from resources.artifacts import ArtifactStore
from tests.rows import NOW, rows

#: A square: both diagonals' ends apart cut all four edges.
SQUARE = Instance(
    "maxcut", "square", 4, "max",
    {"rows": np.array([0, 1, 2, 0]), "cols": np.array([1, 2, 3, 3]), "values": np.ones(4)},
)  # fmt: skip
MART = {"is_current": True, "pending": False}


class Page(HTMLParser):
    """Cells of the first table, tags of state, pictures, and the ids that headings have."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.pictures: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._cell = True
            self.rows[-1].append("")
        if tag == "img":
            self.pictures.append(found["src"] or "")
        if tag == "span":
            self.tags.append(found["class"] or "")
        if tag == "h2":
            self.ids.append(found["id"] or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell:
            self.rows[-1][-1] += data.strip()


def frames(instances: dict[str, dict[str, Any]]) -> dict[str, pd.DataFrame]:
    """Marts with one row per instance; the changes go into whichever marts have the column."""
    found: dict[str, list[dict[str, Any]]] = {
        mart: [] for mart in ("leaderboard", "decisions", "comparisons", "baselines", "lineage")
    }
    for key, changed in instances.items():
        decided = {**rows("decisions", key)[0], **MART}
        decided["solution"] = decided.pop("values")
        compared = {**rows("baseline_comparisons", key)[0], **MART}
        baseline = {**rows("baseline_runs", key)[0], **MART}
        baseline["solution"] = baseline.pop("values")
        board = {
            **compared, **decided, "size": 4, "evidence_class": compared["quantum_evidence_class"], "narrowed": False,
        }  # fmt: skip
        origin = {"instance": key, "noise_dominated": False, "cached": False, "fallback_reason": None}
        for mart, row in (
            ("leaderboard", board), ("decisions", decided), ("comparisons", compared), ("baselines", baseline),
            ("lineage", origin),
        ):  # fmt: skip
            found[mart].append(row | {k: v for k, v in changed.items() if k in row})
    return {mart: pd.DataFrame(made) for mart, made in found.items()}


def write(tmp_path: Path, marts: dict[str, pd.DataFrame]) -> Page:
    store = ArtifactStore(tmp_path / "artifacts")
    keys = marts["leaderboard"]["instance"]
    inputs = pd.DataFrame({"instance": keys, "payload_ref": store.put(SQUARE.to_bytes())})
    path = tmp_path / "report" / "index.html"
    size = report.write_report(path, marts, store, inputs)
    text = path.read_text(encoding="utf-8")
    assert size == path.stat().st_size == len(text.encode())
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]
    return Page(text)


def test_the_table_holds_the_marts_numbers(tmp_path: Path) -> None:
    page = write(tmp_path, frames({
        "maxcut.a": {"best_quantum": 3.25, "quantum_gap": 0.1875, "winner": "classical", "decision": "fallback"},
        "maxcut.b": {"best_known": None, "bound": 4.5},
    }))  # fmt: skip
    header, first, second = page.rows[:3]
    titles = list(report.COLUMNS.values())
    assert header == titles
    a, b = dict(zip(titles, first, strict=True)), dict(zip(titles, second, strict=True))
    assert (a["instance"], a["best quantum"], a["quantum gap"], a["winner"]) == (
        "maxcut.a", "3.25", "18.750 %", "classical"
    )  # fmt: skip
    assert (b["best known"], b["proven bound"], b["winner"]) == ("–", "4.5", "tie")
    assert "classical solvers were better on 1 of 2 instances, the quantum side on 0, and 1 ended level" in page.text
    assert page.ids == ["maxcut.a", "maxcut.b"]
    # the chart, and for each instance its solution and its baselines
    assert len(page.pictures) == 5


def test_evidence_is_labelled_and_backends_that_were_left_are_named(tmp_path: Path) -> None:
    page = write(tmp_path, frames({
        "maxcut.a": {"noise_dominated": True, "cached": True, "fallback_reason": "qpu to aer: it is away (backend)"},
        "maxcut.b": {"noise_dominated": True, "source": "classical"},
        "maxcut.c": {},
        "maxcut.d": {"noise_dominated": True, "quantum_evidence_class": None, "evidence_class": None},
    }))  # fmt: skip
    evidence = list(report.COLUMNS).index("evidence_class")
    labelled = "simulator, noise-dominated, cached"
    assert [row[evidence] for row in page.rows[1:5]] == [labelled, "simulator, noise-dominated", "simulator", "–"]
    facts = [tuple(row) for row in page.rows[5:]]
    # a classical answer has nothing of the noise
    assert [value for name, value in facts if name == "evidence class"] == [labelled, "simulator", "simulator", "None"]
    assert [value for name, value in facts if name == "backends left"] == ["qpu to aer: it is away (backend)"]


def test_nothing_is_fetched_from_elsewhere(tmp_path: Path) -> None:
    page = write(tmp_path, frames({"maxcut.a": {}}))
    assert page.pictures
    assert all(source.startswith("data:image/png;base64,") for source in page.pictures)


def test_outdated_and_pending_rows_count_for_nobody(tmp_path: Path) -> None:
    page = write(tmp_path, frames({
        "maxcut.old": {"is_current": False, "winner": "quantum"},
        "maxcut.waits": {"is_current": False, "pending": True, "winner": "quantum"},
        "maxcut.now": {},
    }))  # fmt: skip
    assert {"tag outdated", "tag pending", "tag tie"} == set(page.tags)
    assert "classical solvers were better on 0 of 1 instances, the quantum side on 0, and 1 ended level" in page.text
    # no solution is drawn over an input that it does not answer: the chart, three baselines, one solution
    assert len(page.pictures) == 1 + 3 + 1


def test_without_feasible_answer(tmp_path: Path) -> None:
    none = {"solution": None, "objective": None, "best_quantum": None, "winner": None, "decision": "review",
            "gap": None, "quantum_gap": None, "quantum_lift": None, "confidence": None}  # fmt: skip
    page = write(tmp_path, frames({"maxcut.a": none, "maxcut.b": {}}))
    assert page.rows[1][2] == "–"
    assert "tag none" in page.tags
    assert len(page.pictures) == 1 + 1 + 2


def test_only_the_newest_get_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PICTURED", 2)
    page = write(tmp_path, frames({f"maxcut.i{n}": {"decided_at": NOW + timedelta(hours=n)} for n in range(4)}))
    assert page.ids == ["maxcut.i2", "maxcut.i3"]
    assert [row[0] for row in page.rows[1:5]] == [f"maxcut.i{n}" for n in range(4)]
    assert "the other 2 are in the table" in " ".join(page.text.split())


def test_text_of_users_is_escaped(tmp_path: Path) -> None:
    page = write(tmp_path, frames({"maxcut.a": {"reason": "<script>alert(1)</script>"}}))
    assert "<script>alert(1)</script>" in page.text


def test_an_empty_platform_has_a_page(tmp_path: Path) -> None:
    marts = {name: frame.iloc[:0] for name, frame in frames({"maxcut.a": {}}).items()}
    page = write(tmp_path, marts)
    assert "Nothing has been answered yet." in page.text
    assert page.pictures == []
