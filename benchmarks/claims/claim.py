"""A claim: its threshold, the cells it is measured in, and how their results are judged."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Verdict:
    value: float  # what is held against the threshold
    passed: bool | None  # None: reported only
    spread: tuple = ()  # lowest and highest over the seeds, where training is random
    seeds: int = 0  # 0: nothing is random
    rows: tuple = ()  # a table: its head, then its rows
    plots: tuple = ()  # (name of the file, SVG)
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Claim:
    id: str
    title: str
    threshold: str  # as SPEC says it; smoke: the smaller case that is asked for
    unit: str
    cells: object  # cells(budget) -> list of Cell
    judge: object  # judge(budget, results by name of cell) -> Verdict
    smoke: str = ""  # what the smoke budget asks instead
    target: bool = False  # reported whether reached or not; does not fail the run


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def slope(points):
    """Least squares of log y over log x."""
    import math
    logs = [(math.log(x), math.log(y)) for x, y in points]
    x, y = mean(a for a, _ in logs), mean(b for _, b in logs)
    return (sum((a - x) * (b - y) for a, b in logs) / sum((a - x) ** 2 for a, _ in logs))
