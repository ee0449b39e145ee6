"""A checkpoint: what a run needs to go on as if there had been no break; written whole or not at all.

====================== ============================================================
state.json             counters, generators, the state of all parts
arrays.npz             the arrays of that state: the environment's lanes, good answers
policy.safetensors     the policy, critic included
optimizer.pt           its optimizer, that of self-imitation, the last good policy
reward_model-N.safetensors  the reward models that may serve again
====================== ============================================================
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.decoding import Limits
from agents.reward_model import RewardModel
from agents.runs import Run
from policies.language_model import LSTMAttentionLM
from qa_env.errors import QAError
from qa_env.vocabulary import Vocabulary

CHECKPOINT = "checkpoint"
FORMAT = 3
ARRAY = "array"
"""In the JSON file stands ``{ARRAY: name}`` for an array."""


@dataclass
class Checkpoint:
    """What is in a checkpoint beside the policy.

    Attributes:
        state: Dicts, lists, strings, numbers and arrays.
        tensors: State dicts of optimizers and modules.
        models: Reward models by version.
    """

    state: dict[str, Any]
    tensors: dict[str, Any] = field(default_factory=dict)
    models: Mapping[int, RewardModel] = field(default_factory=dict)


def write_checkpoint(run: Run, model: BaseAlgorithm, checkpoint: Checkpoint) -> None:
    """Put a checkpoint of the algorithm into the run's folder, in place of the one before."""
    arrays: dict[str, NDArray[Any]] = {}
    state = without_arrays({"format": FORMAT, **checkpoint.state}, "", arrays)
    tensors = {"policy": model.policy.optimizer.state_dict(), **checkpoint.tensors}
    with run.new_folder(CHECKPOINT) as folder:
        run.save_weights(model.policy, f"{folder}/policy.safetensors")
        run.replace(f"{folder}/optimizer.pt", lambda path: torch.save(tensors, path))
        run.replace(f"{folder}/arrays.npz", lambda path: write_arrays(path, arrays))
        for version, reward_model in checkpoint.models.items():
            run.replace(f"{folder}/{model_file(version)}", reward_model.save)
        run.write_json(f"{folder}/state.json", state)


def read_checkpoint(run: Run, model: BaseAlgorithm) -> Checkpoint:
    """Put policy and optimizer where the checkpoint has them, and return the rest, without reward models.

    Raises:
        QAError: If a file is missing or broken, or of another version.
    """
    state = run.read_json(f"{CHECKPOINT}/state.json")
    if state.get("format") != FORMAT:
        raise QAError(
            f"{run.path(CHECKPOINT)} is of format {state.get('format')}, this version reads {FORMAT}: "
            "go on with the version that wrote it, or remove it to begin RL anew"
        )
    run.load_weights(model.policy, f"{CHECKPOINT}/policy.safetensors")
    path = run.path(f"{CHECKPOINT}/optimizer.pt")
    try:
        tensors = torch.load(path, weights_only=True)
        model.policy.optimizer.load_state_dict(tensors.pop("policy"))
    except Exception as error:  # torch.load raises many kinds
        raise QAError(f"{path} is missing or broken: {' '.join(str(error).split()):.100}") from None
    path = run.path(f"{CHECKPOINT}/arrays.npz")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        return Checkpoint(with_arrays(state, arrays), tensors)
    except (OSError, ValueError, EOFError, KeyError, BadZipFile):
        raise QAError(f"{path} is missing or broken") from None


def read_reward_model(
    run: Run, version: int, lm: LSTMAttentionLM, vocabulary: Vocabulary, limits: Limits
) -> RewardModel:
    """A reward model of the checkpoint."""
    return RewardModel.load(run.path(f"{CHECKPOINT}/{model_file(version)}"), lm, vocabulary, limits)


def model_file(version: int) -> str:
    """The name of a reward model's file."""
    return f"reward_model-{version}.safetensors"


def random_state() -> dict[str, Any]:
    """Where the generators are that all share: Python's, NumPy's, PyTorch's."""
    version, numbers, spare = random.getstate()
    return {
        "python": [version, list(numbers), spare],
        "numpy": np.random.get_state(legacy=False),
        "torch": torch.get_rng_state().numpy(),
        "cuda": [state.numpy() for state in torch.cuda.get_rng_state_all()],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put the shared generators where `random_state` found them."""
    version, numbers, spare = state["python"]
    random.setstate((version, tuple(numbers), spare))
    np.random.set_state(state["numpy"])
    torch.set_rng_state(torch.from_numpy(state["torch"]))
    torch.cuda.set_rng_state_all([torch.from_numpy(each) for each in state["cuda"]])


def without_arrays(value: Any, name: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """The same with a name for each array, which goes into `arrays`."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {ARRAY: name}
    if isinstance(value, Mapping):
        return {key: without_arrays(part, f"{name}/{key}".lstrip("/"), arrays) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_arrays(part, f"{name}/{place}", arrays) for place, part in enumerate(value)]
    return value


def with_arrays(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """What `without_arrays` was given."""
    if isinstance(value, Mapping):
        if set(value) == {ARRAY}:
            return arrays[value[ARRAY]]
        return {key: with_arrays(part, arrays) for key, part in value.items()}
    return [with_arrays(part, arrays) for part in value] if isinstance(value, list) else value


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays to one file; `np.savez` given a path would add its own suffix to the name."""
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
