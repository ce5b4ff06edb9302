"""What the ``hybrid`` command prints: progress on stderr, tables on stdout.

Here: rich tables and number formats. Not here: arguments and exit codes (``cli``) or the work (``session``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

if TYPE_CHECKING:
    from hybrid_assets.session import Session


def _console(**options: Any) -> Console:
    """Text as it is: what people write (a reason, a file's name) may look like rich's own mark-up."""
    return Console(markup=False, emoji=False, **options)


err = _console(stderr=True, soft_wrap=True, highlight=False)


def say(text: str) -> None:
    """A line on stdout."""
    _console(soft_wrap=True, highlight=False).print(text)


def show(table: Table) -> None:
    """A table on stdout in its own width: a narrow window or a pipe must not fold keys and numbers."""
    wide = _console(width=400)
    _console(width=Measurement.get(wide, wide.options, table).maximum).print(table)


#: Parts of a solution that are printed.
SHOWN = 40


class Steps:
    """Progress of one instance on stderr: the stage that runs, then how long each took."""

    def __init__(self) -> None:
        self.title = ""

    def __call__(self, kind: str, text: str) -> None:
        """Print one step."""
        if kind == "title":
            self.title = text
        elif kind == "start":
            err.print(f"  {self.title}: {text} …", style="dim")
        elif kind == "done":
            stage, _, seconds = text.rpartition(" ")
            err.print(f"  {self.title}: {stage} done in {seconds} s", style="dim")
        elif kind == "note":
            err.print(f"    {text}", style="dim")


def show_answer(document: dict[str, Any]) -> None:
    """The decision about one instance."""
    table = Table(title=f"{document['instance']}: {document['decision']}", show_header=False)
    for name in (
        "reason",
        "objective",
        "sense",
        "feasible",
        "source",
        "evidence_class",
        "post_processing",
        "backend",
        "confidence",
        "best_quantum",
        "best_random",
        "best_classical",
        "best_classical_solver",
        "best_known",
        "bound",
        "gap",
        "correlation_id",
    ):
        table.add_row(name, _text(document[name]))
    for phase, seconds in document["seconds"].items():
        table.add_row(f"seconds: {phase}", f"{seconds:.2f}")
    show(table)
    named = document["told"]
    if named:
        more = f" … ({len(named) - SHOWN} more, all of them with --json)" if len(named) > SHOWN else ""
        say("solution: " + ", ".join(named[:SHOWN]) + more)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.8g}" if isinstance(value, float) else str(value)


def show_leaderboard(session: Session) -> None:
    """Who won on every instance, from the published warehouse."""
    from resources.warehouse import query

    frame = query(
        session.home.warehouse,
        """
        select instance, family, size, best_quantum, best_classical, best_known, quantum_gap, classical_gap,
               evidence_class, confidence, decision, source, seconds
        from leaderboard where is_current order by family, instance
        """,
    )
    table = Table(
        title="leaderboard",
        caption="gaps are to the best known, proven or found objective: 0 is as good; evidence class and confidence "
        "are those of the best quantum candidate and of the answer",
    )
    for name in frame.columns:
        table.add_column(
            name.replace("_", " "),
            no_wrap=True,
            justify="left" if frame[name].dtype == object else "right",
        )
    for row in frame.itertuples(index=False):
        table.add_row(*[_cell(name, value) for name, value in zip(frame.columns, row, strict=True)])
    show(table)


def _cell(name: str, value: Any) -> str:
    if value is None or value != value:
        return "–"
    if name.endswith("_gap"):
        return f"{100 * value:.3f} %"
    if name in ("confidence", "seconds"):
        return f"{value:.2f}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
