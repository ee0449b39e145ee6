"""A process that trains, to be killed."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection

import torch

import agents.data
import agents.reports
import train
from agents.commands import run_command

torch.set_num_threads(1)

QUICKER = {(agents.reports, "MAPS"): 0, (agents.data, "FLUENCY_SENTENCES"): 40}
"""What takes most of a tiny run's time and changes nothing in the rest of it: drawing attention maps, and
fitting the model of well-worded sentences to thousands of them."""


def train_quickly(arguments: Sequence[str], begun: Connection) -> None:
    """Call `train.py`; send word before."""
    for (module, name), value in QUICKER.items():
        setattr(module, name, value)
    sys.argv = ["train.py", *arguments]
    begun.send("begun")
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        run_command(train.main)
