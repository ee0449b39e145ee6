"""A run's folder: what is saved there, written whole or not at all, and read back without running code."""

from __future__ import annotations

import gzip
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from agents.config import TrainConfig, from_dict, to_dict
from policies.language_model import LSTMAttentionLM
from qa_env.errors import QAError
from qa_env.feedback.fluency import FluencyModel
from qa_env.vocabulary import Vocabulary

HOLDERS = (("lm",), ("q_net", "lm"), ("quantile_net", "lm"))
"""Where a policy keeps its language model."""
PACKAGES = ("gymnasium", "stable-baselines3", "torch", "numpy", "tokenizers", "tensorboard")


class Stopwatch:
    """How long each stage of a run took.

    Attributes:
        seconds: By the stage's name.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time that the block takes."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


class Run:
    """The folder of a training run.

    ========================= ==========================================================
    config.json               every setting; also readable by ``train.py --config``
    versions.json             Python and package versions, vocabulary fingerprint
    vocabulary.json           the tokenizer
    fluency.safetensors       the frozen language model that judges wording
    fluency_vocabulary.json   its own tokenizer
    collection.json.gz        passages for questions that come without a context
    warm_start.safetensors    the language model after the warm start
    model.safetensors         the language model of the best validation score
    checkpoint/               where ``--resume`` goes on: see `agents.checkpoints`
    before.json               the report before RL and the seconds of the stages so far
    results.json              the final report
    events.out.tfevents.*     TensorBoard logs
    ========================= ==========================================================

    ``bert.json`` says which BERT model the encoder reads with, if it does. After pre-training there are
    ``pretrained.safetensors`` with the weights and ``pretrain.json`` with its report.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @classmethod
    def create(cls, config: TrainConfig) -> Run:
        """Make the folder ``<log_dir>/<env>__<algo>__<seed>__<time>`` and write the config into it.

        Raises:
            QAError: If the folder cannot be made.
        """
        algorithm = config.rl.algorithm.replace(":", ".")
        name = f"QA-v0__{algorithm}__{config.seed}__{time.strftime('%Y%m%d-%H%M%S')}"
        folder = Path(config.log_dir) / name
        number = 1
        while folder.exists():
            number += 1
            folder = folder.with_name(f"{name}-{number}")
        return cls.make(folder, config, "--log-dir")

    @classmethod
    def make(cls, folder: str | Path, config: TrainConfig, option: str = "--out") -> Run:
        """Make a new folder and write the config into it.

        Args:
            folder: The folder.
            config: The settings.
            option: Of the command line, to change if the folder cannot be made.

        Raises:
            QAError: If the folder cannot be made.
        """
        try:
            Path(folder).mkdir(parents=True)
        except OSError as error:
            raise QAError(
                f"cannot make the run folder {folder}: {error.strerror}; choose another {option}"
            ) from None
        run = cls(folder)
        run.write_json("config.json", to_dict(config))
        return run

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """A folder that `create` made.

        Raises:
            QAError: If it is not one.
        """
        if not (Path(folder) / "config.json").is_file():
            raise QAError(f"{folder} is no run folder: it has no config.json")
        return cls(folder)

    def remove_if_bare(self) -> None:
        """Remove the folder if it holds nothing but the settings, so that a mistake in them leaves none."""
        if [path.name for path in self.folder.iterdir()] == ["config.json"]:
            shutil.rmtree(self.folder)

    def path(self, name: str) -> Path:
        """A file of the run."""
        return self.folder / name

    def has(self, name: str) -> bool:
        """Whether the file is there."""
        return self.path(name).exists()

    def config(self) -> TrainConfig:
        """The run's settings."""
        config: TrainConfig = from_dict(TrainConfig, self.read_json("config.json"))
        return config

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file."""
        text = json.dumps(content, indent=2, ensure_ascii=False)
        self.replace(name, lambda path: path.write_text(text + "\n", encoding="utf-8"))

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file.

        Raises:
            QAError: If it is missing or broken.
        """
        try:
            content: dict[str, Any] = json.loads(self.path(name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise QAError(f"{self.path(name)} is missing: this run has not got that far") from None
        except ValueError:
            raise QAError(f"{self.path(name)} is no JSON file") from None
        return content

    def save_vocabulary(self, vocabulary: Vocabulary, collection: tuple[str, ...]) -> None:
        """Write the tokenizer, the passages and the versions of everything that made them."""
        self.replace("vocabulary.json", vocabulary.save)
        packed = gzip.compress(json.dumps(collection, ensure_ascii=False).encode(), mtime=0)
        self.replace("collection.json.gz", lambda path: path.write_bytes(packed))
        versions = {package: version(package) for package in PACKAGES}
        self.write_json(
            "versions.json",
            {"python": platform.python_version(), **versions, "vocabulary": vocabulary.fingerprint},
        )

    def vocabulary(self) -> Vocabulary:
        """The run's tokenizer.

        Raises:
            QAError: If it is missing, or not the one that the run was trained with.
        """
        vocabulary = Vocabulary.load(self.path("vocabulary.json"))
        expected = self.read_json("versions.json").get("vocabulary")
        if vocabulary.fingerprint != expected:
            raise QAError(
                f"{self.path('vocabulary.json')} is another vocabulary ({vocabulary.fingerprint}) than the "
                f"run was trained with ({expected}): put the run's own file back"
            )
        return vocabulary

    def collection(self) -> list[str]:
        """The passages that questions without a context are looked up in."""
        try:
            passages: list[str] = json.loads(gzip.decompress(self.path("collection.json.gz").read_bytes()))
        except (OSError, ValueError, EOFError):
            raise QAError(f"{self.path('collection.json.gz')} is missing or broken") from None
        return passages

    def save_fluency(self, fluency: FluencyModel) -> None:
        """Write the judge of wording."""
        self.replace("fluency_vocabulary.json", fluency.vocabulary.save)
        self.replace("fluency.safetensors", fluency.save)

    def fluency(self) -> FluencyModel:
        """The judge of wording."""
        vocabulary = Vocabulary.load(self.path("fluency_vocabulary.json"))
        return FluencyModel.load(self.path("fluency.safetensors"), vocabulary)

    def save_weights(self, module: nn.Module, name: str) -> None:
        """Write a module's weights, and in the file's header which vocabulary they belong to."""
        metadata = {"vocabulary": self.read_json("versions.json")["vocabulary"]}
        # Copies: on a GPU the weights of an LSTM share one piece of memory, which safetensors refuses.
        weights = {key: tensor.cpu().clone() for key, tensor in untied(module).items()}
        self.replace(name, lambda path: save_file(weights, path, metadata))

    def load_weights(self, module: nn.Module, name: str) -> None:
        """Read weights that `save_weights` wrote; a safetensors file holds numbers only.

        Raises:
            QAError: If the file is missing or broken, or holds a module of other sizes or for another
                vocabulary than the run's.
        """
        self._names(name)
        self._load(module, name, strict=True)

    def load_language_model(self, lm: LSTMAttentionLM, name: str) -> None:
        """Read a language model's weights from its own file or from that of a policy around it.

        Raises:
            QAError: As `load_weights`.
        """
        names = self._names(name)
        holder: nn.Module = lm
        for path in HOLDERS:
            if ".".join((*path, "output.weight")) in names:
                for part in reversed(path):
                    holder = nn.ModuleDict({part: holder})
        self._load(holder, name, strict=False)

    def _names(self, name: str) -> list[str]:
        """The names of the weights in a file, which must belong to the run's vocabulary."""
        if not self.has(name):
            raise QAError(f"{self.path(name)} is missing: this run has not got that far")
        expected = self.read_json("versions.json").get("vocabulary")
        try:
            with safe_open(str(self.path(name)), framework="pt") as file:
                found, names = (file.metadata() or {}).get("vocabulary"), list(file.keys())
        except SafetensorError as error:
            raise self._broken(name, error) from None
        if found != expected:
            raise QAError(
                f"{self.path(name)} was trained with another vocabulary ({found}) than the run's "
                f"({expected}): put the run's own file back"
            )
        return names

    def _load(self, module: nn.Module, name: str, strict: bool) -> None:
        try:
            weights = load_file(self.path(name))
            unknown = module.load_state_dict(weights, strict=False).unexpected_keys
        except (SafetensorError, RuntimeError) as error:
            raise self._broken(name, error) from None
        found = {t.data_ptr() for key, t in module.state_dict().items() if key in weights}
        missing = [key for key, tensor in untied(module).items() if tensor.data_ptr() not in found]
        if missing or (strict and unknown):
            wrong = f"it lacks {', '.join(missing)}" if missing else f"it also has {', '.join(unknown)}"
            raise self._broken(name, wrong)

    def _broken(self, name: str, error: object) -> QAError:
        reason = " ".join(str(error).split())
        return QAError(f"{self.path(name)} does not fit this model or is broken: {reason:.150}")

    @contextmanager
    def new_folder(self, name: str) -> Iterator[str]:
        """A folder to write files into; behind the block it takes the place of the folder `name`."""
        new, old = f"{name}.tmp", f"{name}.old"
        shutil.rmtree(self.path(new), ignore_errors=True)
        self.path(new).mkdir()
        yield new
        if self.has(name):
            os.replace(self.path(name), self.path(old))
        os.replace(self.path(new), self.path(name))
        sync(self.folder)
        shutil.rmtree(self.path(old), ignore_errors=True)

    def mend(self, name: str) -> None:
        """Bring the folder `name` back, if the process was killed while another took its place."""
        old = self.path(f"{name}.old")
        if old.exists() and not self.has(name):
            os.replace(old, self.path(name))
        shutil.rmtree(old, ignore_errors=True)

    def replace(self, name: str, write: Callable[[Path], Any]) -> None:
        """Write to another name first: a file is there whole or not at all, even if power fails."""
        path = self.path(name)
        temporary = path.with_name(path.name + ".tmp")
        write(temporary)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)


def untied(module: nn.Module) -> dict[str, Tensor]:
    """A module's weights by name; those that several names share once, under the first of them."""
    first: dict[int, str] = {}
    weights = module.state_dict()
    return {key: t for key, t in weights.items() if first.setdefault(t.data_ptr(), key) == key}


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
