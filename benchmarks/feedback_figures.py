"""From runs with labels to figures: gains, shares of the true gain, intervals over seeds, a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from main_job import write_csv
from matplotlib.figure import Figure

FIELDS = ("figure", "value", "low", "high", "unit", "runs")
RUN_FIELDS = (
    "variant",
    "seed",
    "before",
    "after",
    "satisfaction_before",
    "satisfaction_after",
    "labels",
    "seconds",
)
RESAMPLES = 10_000


def figures(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Gain over the warm start, share of the true reward's gain; 95% bootstrap intervals over seeds.

    A seed that was run more than once (rounding differs among machines, and a run goes its own way then)
    counts by the mean of its runs.
    """
    runs: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        runs.setdefault((row["variant"], row["seed"]), []).append(row["after"] - row["before"])
    gains = {key: float(np.mean(values)) for key, values in runs.items()}
    found: list[dict[str, Any]] = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        seeds = [seed for name, seed in gains if name == variant]
        gain = np.array([gains[variant, seed] for seed in seeds])
        found.append(interval(f"{variant}_gain", gain, np.ones(len(gain)), "accuracy"))
        both = [seed for seed in seeds if ("true", seed) in gains]
        if variant != "true" and both:
            true = np.array([gains["true", seed] for seed in both])
            own = np.array([gains[variant, seed] for seed in both])
            found.append(interval(f"{variant}_share_of_gain", own, true, "share"))
    return found


def interval(name: str, numerator: Any, denominator: Any, unit: str) -> dict[str, Any]:
    """A ratio of means with its percentile bootstrap interval; seeds are drawn with replacement."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(numerator), size=(RESAMPLES, len(numerator)))
    ratios = numerator[drawn].mean(1) / denominator[drawn].mean(1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    value = numerator.mean() / denominator.mean()
    return dict(zip(FIELDS, (name, float(value), float(low), float(high), unit, len(numerator)), strict=True))


def write(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write figures, runs and picture."""
    found = figures(rows)
    write_csv(str(out), FIELDS, found)
    write_csv(str(out.with_name(f"{out.stem}_runs.csv")), RUN_FIELDS, rows)
    picture([figure for figure in found if figure["unit"] == "accuracy"]).savefig(
        out.with_suffix(".png"), dpi=120
    )


def picture(gains: Sequence[Mapping[str, Any]]) -> Figure:
    """The gain of each variant with its interval."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    names = [gain["figure"].removesuffix("_gain") for gain in gains]
    value = np.array([gain["value"] for gain in gains])
    ends = np.abs(np.array([[gain["low"], gain["high"]] for gain in gains]).T - value)
    axes.barh(names, value, xerr=ends, color="0.7", capsize=3)
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("gain in accuracy on test questions over the warm start (95% interval over seeds)")
    axes.set_title("Simulated annotators", fontsize=9)
    return figure
