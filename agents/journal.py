"""What a run took in from the feedback store, and when: so that it does the same if it has to go back."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from qa_env.errors import QAError


class Taken(NamedTuple):
    """What was taken in at the end of a rollout.

    Attributes:
        rollout: Its number; 0 is before training.
        cursor: The number of the last event that was read.
        people: The state of the simulated annotators behind it, or None.
    """

    rollout: int
    cursor: int
    people: dict[str, Any] | None


class Journal:
    """A file with a line for each time that labels were taken in.

    Labels come when people like. A run that was killed goes on from a checkpoint, and by then there are
    labels that it had not yet when it was there first: the journal tells how far it read.

    Args:
        path: The file, which need not exist; None keeps nothing.

    Raises:
        QAError: If it holds something else.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._before: dict[int, Taken] = {}
        if path is not None and path.exists():
            whole, _, torn = path.read_bytes().rpartition(b"\n")
            if torn:  # the process was killed while it wrote
                os.truncate(path, len(whole) + 1 if whole else 0)
            try:
                lines = [Taken(**json.loads(line)) for line in whole.splitlines()]
            except (ValueError, TypeError):
                raise QAError(
                    f"{path} is no journal of labels taken in: put the run's own file back"
                ) from None
            self._before = {taken.rollout: taken for taken in lines}

    def before(self, rollout: int) -> Taken | None:
        """What was taken in at this place before the run went back; once."""
        return self._before.pop(rollout, None)

    def add(self, taken: Taken) -> None:
        """Write a line; it is on the disk when this returns."""
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(taken._asdict()) + "\n")
                file.flush()
                os.fsync(file.fileno())
