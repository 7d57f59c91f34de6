"""Draw results, the same picture from the same figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.results import Results

_OURS, _OTHER = "#0b6e99", "#b5b5b5"
_SHADES = ("#0b6e99", "#7fb8d0", "#b5b5b5")


def draw(results: Results, folder: Path) -> None:
    """Write a plot as PNG and SVG."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    failed, late, cpu, sockets = figure.subplots(2, 2).flat
    limited = results.lateness.get("limit-100", [])
    _bars(
        failed,
        "Tasks failed, of 100 runs on one key",
        [(each.contender, 100 * each.failed / each.count) for each in limited],
        "{:.0f} %",
    )
    _steps(late, results)
    loads = [each for each in results.loads.get("load-1000", []) if each.polls]
    _bars(
        cpu,
        "CPU time per poll, 1,000 waiting",
        [(each.contender, each.cpu_per_poll * 1e6) for each in loads],
        "{:.0f} µs",
    )
    _bars(
        sockets,
        "Sockets at once, 1,000 waiting",
        [(each.contender, each.sockets) for each in loads],
        "{:.0f}",
    )
    with mpl.rc_context({"svg.hashsalt": "agentruns"}):
        figure.savefig(folder / "benchmark.svg", metadata={"Date": None})
        figure.savefig(folder / "benchmark.png", dpi=150, metadata={"Software": None})


def _bars(axes: Axes, title: str, values: Sequence[tuple[str, float]], unit: str) -> None:
    axes.set_title(title, fontsize=11)
    names, heights = [name for name, _ in values], [height for _, height in values]
    bars = axes.bar(names, heights, color=[_OURS if name == "ours" else _OTHER for name in names])
    axes.bar_label(bars, [unit.format(height) for height in heights], fontsize=9)
    axes.margins(y=0.15)
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)


def _steps(axes: Axes, results: Results) -> None:
    axes.set_title("Ends seen within …, 99 runs of three kinds", fontsize=11)
    lines = {
        f"ours, {name}": late.lateness
        for batch, name in enumerate(("nothing known", "after one batch"))
        if (late := results.late("three-kinds", "ours", batch))
    }
    if not lines:
        axes.set_axis_off()
        return
    lines["ideal round robin"], *_ = results.ideal["three-kinds"]
    for (name, lateness), color in zip(lines.items(), _SHADES, strict=False):
        shares = [100 * (number + 1) / len(lateness) for number in range(len(lateness))]
        axes.step(lateness, shares, where="post", label=name, color=color)
    axes.legend(frameon=False, loc="lower right")
    axes.set_xlabel("seconds")
    axes.set_ylabel("% of runs")
    axes.spines[["top", "right"]].set_visible(False)
