"""What a frozen BERT says of each source: computed once, and kept on disk."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from qa_env.bert.reader import BertReader
from qa_env.vocabulary import PAD

FILE_TOKENS = 2**15
"""Tokens whose outputs go into one file; a killed process loses at most so many."""
KEY = 16
"""Bytes of a source's key."""

Outputs = NDArray[np.float16]


class KeptOutputs:
    """A frozen reader that reads each source once and remembers what came out, in 16 bits a number.

    It is no module: its weights are in no checkpoint, in no optimizer and in no copy of a language model;
    copies share it. A file in the folder holds the outputs of some sources. It is written under another name
    first, so a killed process leaves no half of one, and it is mapped into memory, not read as a whole.
    Several processes may use one folder.

    Args:
        reader: Frozen from now on.
        folder: Where outputs are kept, each reader's in a folder of its own, named by its fingerprint; None
            keeps nothing.

    Attributes:
        width: Size of a vector.
        read: How many sources the reader has read.
    """

    def __init__(self, reader: BertReader, folder: Path | None = None) -> None:
        self.reader = reader.requires_grad_(False)
        self.width = reader.width
        self.folder = None if folder is None else folder / reader.fingerprint
        self.read = 0
        self._new: dict[bytes, Outputs] = {}  # not yet written
        self._new_tokens = 0
        self._written: dict[bytes, Callable[[], Outputs]] = {}
        if self.folder is not None:
            for path in sorted(self.folder.glob("*.safetensors")):
                self._open(path)

    def __deepcopy__(self, memo: dict[int, Any]) -> KeptOutputs:
        """Itself."""
        return self

    @torch.no_grad()
    def __call__(self, source: Tensor) -> Tensor:
        """Outputs ``(batch, source, width)`` of ids ``(batch, source)``, zero where PAD stands."""
        rows = source.cpu().numpy()
        texts = [row[row != PAD] for row in rows]
        keys = [hashlib.blake2b(text.tobytes(), digest_size=KEY).digest() for text in texts]
        found = {key: outputs for key in keys if (outputs := self._find(key)) is not None}
        missing = [place for key, place in {k: i for i, k in enumerate(keys)}.items() if key not in found]
        if missing:
            read = self.reader.to(source.device)(source[missing]).half().cpu().numpy()
            new = {keys[place]: row[: len(texts[place])] for place, row in zip(missing, read, strict=True)}
            found |= new
            self._keep(new)
        outputs = np.zeros((*rows.shape, self.width), dtype=np.float16)
        for row, key in zip(outputs, keys, strict=True):
            row[: len(found[key])] = found[key]
        return torch.as_tensor(outputs, device=source.device).float()

    def write(self) -> None:
        """Write what is not yet on disk."""
        if self.folder is None or not self._new:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{uuid.uuid4().hex}.safetensors"
        temporary = path.with_suffix(".tmp")
        content = {
            "keys": np.frombuffer(b"".join(self._new), dtype=np.uint8).reshape(-1, KEY),
            "lengths": np.array([len(outputs) for outputs in self._new.values()]),
            "outputs": np.concatenate([*self._new.values()]),
        }
        save_file(content, temporary)
        os.replace(temporary, path)
        self._new, self._new_tokens = {}, 0
        self._open(path)

    def _find(self, key: bytes) -> Outputs | None:
        """What is known of a source, ``(tokens, width)``."""
        if key in self._written:
            return self._written[key]()
        return self._new.get(key)

    def _keep(self, new: dict[bytes, Outputs]) -> None:
        self.read += len(new)
        if self.folder is None:
            return
        self._new |= {key: outputs.copy() for key, outputs in new.items()}
        self._new_tokens += sum(len(outputs) for outputs in new.values())
        if self._new_tokens >= FILE_TOKENS:
            self.write()

    def _open(self, path: Path) -> None:
        """Take in a file; one that is broken counts for nothing."""
        try:
            file: Any = safe_open(path, framework="np")
            keys, lengths = file.get_tensor("keys"), file.get_tensor("lengths")
            outputs = file.get_slice("outputs")
        except (OSError, SafetensorError):
            return
        ends = np.cumsum(lengths).tolist()
        for key, start, end in zip(keys, [0, *ends], ends, strict=False):
            self._written[key.tobytes()] = partial(outputs.__getitem__, slice(start, end))
