"""What TensorBoard was told by a run, read back for figures and pictures."""

from __future__ import annotations

from collections.abc import Mapping

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.runs import Run


def scalars(run: Run, tag: str) -> dict[int, float]:
    """The values under a tag by the number of tokens written; the last value of each."""
    found: dict[int, float] = {}
    for path in sorted(run.folder.glob("events*")):
        events = EventAccumulator(str(path)).Reload()
        if tag in events.Tags()["scalars"]:
            found |= {event.step: event.value for event in events.Scalars(tag)}
    return found


def latest(series: Mapping[int, float], step: int) -> float:
    """The value at a step or before it; NaN if there is none."""
    known = [at for at in series if at <= step]
    return series[max(known)] if known else float("nan")
