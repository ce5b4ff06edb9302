"""A problem family in one file: split whole numbers into two piles with the smallest difference."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from hybrid_assets.problems.base import Evaluation, FamilyOptions, Instance
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.problems.unconstrained import Quadratic, UnconstrainedFamily
from resources.failures import InputError


class NumberPartition(UnconstrainedFamily):
    """Bit i is the pile of number i. Format: one whole number per line."""

    name, version, title, form = "numberpartition", "1", "number partitioning", "squared difference of the piles"

    def recognises(self, source: SourceFile) -> bool:
        return bool(source.head) and all(line.strip().isdigit() for line in source.head.splitlines())

    def read(self, source: SourceFile) -> Sequence[list[int]]:
        for place, line in enumerate(source.text.splitlines(), start=1):
            if not (line.strip().isdigit() and 0 < int(line) < 1_000_000):
                raise InputError(source.name, f"line {place}", f"{line[:40]!r} is no number", "write 1 to 999999")
        return [[int(line) for line in source.text.splitlines()]]

    def normalize(self, raw: list[int], options: FamilyOptions, name: str) -> Instance:
        labels = tuple(str(number) for number in raw)
        return Instance(self.name, name, len(raw), "min", {"numbers": np.array(raw)}, options.model_dump(), labels)

    def minimized(self, instance: Instance) -> Quadratic:
        a = instance.arrays["numbers"].astype(float)  # (sum of a_i (2 x_i - 1)) squared, over bits
        rows, cols = np.triu_indices(len(a), 1)
        return Quadratic(4 * a * (a - a.sum()), rows, cols, 8 * a[rows] * a[cols], a.sum() ** 2)

    def evaluate(self, instance: Instance, values: np.ndarray) -> Evaluation:
        return Evaluation(float(instance.arrays["numbers"] @ (2 * np.asarray(values) - 1)) ** 2)

    def plot_instance(self, instance: Instance) -> Figure:
        return self.plot_solution(instance, {"undivided": np.zeros(instance.size)})

    def plot_solution(self, instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
        figure = Figure(figsize=(5, 3), layout="constrained")
        axes = figure.subplots()
        for label, piles in solutions.items():
            for pile in (0, 1):
                axes.barh(f"{label}, pile {pile}", instance.arrays["numbers"][piles == pile].sum())
        return figure
