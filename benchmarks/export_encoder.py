"""Makes a finished run's encoder the environment's default one: `python benchmarks/export_encoder.py RUN`.

Writes ``encoder.safetensors`` and ``vocabulary.json``, which belong together, to ``qa_env/assets``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import Positional, arg

from agents.commands import parse, run_command
from agents.loading import LoadedRun, load_policy
from agents.runs import Run
from qa_env.encoders import ASSETS, LSTMEncoder
from qa_env.errors import QAError
from qa_env.vocabulary import Vocabulary

LARGEST = 4_000_000
"""Bytes that both files may have together: they travel in the wheel."""
NAMES = ("encoder.safetensors", "vocabulary.json")


@dataclass(frozen=True)
class ExportCommand:
    """Copy a finished run's encoder and vocabulary into the package."""

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """The run's folder."""
    out: str = str(ASSETS)
    """The folder to write to."""


def main(arguments: Sequence[str]) -> None:
    """Write both files next to their places, check them, and only then put them there."""
    command = parse(ExportCommand, arguments, prog="python benchmarks/export_encoder.py")
    run = Run.open(command.run)
    if not run.has("results.json"):
        raise QAError(f"{run.folder} is not finished; go on with: python train.py --resume {run.folder}")
    loaded = load_policy(run)
    out = Path(command.out)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        written = [Path(folder) / name for name in NAMES]
        loaded.policy.lm.encoder.save(written[0])
        loaded.vocabulary.save(written[1])
        check(loaded, *written)
        for path in written:
            path.chmod(0o644)  # safetensors makes files that only their owner can read
            os.replace(path, out / path.name)
    for name in NAMES:
        print(f"{out / name}: {(out / name).stat().st_size:,} bytes")


def check(loaded: LoadedRun, encoder: Path, vocabulary: Path) -> None:
    """Read the files back and compare them with the run.

    Raises:
        QAError: If they are too large or not the same.
    """
    size = encoder.stat().st_size + vocabulary.stat().st_size
    if size > LARGEST:
        raise QAError(
            f"encoder and vocabulary have {size:,} bytes, more than {LARGEST:,}: train a smaller one"
        )
    if Vocabulary.load(vocabulary).fingerprint != loaded.vocabulary.fingerprint:
        raise QAError("the vocabulary changed on its way through the file")
    ids = np.array([loaded.vocabulary.encode("What is the capital of Japan?")], dtype=np.int64)
    if not np.array_equal(LSTMEncoder.load(encoder).encode(ids), loaded.policy.lm.encoder.encode(ids)):
        raise QAError("the encoder changed on its way through the file")


if __name__ == "__main__":
    run_command(main)
