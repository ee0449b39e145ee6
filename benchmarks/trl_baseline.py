"""TRL's supervised fine-tuning, then its GRPO, with a GPT-2 as large as our default network.

    pip install -r benchmarks/requirements-trl.txt
    python benchmarks/trl_baseline.py --seconds 1200

The same job as `train.py`'s: the network starts from nothing, reads the same labelled questions with the same
tokenizer, and learns from the same simulated users' ratings of its answers to the same unlabelled questions.
A sequence is ``question SEP context BOS answer EOS``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from learning_curve import CountedFeedback, LearningCurve, Point
from main_job import job, machine
from tokenizers import Tokenizer
from transformers import (
    EarlyStoppingCallback,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from agents.augmentation import Augmentation
from agents.commands import parse, run_command
from agents.config import TrainConfig
from agents.data import fluency_sentences, load_dataset, training_texts
from qa_env.datasets import QADataset, QAExample
from qa_env.feedback import SimulatedUsers
from qa_env.feedback.fluency import FluencyModel
from qa_env.feedback.loading import score_checked
from qa_env.vocabulary import BOS, EOS, FORBIDDEN, PAD, SEP, SPECIAL_TOKENS, Vocabulary
from qa_env.vocabulary_making import make_vocabulary

EVALUATION_BATCH = 250
IGNORED = -100
"""The label of a token that is not learned."""


@dataclass(frozen=True)
class GPT2Size:
    """Sizes of the network; the default has as many parameters as our default one (1.43 M)."""

    layers: int = 4
    width: int = 160
    heads: int = 5
    positions: int = 256
    dropout: float = 0.0


@dataclass(frozen=True)
class SFTSettings:
    """Settings of supervised fine-tuning."""

    learning_rate: float = 1e-3
    batch_size: int = 16
    copies: int = 400
    """Epochs at most; in each the labelled questions are augmented anew, as for our warm start."""
    augmented: bool = True
    prompt_loss: bool = False
    """Learn to predict questions and contexts too."""
    evaluate_every: int = 100
    """Steps between two looks at the validation loss."""
    patience: int = 10
    """Looks without a better validation loss before it stops."""


@dataclass(frozen=True)
class GRPOSettings:
    """Settings of GRPO; what is not named here is TRL's default."""

    learning_rate: float = 1e-4
    generations: int = 8
    """Answers to each question, compared with one another."""
    batch_size: int = 64
    """Answers a gradient step."""
    steps_per_generation: int = 1
    """Gradient steps on the answers that are written together."""
    temperature: float = 1.0
    beta: float = 0.0
    """Weight of the KL penalty."""


@dataclass(frozen=True)
class TRLCommand:
    """Run TRL's SFT and GRPO on the default job's data."""

    seed: int = 0
    """Of the run and of the data."""
    seconds: float = 1200.0
    """Wall-clock time of the job; measuring the accuracy is not counted."""
    target: float | None = None
    """Stop as soon as this accuracy is measured."""
    measure_every: float = 100.0
    """Seconds of work between two points of the curve."""
    size: GPT2Size = field(default_factory=GPT2Size)
    sft: SFTSettings = field(default_factory=SFTSettings)
    grpo: GRPOSettings = field(default_factory=GRPOSettings)


def main(arguments: Sequence[str]) -> None:
    """Run the job and print the points of its curve."""
    points = learn(parse(TRLCommand, arguments, prog="python benchmarks/trl_baseline.py"))
    best = max(point.accuracy for point in points)
    print(
        f"best accuracy {best:.3f}, {points[-1].rated} rated answers, {points[-1].seconds:.0f} s; {machine()}"
    )


def learn(command: TRLCommand) -> list[Point]:
    """The learning curve of the whole job: data, SFT, GRPO until the time is up or the target reached."""
    curve = LearningCurve(command.seconds, command.target)
    learner = TRLLearner(job(command.seed, "runs"), command, curve)
    learner.supervise()
    print(f"SFT ended at {curve.seconds:.0f} s")
    learner.measure()
    learner.reinforce()
    learner.measure()
    return curve.points


class TRLLearner:
    """The data, the network, and the two stages that train it.

    Args:
        config: Our own job's settings: data, splits, tokenizer and simulated users.
        command: Settings of the opponent.
        curve: Takes the time and the points.
    """

    def __init__(self, config: TrainConfig, command: TRLCommand, curve: LearningCurve) -> None:
        self.config, self.command, self.curve = config, command, curve
        torch.manual_seed(command.seed)
        self.rng = np.random.default_rng(command.seed)
        self.data: QADataset = load_dataset(config)
        self.vocabulary = make_vocabulary(training_texts(self.data), config.vocabulary)
        fluency = FluencyModel.fit(fluency_sentences(self.data), self.vocabulary, seed=config.seed)
        self.users = CountedFeedback(SimulatedUsers(config.users, fluency))
        self.tokenizer = as_transformers(self.vocabulary)
        self.model = make_gpt2(command.size, len(self.vocabulary))

    def supervise(self) -> None:
        """SFT on the labelled questions; the weights of the best validation loss stay."""
        settings = self.command.sft
        validation = self.data.validation[: self.config.rl.eval_questions]
        with tempfile.TemporaryDirectory() as folder:
            config = SFTConfig(
                folder,
                learning_rate=settings.learning_rate,
                per_device_train_batch_size=settings.batch_size,
                per_device_eval_batch_size=EVALUATION_BATCH,
                num_train_epochs=1,  # the copies of the questions are epochs
                train_sampling_strategy="group_by_length",
                lr_scheduler_type="constant_with_warmup",
                warmup_steps=100,
                eval_strategy="steps",
                eval_steps=settings.evaluate_every,
                save_strategy="steps",
                save_steps=settings.evaluate_every,
                save_total_limit=1,
                load_best_model_at_end=True,
                metric_for_best_model="eval_loss",
                dataset_kwargs={"skip_prepare_dataset": True},
                **self._common(),
            )
            trainer = SFTTrainer(
                self.model,
                args=config,
                train_dataset=self._labelled(),
                eval_dataset=Dataset.from_list([_sequence(*ids) for ids in self._ids(validation)]),
                processing_class=self.tokenizer,
                callbacks=[EarlyStoppingCallback(settings.patience), _Measure(self)],
            )
            trainer.train()

    def reinforce(self) -> None:
        """GRPO on the ratings of answers to the unlabelled questions."""
        settings = self.command.grpo
        config = GRPOConfig(
            tempfile.gettempdir(),
            learning_rate=settings.learning_rate,
            per_device_train_batch_size=settings.batch_size,
            steps_per_generation=settings.steps_per_generation,
            num_generations=settings.generations,
            max_completion_length=self.config.limits.max_answer,
            temperature=settings.temperature,
            beta=settings.beta,
            generation_kwargs={"suppress_tokens": list(FORBIDDEN)},
            lr_scheduler_type="constant",
            max_steps=10**6,  # the clock ends it
            save_strategy="no",
            **self._common(),
        )
        prompts = [{"prompt": prompt(e), "row": row} for row, e in enumerate(self.data.unlabelled)]
        trainer = GRPOTrainer(
            self.model,
            self._reward,
            args=config,
            train_dataset=Dataset.from_list(prompts),
            processing_class=self.tokenizer,
            callbacks=[_Measure(self)],
        )
        trainer.train()

    def measure(self) -> None:
        """Add a point to the curve."""
        was_training = self.model.training
        self.curve.measure(self.data.test, lambda: self.answer(self.data.test), self.users.rated)
        self.model.train(was_training)

    @torch.no_grad()
    def answer(self, examples: Sequence[QAExample]) -> list[str]:
        """Greedy answers, questions of like length side by side."""
        self.model.eval()
        ids = [source for source, _ in self._ids(examples)]
        order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
        answers = [""] * len(ids)
        for start in range(0, len(order), EVALUATION_BATCH):
            rows = order[start : start + EVALUATION_BATCH]
            batch = self.tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt")
            written = self.model.generate(
                **batch,
                max_new_tokens=self.config.limits.max_answer,
                do_sample=False,
                suppress_tokens=list(FORBIDDEN),
            )
            for row, answer in zip(rows, written[:, batch["input_ids"].shape[1] :], strict=True):
                answers[row] = self._text(answer.tolist())
        return answers

    def _common(self) -> dict[str, Any]:
        """Settings of both stages: plain 32-bit training on the CPU, nothing logged."""
        return {
            "seed": self.command.seed,
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "report_to": "none",
            "disable_tqdm": True,
            "logging_strategy": "no",
            "dataloader_pin_memory": False,
        }

    def _labelled(self) -> Dataset:
        """All the epochs of SFT in a row, each in an order and an augmentation of its own."""
        settings = self.command.sft
        sources, answers = (_padded(part) for part in zip(*self._ids(self.data.labelled), strict=True))
        augmentation = Augmentation(self.vocabulary, self.config.augmentation)
        rows = []
        for _ in range(settings.copies):
            source, answer = (
                augmentation(sources, answers, self.rng) if settings.augmented else (sources, answers)
            )
            order = self.rng.permutation(len(source))
            for row in order:
                ids = [part[row][part[row] != PAD].tolist() for part in (source, answer)]
                rows.append(_sequence(ids[0], ids[1], settings.prompt_loss))
        return Dataset.from_list(rows)

    def _ids(self, examples: Sequence[QAExample]) -> list[tuple[list[int], list[int]]]:
        """The ids of each prompt, and of its main answer with EOS."""
        sources = self.tokenizer([prompt(e) for e in examples])["input_ids"]
        answers = self.vocabulary.encode_batch([e.answers[0] for e in examples])
        return [(source, [*answer, EOS]) for source, answer in zip(sources, answers, strict=True)]

    def _reward(self, completion_ids: list[list[int]], row: list[int], **_: Any) -> list[float]:
        """What the simulated users say of the answers, in TRL's form."""
        examples = [self.data.unlabelled[i] for i in row]
        answers = [self._text(ids) for ids in completion_ids]
        rewards: list[float] = score_checked(
            self.users, examples, answers, self.rng.spawn(len(answers))
        ).reward.tolist()
        return rewards

    def _text(self, ids: list[int]) -> str:
        """The text of an answer's ids up to EOS."""
        return self.vocabulary.decode(ids[: ids.index(EOS)] if EOS in ids else ids)


class _Measure(TrainerCallback):
    """Adds a point to the curve now and then, and stops the training when it is over."""

    def __init__(self, learner: TRLLearner) -> None:
        self.learner = learner
        self.next = learner.curve.seconds + learner.command.measure_every

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        curve = self.learner.curve
        if curve.seconds >= self.next:
            self.learner.measure()
            self.next = curve.seconds + self.learner.command.measure_every
        if curve.over:
            control.should_training_stop = True


def prompt(example: QAExample) -> str:
    """``question SEP context BOS``; each part begins with a blank, as `Vocabulary` encodes it."""
    context = "" if example.context is None else f"{SPECIAL_TOKENS[SEP]} {example.context.strip()}"
    return f" {example.question.strip()}{context}{SPECIAL_TOKENS[BOS]}"


def as_transformers(vocabulary: Vocabulary) -> PreTrainedTokenizerFast:
    """The same tokenizer for `transformers`; in it special tokens may be written as text."""
    names = {f"{name}_token": SPECIAL_TOKENS[i] for i, name in enumerate(("pad", "bos", "eos", "sep"))}
    tokenizer = Tokenizer.from_str(vocabulary.tokenizer.to_str())
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **names)


def make_gpt2(size: GPT2Size, vocabulary: int) -> GPT2LMHeadModel:
    """An untrained GPT-2 that counts positions from the first token that is not padding.

    TRL scores answers behind left padding without position ids, and GPT-2 then counts the padding too, other
    than when the answers were written: that would teach it something else than it does.
    """
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=size.positions,
        n_embd=size.width,
        n_layer=size.layers,
        n_head=size.heads,
        resid_pdrop=size.dropout,
        embd_pdrop=size.dropout,
        attn_pdrop=size.dropout,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    model = GPT2LMHeadModel(config)
    model.transformer.register_forward_pre_hook(_count_positions, with_kwargs=True)
    return model


def _count_positions(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Set ``position_ids`` where there are none."""
    mask = kwargs.get("attention_mask")
    if kwargs.get("position_ids") is None and mask is not None:
        kwargs["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    return args, kwargs


def _sequence(source: list[int], answer: list[int], prompt_loss: bool = False) -> dict[str, list[int]]:
    """A sequence for SFT."""
    return {
        "input_ids": source + answer,
        "labels": (source if prompt_loss else [IGNORED] * len(source)) + answer,
    }


def _padded(rows: Sequence[list[int]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Rows of ids with PAD behind, ``(rows, longest)``."""
    padded = np.full((len(rows), max(map(len, rows))), PAD, dtype=np.int64)
    for row, ids in zip(padded, rows, strict=True):
        row[: len(ids)] = ids
    return padded


if __name__ == "__main__":
    run_command(main)
