"""Tables and pictures of the quality benchmark. The only place where best known values meet objectives.

Here: gaps, medians, wins against the best baseline, Markdown, the plot of gap against time, the frozen-replay table.
Not here: runs (``quality_runs``).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.quality_instances import Entry
from benchmarks.quality_runs import Run
from hybrid_assets.evidence.gaps import Sense, better, gap, loss, same
from hybrid_assets.problems.base import Instance, ProblemFamily
from hybrid_assets.proposals.replay import Interval, Row


@dataclass(frozen=True)
class Subject:
    """An instance with its runs, and what gaps need."""

    entry: Entry
    family: str
    size: int
    sense: Sense
    kind: str
    tolerance: float
    random_mean: float | None
    runs: Sequence[Run]

    @classmethod
    def of(
        cls, entry: Entry, family: ProblemFamily, instance: Instance, mean: float | None, runs: Sequence[Run]
    ) -> Subject:
        return cls(
            entry, family.name, instance.size, instance.sense, family.gap_kind, family.tolerance, mean, tuple(runs)
        )

    def gap(self, objective: float | None) -> float:
        """Percent behind the best known value; the plain difference where that is zero; infinite without an answer."""
        best = self.entry.best_known
        if objective is None:
            return math.inf
        if best is None:
            return math.nan
        if best == 0 and self.kind == "relative":
            return loss(objective, best, self.sense)
        if same(objective, best, self.tolerance):
            return 0.0
        found = gap(
            objective, best, self.sense, "normalized" if self.kind == "normalized" else "relative", self.random_mean
        )
        return math.nan if found is None else 100 * found

    def of_name(self, budget: str, name: str | None = None) -> list[Run]:
        return [run for run in self.runs if run.budget == budget and name in (None, run.name)]

    def names(self, budget: str) -> list[str]:
        return list(dict.fromkeys(run.name for run in self.of_name(budget)))

    def median(self, runs: Sequence[Run]) -> float:
        return statistics.median(self.gap(run.objective) for run in runs)

    @property
    def best_baseline(self) -> str | None:
        """The baseline with the lowest median gap; the earlier one among equals."""
        names = self.names("baseline")
        return min(names, key=lambda name: self.median(self.of_name("baseline", name))) if names else None

    def against(self, runs: Sequence[Run], baseline: str | None) -> str:
        """Wins/ties/losses against a baseline, paired by seed."""
        if baseline is None:
            return ""
        others = {run.seed: run.objective for run in self.of_name("baseline", baseline)}
        won = tied = lost = 0
        for run in runs:
            ours, theirs = run.objective, others[run.seed]
            if (ours is None and theirs is None) or (
                ours is not None and theirs is not None and same(ours, theirs, self.tolerance)
            ):
                tied += 1
            elif theirs is None or (ours is not None and better(ours, theirs, self.sense, self.tolerance)):
                won += 1
            else:
                lost += 1
        return f"{won}/{tied}/{lost}"


def _percent(value: float) -> str:
    if math.isnan(value):
        return "n/a"
    return "none" if math.isinf(value) else "0" if value == 0 else f"{value:.3f}"


def conditions(runs: Iterable[Run]) -> str:
    """Under what load these runs were made."""
    found = list(runs)
    loads, cores = [run.load for run in found], [run.core for run in found]
    return (
        f"load {min(loads):.1f} to {max(loads):.1f}; processor time by clock: median {statistics.median(cores):.2f}, "
        f"lowest {min(cores):.2f}"
    )


def accepted(subjects: Sequence[Subject], seconds: float, seeds: int) -> str:
    """The accepted answer of the budget ``portfolio``, beside the best baseline with the whole budget to itself."""
    lines = [
        f"Budget `portfolio`: {seconds:g} s for everything together, one thread; {seeds} seeds; gaps in percent, "
        "median and worst; wins/ties/losses paired by seed against the best baseline with all those seconds to itself.",
        "",
        "| instance | n | best known | accepted | gap | worst | proven | best baseline | its gap | w/t/l | seconds | "
        "by | evidence | post-processing |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for subject in subjects:
        runs, best = subject.of_name("portfolio"), subject.best_baseline
        gaps = [subject.gap(run.objective) for run in runs]
        found = [run.objective for run in runs if run.objective is not None]
        cells = [
            subject.entry.name,
            str(subject.size),
            "" if subject.entry.best_known is None else f"{subject.entry.best_known:.10g}",
            f"{statistics.median_low(found):.10g}" if found else "none",
            _percent(statistics.median(gaps)),
            _percent(max(gaps)),
            f"{sum(run.ended == 'optimal' for run in runs)} of {len(runs)}",
            best or "",
            "" if best is None else _percent(subject.median(subject.of_name("baseline", best))),
            subject.against(runs, best),
            f"{statistics.median(run.seconds for run in runs):.1f}",
            _most(str(run.spent["by"]) for run in runs),
            _most(run.evidence_class for run in runs),
            _most(run.post_processing for run in runs),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    gaps = [subject.gap(run.objective) for subject in subjects for run in subject.of_name("portfolio")]
    known = [value for value in gaps if not math.isnan(value)]
    lines += [
        "",
        f"{sum(value <= 0 for value in known)} of {len(known)} runs at the best known value, worst "
        f"{_percent(max(known, default=math.nan))}; longest {max(_longest(subject) for subject in subjects):.1f} s; "
        + conditions(run for subject in subjects for run in subject.of_name("portfolio"))
        + ".",
    ]
    return "\n".join(lines)


def _longest(subject: Subject) -> float:
    return max(run.seconds for run in subject.of_name("portfolio"))


def _most(words: Iterable[str]) -> str:
    return statistics.mode(words)


def alone(subjects: Sequence[Subject], seconds: float, seeds: int) -> str:
    """Each arm and each baseline with the whole budget to itself."""
    with_arms = [subject for subject in subjects if subject.of_name("arm")]
    if not with_arms:
        return ""
    names = list(dict.fromkeys(name for subject in with_arms for name in subject.names("arm")))
    lines = [
        f"Budget `arm`: {seconds:g} s on one thread for one arm, each with a walk and a bandit of its own; {seeds} "
        "seeds; median gap in percent (wins/ties/losses against the best baseline of the table above).",
        "",
        "| instance | " + " | ".join(names) + " | baselines |",
        "|---" * (len(names) + 2) + "|",
    ]
    for subject in with_arms:
        best = subject.best_baseline
        cells = []
        for name in names:
            found = subject.of_name("arm", name)
            record = subject.against(found, best)
            cells.append(_percent(subject.median(found)) + (f" ({record})" if record else ""))
        baselines = ", ".join(
            f"{name} {_percent(subject.median(subject.of_name('baseline', name)))}"
            for name in subject.names("baseline")
        )
        lines.append(f"| {subject.entry.name} | " + " | ".join([*cells, baselines]) + " |")
    runs = [run for subject in with_arms for run in subject.of_name("arm")]
    return "\n".join([*lines, "", conditions(runs).capitalize() + "."])


def replay_table(name: str, rows: Sequence[Row], blocks: int) -> str:
    """The frozen-replay table of one instance."""

    def cell(value: Interval, scale: float = 1.0) -> str:
        if math.isnan(value.value):
            return ""
        return f"{scale * value.value:.3g} [{scale * value.low:.3g}, {scale * value.high:.3g}]"

    lines = [
        f"Frozen replay on {name}, {blocks} blocks; 95 % bootstrap intervals over blocks. Seconds of a simulator are a "
        "cost of simulation.",
        "",
        "| arm | evidence | improving blocks | improving proposals, % | per shot | per 1,000 evaluations | per second "
        "| mean best ΔE |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            row.arm,
            row.evidence_class.value,
            f"{row.improving} of {row.blocks}",
            cell(row.per_proposal, 100),
            cell(row.per_shot),
            cell(row.per_evaluation, 1000),
            cell(row.per_second),
            cell(row.best),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(subjects: Sequence[Subject], seconds: float, path: Path) -> None:
    """Median gap against time, one panel per instance: the portfolio black, baselines grey, arms coloured."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = min(3, len(subjects))
    rows = -(-len(subjects) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(6 * columns, 3.6 * rows), squeeze=False, layout="constrained"
    )
    times = np.geomspace(seconds / 300, seconds, 120)
    arms = list(dict.fromkeys(name.removesuffix("+polish") for s in subjects for name in s.names("arm")))
    colour = {arm: f"C{k}" for k, arm in enumerate(arms)}
    for subject, axis in zip(subjects, axes.flat, strict=False):
        for budget in ("baseline", "arm", "portfolio"):
            for name in subject.names(budget):
                runs = subject.of_name(budget, name)
                style: Mapping[str, object] = {"color": "black", "linewidth": 2}
                if budget == "baseline":
                    style = {"color": "0.7", "linewidth": 1}
                elif budget == "arm":
                    arm = name.removesuffix("+polish")
                    style = {"color": colour[arm], "linewidth": 1.2, "linestyle": "-" if arm == name else "--"}
                label = "baselines" if budget == "baseline" else name
                axis.plot(times, _medians(subject, runs, times), label=label, drawstyle="steps-post", **style)
        axis.set_xscale("log")
        axis.set_yscale("symlog", linthresh=0.01)
        axis.set_ylim(bottom=-0.001)
        axis.set_title(subject.entry.name)
        axis.set_xlabel("seconds")
        axis.set_ylabel("gap in percent")
    for axis in axes.flat[len(subjects) :]:
        axis.set_visible(False)
    handles = {label: h for axis in axes.flat for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=7, fontsize=8)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _medians(subject: Subject, runs: Sequence[Run], times: np.ndarray) -> np.ndarray:
    """Median over the runs of the gap at each time; nan while half of them have no answer."""
    table = np.full((len(runs), len(times)), math.inf)
    for row, run in zip(table, runs, strict=True):
        for at, objective in run.trajectory:
            row[times >= at] = subject.gap(objective)
    median = np.median(table, axis=0)
    return np.where(np.isfinite(median), median, math.nan)
