"""The fault figures in small: what `make faults` shows with 1,000 jobs and 50 kills."""

from pathlib import Path

from tests.faults.figures import run


def test_nothing_is_lost_doubled_open_or_unexplained(tmp_path: Path) -> None:
    figures = run(tmp_path, jobs=40, kills=5, seed=3, patience=240)
    assert figures["kills"] >= 5
    assert (figures["lost"], figures["duplicated"], figures["unexplained"]) == (0, 0, 0), figures
    assert figures["terminal"] == 40
    assert figures["audit"] == []
    assert figures["executed"] > 0
