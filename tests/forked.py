"""Processes to be killed, or to compete: forked from one that has imported everything, they start at once."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

processes = multiprocessing.get_context("forkserver")


@functools.cache
def _server() -> None:
    """Start the process that the others are forked from."""
    processes.set_forkserver_preload(["pytest", "psycopg", "store_processes", "trainer_process"])
    with pytest.MonkeyPatch.context() as patch:
        folder = Path(__file__).parent
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (folder, folder.parent))))
        forkserver.ensure_running()


def start(target: Callable[..., None], *arguments: object) -> tuple[BaseProcess, Connection]:
    """A process, and what it sends through the connection that is its last argument."""
    _server()
    here, there = processes.Pipe(duplex=False)
    process = processes.Process(target=target, args=(*arguments, there), daemon=True)
    process.start()
    there.close()
    return process, here
