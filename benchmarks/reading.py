"""Reading comprehension by supervised learning alone: what an encoder is worth on data of one's own.

    python benchmarks/reading.py train.jsonl.gz dev.jsonl.gz --job.lm.bert MODEL
    python benchmarks/reading.py train.jsonl.gz dev.jsonl.gz --labelled 1000 --job.pretrain data

No reward, no RL: all training questions are labelled, or `--labelled` of them. The last of these, one in
twenty, choose the epoch, by the loss; F1 and exact match are those of greedy answers to the dev questions,
any of whose references counts. The settings that matter are those of the vocabulary, the language model, the
warm start and the limits.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import tyro
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import get_device, set_random_seed

from agents.augmentation import Augmentation
from agents.bert import make_language_model, write_outputs
from agents.commands import parse, run_command
from agents.config import TrainConfig
from agents.data import training_texts
from agents.decoding import answer_all
from agents.language import choose_vocabulary
from agents.plain_text import learned_texts, pretraining_texts
from agents.pretraining import Corpus, pretrain, reporter
from agents.runs import Run
from agents.training import OUTPUTS
from agents.transfer import transfer
from agents.warm_start import Supervised, WarmStartConfig, negative_log_likelihood, warm_start
from agents.word_vectors import start_from_vectors
from policies.actor_critic import LMActorCriticPolicy
from qa_env.datasets import QADataset, load_examples
from qa_env.feedback.text import exact_match, token_f1
from qa_env.task import QATask

HELD_OUT = 20
"""One in so many training questions chooses the epoch."""


@dataclass(frozen=True)
class ReadingCommand:
    """What is read, and by whom."""

    train: Annotated[str, tyro.conf.Positional]
    """Questions with references to learn from: a file that `train.py --data` reads."""
    dev: Annotated[str, tyro.conf.Positional]
    """Questions with references to measure by."""
    labelled: int = 0
    """Learn from so many of the training questions only, chosen at random; 0: from all. The passages of the
    others may be pre-trained on."""
    minutes: float = 60.0
    """No epoch begins after so many."""
    job: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            warm_start=WarmStartConfig(epochs=10, learning_rate=1e-3, patience=1)
        )
    )


class TimeIsUp(Exception):
    """Ends a warm start."""


def main(command: ReadingCommand) -> None:
    """Learn, and print the figures of each epoch and of the chosen one."""
    config = command.job
    set_random_seed(config.seed)
    start = time.perf_counter()
    examples = [e for e in load_examples(command.train) if e.answers]
    dev = [e for e in load_examples(command.dev) if e.answers]
    order = np.random.default_rng(config.seed).permutation(len(examples))
    unlabelled = [examples[place] for place in sorted(order[command.labelled or len(order) :])]
    if command.labelled:
        examples = [examples[place] for place in sorted(order[: command.labelled])]
    kept = len(examples) - len(examples) // HELD_OUT
    data = QADataset(tuple(examples), tuple(unlabelled), (), ())
    vocabulary = choose_vocabulary(config, learned_texts(config, data))
    run = Run.create(config)
    run.save_vocabulary(vocabulary, ())
    lm = make_language_model(config, vocabulary, run, run.folder.parent / OUTPUTS)
    if config.vectors:
        print(start_from_vectors(lm, vocabulary, config.vectors, training_texts(data)))
    if config.init_from:
        print(transfer(lm, vocabulary, config))
    task = QATask(dev, vocabulary, lm.encoder, "f1", **dataclasses.asdict(config.limits))
    policy = LMActorCriticPolicy(task.observation_space, task.action_space, lambda _: 0.0, lm=lm)
    policy.to(get_device(config.device))
    if config.pretrain:
        settings, texts = config.pretraining, pretraining_texts(config, data)
        corpus = Corpus.from_texts(texts, vocabulary, settings, config.limits, config.seed)
        report = reporter(print, configure(str(run.folder), ["tensorboard"]))
        print(pretrain(policy, corpus, settings, config.seed, report))
    train, validation = (
        Supervised.from_examples(part, vocabulary, config.limits)
        for part in (examples[:kept], examples[kept:])
    )
    print(
        f"{kept} questions, {train.cut} of them cut or left out; {len(dev)} dev; {len(vocabulary)} tokens",
        flush=True,
    )
    figures: list[tuple[float, float, float]] = []

    def report(epoch: int, loss: float, validation_loss: float) -> None:
        answers = answer_all(policy, vocabulary, dev, config.limits)
        pairs = list(zip(answers, dev, strict=True))
        f1 = float(np.mean([token_f1(answer, e.answers) for answer, e in pairs]))
        exact = float(np.mean([exact_match(answer, e.answers) for answer, e in pairs]))
        figures.append((validation_loss, f1, exact))
        minutes = (time.perf_counter() - start) / 60
        losses = f"loss {loss:.3f}, held-out {validation_loss:.3f}"
        told = f"epoch {epoch + 1}: {losses}, F1 {f1:.3f}, exact {exact:.3f}, {minutes:.1f} minutes"
        print(told, flush=True)
        write_outputs(lm)
        if minutes >= command.minutes:
            raise TimeIsUp

    try:
        warm_start(
            policy,
            train,
            lambda: negative_log_likelihood(policy, validation),
            Augmentation(vocabulary, config.changes()),
            config.warm_start,
            config.seed,
            report,
        )
    except TimeIsUp:
        pass
    _, f1, exact = min(figures)
    print(f"chosen by the held-out loss: F1 {f1:.3f}, exact {exact:.3f}")
    run.save_weights(lm, "warm_start.safetensors")


if __name__ == "__main__":
    run_command(lambda arguments: main(parse(ReadingCommand, arguments)))
