"""The data sets and the settings that `real_data.py` trains with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feedback_efficiency import merge

from agents.config import TrainConfig, from_dict, to_dict
from qa_env.errors import QAError

Settings = Mapping[str, Any]
VECTORS, MODEL = "the word vectors", "the BERT model"
PRETRAINED = "the pre-trained run"
FINE_TUNED, READER = "the run that reads with BERT", "the run that reads SQuAD"
FINE_TUNED_MODEL = "the BERT model of the run that reads with BERT"
PLACEHOLDERS = {
    VECTORS: "vectors",
    MODEL: "bert",
    PRETRAINED: "pretrained",
    FINE_TUNED: "fine_tuned",
    FINE_TUNED_MODEL: "fine_tuned_bert",
    READER: "reader",
}
"""What stands for files that the command line names."""
READING: Settings = {
    "augmentation": {"renamed": 0.0, "replaced": 0.0},  # there are labels enough not to make up others
    "warm_start": {
        "epochs": 6,
        "patience": 2,
        "rate_decay": 0.5,
        "dropout": 0.3,
        "batch_size": 16,
        "choose_by": "score",
    },
    "rl": {
        "timesteps": 80_000,
        "temperature": 1.0,
        "learning_rate": 5e-4,
        "batch_size": 256,
        "eval_every": 6,
        "eval_questions": 1000,
    },
    "imitation": {"batches": 0, "epochs": 2, "dropout": 0.3, "threshold": 0.5},
    "users": {"w_correct": 0.9, "w_fluent": 0.05, "w_length": 0.05},  # phrases need no fluency
}
WITH_VECTORS: Settings = {
    "vocabulary": {"kind": "words", "size": 20000},
    "vectors": VECTORS,
    "lm": {"embedding": 50},
}
BEGUN: Settings = {"init_from": PRETRAINED}
MORE: Settings = {  # what can be had: a model that reads already, and two thirds of the labels
    "init_from": READER,
    "split": {"labelled": 10_000},
    "warm_start": {"epochs": 4, "learning_rate": 1e-3},
    "rl": {"timesteps": 60_000},
}
WITH_BERT: Settings = {  # fine-tuned in the warm start; RL then leaves the encoder as it is
    "lm": {"bert": MODEL, "bert_rate": 0.03},
    "encoder": "frozen",
    "warm_start": {"epochs": 4, "patience": 1, "learning_rate": 1.5e-3, "dropout": 0.2},
}
WITH_READ_BERT: Settings = {  # BERT stays as QAMR has made it; RL trains the encoder's LSTM over it
    "lm": {"bert": FINE_TUNED_MODEL},
    "init_from": FINE_TUNED,
    "warm_start": {"learning_rate": 1e-3, "dropout": 0.2},
    "rl": {"learning_rate": 1e-4},
}
QAMR: Settings = {
    "data": "qamr/train",
    "split": {"labelled": 5000, "validation": 0.06, "test_data": "qamr/dev"},
    "limits": {"max_source": 160, "max_answer": 24},
}
SQUAD: Settings = {
    "data": "squad11/train,squad-newwiki/train",
    "split": {
        "labelled": 3000,
        "validation_data": "squad11/dev,squad-newwiki/dev",
        "test_data": "squad11/test,squad-newwiki/test",
    },
    "limits": {"max_source": 128, "max_answer": 32},  # the sentences that stay hold 94% of the answers
}
BABI: Settings = {
    "data": "babi-v11/train",
    "split": {"labelled": 6000, "validation": 0.06, "test_data": "babi-v11/dev"},
    "vocabulary": {"kind": "words", "size": 400},
    "lm": {"embedding": 64},
    "limits": {"max_source": 256, "max_answer": 8},
    "warm_start": {
        "epochs": 14,
        "patience": 4,
        "rate_decay": 0.6,
        "dropout": 0.1,
        "batch_size": 32,
        "learning_rate": 3e-3,
    },
    "rl": {"timesteps": 60_000},
    "imitation": {"dropout": 0.1, "epochs": 4},
}
FAIRYTALE: Settings = {
    "data": "fairytaleqa/train",
    "split": {"labelled": 4000, "validation": 0.06, "test_data": "fairytaleqa/dev"},
    "limits": {"max_source": 200, "max_answer": 32},
}
CMRC: Settings = {
    "data": "cmrc2018/dev",
    "split": {"labelled": 1500, "validation": 0.1, "test_data": "cmrc2018/trial"},
    "vocabulary": {"kind": "characters", "size": 4000},
    "limits": {"max_source": 300, "max_answer": 40},
}
DATA: dict[str, tuple[Settings, ...]] = {
    "qamr": (QAMR, WITH_VECTORS),
    "qamr_more": (QAMR, WITH_VECTORS, MORE),
    "qamr_pretrained": (QAMR, WITH_VECTORS, BEGUN),
    "qamr_bert": (QAMR, WITH_BERT),
    "squad": (SQUAD, WITH_READ_BERT, {"split": {"labelled": 300}}),
    "squad_fine_tuned": (
        SQUAD,
        WITH_BERT,
        {"init_from": FINE_TUNED, "warm_start": {"epochs": 2, "learning_rate": 1e-3}},
    ),
    "babi": (BABI,),
    "fairytaleqa": (FAIRYTALE, WITH_READ_BERT, {"split": {"labelled": 500}}),
    "fairytaleqa_lstm": (FAIRYTALE, WITH_VECTORS),
    "cmrc2018": (CMRC,),
    "qamr_no_vectors": (QAMR, WITH_VECTORS, {"vectors": ""}),
    "qamr_no_copy": (QAMR, WITH_VECTORS, {"lm": {"copy": False}}),
    "qamr_additive": (QAMR, WITH_VECTORS, {"lm": {"attention": "additive"}}),
}
"""What differs from the default run, beside `READING`; later parts win."""


@dataclass(frozen=True)
class Files:
    """What the command line names.

    Attributes:
        folder: Where the folders of the data sets are.
        vectors: A file of word vectors.
        bert: A BERT model.
        pretrained: What `python -m agents.pretrain lm` made.
        fine_tuned: A run, or its file of weights, whose BERT is fine-tuned.
        fine_tuned_bert: What `real_data_bert.py` made of it.
        reader: A run that has learned to read SQuAD's paragraphs, supervised.
    """

    folder: Path
    vectors: str
    bert: str
    pretrained: str
    fine_tuned: str
    fine_tuned_bert: str
    reader: str

    def filled(self, settings: Settings, name: str) -> dict[str, Any]:
        """The settings with files in place of what stands for them.

        Raises:
            QAError: If one is needed and not named.
        """
        return {key: self._filled(key, value, name) for key, value in settings.items()}

    def _filled(self, key: str, value: Any, name: str) -> Any:
        if isinstance(value, Mapping):
            return self.filled(value, name)
        if key in ("data", "validation_data", "test_data"):
            return ",".join(str(self.folder / f"{part}.jsonl.gz") for part in value.split(","))
        for placeholder, option in PLACEHOLDERS.items():
            if value == placeholder:
                if not getattr(self, option):
                    raise QAError(f"{name} needs {placeholder}: give --{option.replace('_', '-')}")
                return getattr(self, option)
        return value


def settings_of(name: str, files: Files, seed: int, device: str, log_dir: str) -> TrainConfig:
    """The settings of a run.

    Raises:
        QAError: If a file is needed and not named.
    """
    values = to_dict(TrainConfig(seed=seed, device=device, log_dir=log_dir))
    for part in (READING, *DATA[name]):
        merge(values, files.filled(part, name))
    values["split"]["seed"] = seed
    config: TrainConfig = from_dict(TrainConfig, values)
    return config
