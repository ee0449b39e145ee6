"""Tokens a second of PPO, rollout and update together: ours, stock ways of doing it, and plain torch.

    python benchmarks/throughput.py

Everybody has the same network sizes, sources, lanes, reward, minibatch in tokens and one epoch; answers are
exactly 10 or 32 tokens long (ending one early is made unlikely for all alike). They run in turn in one
process; a figure is the median over the runs.

- ``ours``: `agents.algorithms.make_ppo`, stock PPO with `LMActorCriticPolicy` and `AnswerRolloutBuffer`.
- ``sb3_prefix``: stock PPO with a features extractor that holds the same language model and runs question
  and answer so far through it at every step, and for every row of the update.
- ``recurrent_ppo``: sb3-contrib's RecurrentPPO; the extractor encodes the question at every step, an LSTM of
  the same size reads the last token and the pooled question.
- ``torch_loop``: `benchmarks/torch_loop.py`.
- ``bfloat16``: ours, with `torch.set_float32_matmul_precision("medium")`: matrix products in bfloat16 (on a
  GPU in TF32) where the processor knows how. (`torch.autocast` is no choice on most CPUs: oneDNN has no
  bfloat16 LSTM for them.)
- ``compiled``: ours, with `torch.compile` of the way from the decoder to the tokens' probabilities.

The last two are what could be switched on and is not where it does not pay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from main_job import RESULTS, machine, write_csv
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecMonitor
from torch import Tensor
from torch_loop import TorchLoop

from agents.algorithms import make_ppo
from agents.commands import parse, run_command
from agents.config import RLConfig, suggest
from agents.vec_env import QAVecEnv
from policies.language_model import LMConfig, LSTMAttentionLM
from policies.reading import Reader
from qa_env.datasets import FactsConfig, QAExample, make_facts
from qa_env.errors import QAError
from qa_env.vector_env import QAVectorEnv
from qa_env.vocabulary import BOS, EOS, PAD, SEP, Vocabulary

FIELDS = ("figure", "value", "unit", "against", "against_value", "ratio", "runs")
ENDS = [PAD, BOS, SEP, EOS]
NEVER = -30.0


@dataclass(frozen=True)
class ThroughputCommand:
    """Measure tokens a second of rollout and update."""

    runs: int = 5
    """Alternating runs of ours and each other; four times as many where that one is fast too."""
    lanes: int = 96
    """Answers side by side."""
    device: str = "cpu"
    """cpu or cuda."""
    only: tuple[str, ...] = ()
    """Figures to measure; all of them if left out."""
    out: str = str(RESULTS / "throughput.csv")
    """The CSV file; a plot goes beside it."""


class Nothing(BaseCallback):
    """A callback that does nothing."""

    def _on_step(self) -> bool:
        return True


class PrefixExtractor(BaseFeaturesExtractor):
    """The language model as a plain features extractor: the whole prefix at every call."""

    def __init__(self, observation_space: Any, config: LMConfig, vocabulary: int) -> None:
        super().__init__(observation_space, config.hidden)
        self.lm = LSTMAttentionLM(config, vocabulary)
        self.reader = Reader(self.lm)

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        """The decoder's attentional vector behind the answer so far, ``(rows, hidden)``."""
        return self.reader.prefix(observation).features


class LastTokenExtractor(BaseFeaturesExtractor):
    """What an LSTM policy needs of an observation: the pooled question and the last token."""

    def __init__(self, observation_space: Any, config: LMConfig, vocabulary: int) -> None:
        super().__init__(observation_space, 2 * config.encoder_hidden + config.embedding)
        self.lm = LSTMAttentionLM(config, vocabulary)

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        """Both side by side, ``(rows, width)``."""
        source, answer = observation["source"].long(), observation["answer"].long()
        pooled = self.lm.encoder(source).amax(1)
        last = ((answer != PAD).sum(1) - 1).clamp(min=0)
        token = answer.gather(1, last.unsqueeze(1)).squeeze(1)
        return torch.cat((pooled, self.lm.embedding(token)), dim=1)


def reward(examples: Sequence[QAExample], answers: Sequence[str]) -> list[float]:
    """A cheap reward, the same for all."""
    return [len(answer) / 100 for answer in answers]


class Bench:
    """Makes the competitors for answers of one length.

    Args:
        lanes: Answers side by side.
        length: Tokens of an answer.
        device: Where the networks are.
    """

    def __init__(self, lanes: int, length: int, device: str = "cpu") -> None:
        self.lanes, self.length, self.device = lanes, length, device
        self.examples = make_facts(
            FactsConfig(labelled=10, unlabelled=2000, validation=10, test=10)
        ).unlabelled
        texts = [text for e in self.examples for text in (e.question, e.context or "", *e.answers)]
        self.vocabulary = Vocabulary.train(texts, 2048)
        self.config = LMConfig()
        self.steps = length * max(round(32 / length), 1)
        tokens = lanes * self.steps
        self.batch_size = tokens // max(round(tokens / 768), 1)

    def env(self, encoder: Any = None) -> QAVectorEnv:
        """An environment, tokens only unless there is an encoder."""
        return QAVectorEnv(
            self.lanes,
            data=self.examples,
            vocabulary=self.vocabulary,
            encoder=encoder,
            feedback=reward,
            max_answer=self.length,
        )

    def lm(self) -> LSTMAttentionLM:
        """A language model that hardly ever ends an answer, and does not copy the separator that would."""
        lm = LSTMAttentionLM(self.config, len(self.vocabulary), self.vocabulary.kinds)
        with torch.no_grad():
            lm.output_bias[ENDS] = NEVER
        return lm

    def model(self) -> PPO:
        """Our PPO."""
        lm = self.lm()
        config = RLConfig(
            n_envs=self.lanes, n_steps=self.steps, samples_per_question=1, batch_size=self.batch_size
        )
        common = {"policy_kwargs": {"lm": lm}, "seed": 0, "device": self.device}
        # On a GPU the encoder's outputs had better stay there.
        encoder = lm.encoder if self.device == "cpu" else None
        return make_ppo(VecMonitor(QAVecEnv(self.env(encoder))), config, common)

    def ours(self) -> Callable[[], int]:
        """Our PPO."""
        return iteration(self.model())

    def bfloat16(self) -> Callable[[], int]:
        """Our PPO with matrix products of lower precision."""
        iterate = self.ours()

        def once() -> int:
            torch.set_float32_matmul_precision("medium")
            try:
                return iterate()
            finally:
                torch.set_float32_matmul_precision("highest")

        return once

    def compiled(self) -> Callable[[], int]:
        """Our PPO with fused operations over the vocabulary."""
        model = self.model()
        lm = model.policy.lm  # type: ignore[attr-defined]
        lm.log_probabilities = torch.compile(lm.log_probabilities, dynamic=True)
        return iteration(model)

    def sb3_prefix(self) -> Callable[[], int]:
        """Stock PPO around the prefix extractor."""
        model = self._stock(PPO, "MultiInputPolicy", PrefixExtractor)
        return iteration(model)

    def recurrent_ppo(self) -> Callable[[], int]:
        """RecurrentPPO."""
        return iteration(self._stock(RecurrentPPO, "MultiInputLstmPolicy", LastTokenExtractor))

    def torch_loop(self) -> Callable[[], int]:
        """Plain torch."""
        answers = self.steps // self.length
        return TorchLoop(self.env(), self.lm(), answers, self.batch_size, self.device).iterate

    def _stock(self, algorithm: type[Any], policy: str, extractor: type[BaseFeaturesExtractor]) -> Any:
        kwargs: dict[str, Any] = {
            "features_extractor_class": extractor,
            "features_extractor_kwargs": {"config": self.config, "vocabulary": len(self.vocabulary)},
            "net_arch": [],
            "ortho_init": False,
        }
        if algorithm is RecurrentPPO:
            kwargs |= {
                "lstm_hidden_size": self.config.hidden,
                "shared_lstm": True,
                "enable_critic_lstm": False,
            }
        model = algorithm(
            policy,
            VecMonitor(QAVecEnv(self.env())),
            learning_rate=1e-4,
            n_steps=self.steps,
            batch_size=self.batch_size,
            n_epochs=1,
            gamma=1.0,
            policy_kwargs=kwargs,
            seed=0,
            device=self.device,
        )
        with torch.no_grad():
            model.policy.action_net.bias[ENDS] = NEVER
        return model


def iteration(model: Any) -> Callable[[], int]:
    """A function that does one rollout and one update, and returns the number of tokens."""
    _, callback = model._setup_learn(10**9, Nothing())

    def once() -> int:
        model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)
        model.train()
        return int(model.n_steps * model.n_envs)

    return once


def measured(
    ours: Callable[[], int], other: Callable[[], int], runs: int, patience: float = 20.0
) -> tuple[NDArray[np.float64], int]:
    """Median tokens a second of both, ``(2,)``, and the number of runs.

    They take turns; the first turn is not counted. Where a turn is short there are four times as many.
    """
    speeds: list[list[float]] = []
    begun = time.perf_counter()
    while len(speeds) <= runs or (len(speeds) <= 4 * runs and time.perf_counter() - begun < patience * runs):
        turn = []
        for iterate in (ours, other):
            start = time.perf_counter()
            tokens = iterate()
            turn.append(tokens / (time.perf_counter() - start))
        speeds.append(turn)
    return np.median(speeds[1:], axis=0), len(speeds) - 1


PAIRS = (
    ("ppo_share_of_torch_loop", 10, "torch_loop"),
    ("ppo_share_of_torch_loop_32", 32, "torch_loop"),
    ("ppo_over_ppo_in_bfloat16", 10, "bfloat16"),
    ("ppo_over_compiled_ppo", 10, "compiled"),
    ("ppo_over_sb3_prefix_10", 10, "sb3_prefix"),
    ("ppo_over_sb3_prefix_32", 32, "sb3_prefix"),
    ("ppo_over_recurrent_ppo", 10, "recurrent_ppo"),
)
"""Figures: their name, the answers' length, and with whom ours takes turns."""


def main(arguments: Sequence[str]) -> None:
    """Measure, print, write the CSV and the plot."""
    command = parse(ThroughputCommand, arguments, prog="python benchmarks/throughput.py")
    names = [figure for figure, _, _ in PAIRS]
    for name in command.only:
        if name not in names:
            raise QAError(f"unknown figure '{name}'{suggest(name, names)}")
    torch.manual_seed(0)
    rows: list[dict[str, Any]] = []
    for figure, length, name in PAIRS:
        if command.only and figure not in command.only:
            continue
        bench = Bench(command.lanes, length, command.device)
        (value, against), runs = measured(bench.ours(), getattr(bench, name)(), command.runs)
        row = (figure, value, "tokens/s", name, against, value / against, runs)
        rows.append(dict(zip(FIELDS, row, strict=True)))
        write_csv(command.out, FIELDS, rows)
        print(f"{figure}: {value:,.0f} to {against:,.0f} tokens/s, {value / against:.2f}", flush=True)
    plot(rows, Path(command.out).with_suffix(".png"))
    print(f"{command.lanes} lanes, {command.device}; {machine()}; every number is in {command.out}")


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Bars of tokens a second, ours and the other's."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(rows))
    axes.barh(places - 0.2, [row["value"] for row in rows], 0.4, label="ours")
    axes.barh(places + 0.2, [row["against_value"] for row in rows], 0.4, label="the other")
    axes.set_yticks(places, [row["figure"] for row in rows])
    axes.invert_yaxis()
    axes.set_title(machine(), fontsize=7)
    axes.set_xlabel("tokens a second, rollout and update")
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    run_command(main)
