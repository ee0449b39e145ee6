"""Writing answers outside the environment: greedy, sampled, by beam search, or the best of n."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agents.beam import BeamSearch
from policies.actor_critic import LMActorCriticPolicy
from policies.language_model import DecoderState, LSTMAttentionLM, Memory
from policies.tokens import Sampling, draw
from qa_env.datasets import QAExample
from qa_env.errors import QAError
from qa_env.feedback.base import Feedback
from qa_env.feedback.loading import FeedbackSource, as_feedback, score_checked
from qa_env.task import encode_examples
from qa_env.vocabulary import BOS, EOS, FORBIDDEN, PAD, Vocabulary

BATCH = 256
"""Answers decoded side by side."""

Choose = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""``(log_probabilities, finished) -> (origin, token)``: what the lanes write next.

The language model's log-probabilities are ``(lanes, vocabulary)``, the others ``(lanes,)``. Lane i goes on
with the answer of lane ``origin[i]``, which is one to the same question, and appends ``token[i]``, unless
that answer is finished.
"""


@dataclass(frozen=True)
class Limits:
    """Longest source and answer, in tokens."""

    max_source: int = 144
    max_answer: int = 32


SETTINGS_OF = {
    "greedy": (),
    "sample": ("temperature", "top_k", "top_p", "seed"),
    "beam": ("beams", "length_penalty"),
    "best-of-n": ("n", "temperature", "top_k", "top_p", "seed"),
}
"""Which settings a method of decoding has."""


@dataclass(frozen=True)
class DecodingConfig:
    """How answers are written."""

    method: Literal["greedy", "sample", "beam", "best-of-n"] = "greedy"
    """The likeliest token at each step; tokens drawn by chance; the best of the answers that beam search
    finds; or n sampled answers of which a feedback source chooses one."""
    temperature: float = 1.0
    """sample, best-of-n: below 1 is sharper."""
    top_k: int = 0
    """sample, best-of-n: draw from the k likeliest tokens only; 0 draws from all."""
    top_p: float = 1.0
    """sample, best-of-n: draw from the fewest likeliest tokens of this probability; 1 draws from all."""
    seed: int = 0
    """sample, best-of-n: the same seed draws the same answers."""
    n: int = 8
    """best-of-n: answers sampled to each question."""
    beams: int = 4
    """beam: beginnings of an answer kept side by side."""
    length_penalty: float = 0.6
    """beam: 0 ranks answers by their log-likelihood, which favours short ones; the more, the longer."""

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            QAError: If one is out of its range, or belongs to another method.
        """
        if self.method not in SETTINGS_OF:
            raise QAError(f"decoding.method must be one of {', '.join(SETTINGS_OF)}; got '{self.method}'")
        for field in dataclasses.fields(self)[1:]:
            value = getattr(self, field.name)
            if value != field.default and field.name not in SETTINGS_OF[self.method]:
                of = " or ".join(method for method, names in SETTINGS_OF.items() if field.name in names)
                raise QAError(f"decoding.{field.name} is for decoding.method {of}, not for {self.method}")
        for name in ("n", "beams"):
            if getattr(self, name) < 1:
                raise QAError(f"decoding.{name} must be 1 or more, got {getattr(self, name)}")
        if not 0 <= self.length_penalty <= 10:
            raise QAError(f"decoding.length_penalty must be from 0 to 10, got {self.length_penalty}")
        if not 0 <= self.seed < 2**63:
            raise QAError(f"decoding.seed must be 0 or more and less than 2^63, got {self.seed}")
        try:
            self.sampling()
        except QAError as error:
            raise QAError(f"decoding.{error}") from None

    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        return Sampling(self.temperature, self.top_k, self.top_p)

    @property
    def lanes(self) -> int:
        """Answers that are written to each question."""
        return {"beam": self.beams, "best-of-n": self.n}.get(self.method, 1)


GREEDY = DecodingConfig()


def greedy(policy: LMActorCriticPolicy, source: NDArray[np.int64], max_answer: int) -> NDArray[np.int64]:
    """The likeliest token at every step, as `policy.predict(..., deterministic=True)` in the environment.

    Args:
        policy: Whose language model writes.
        source: Source ids, ``(batch, source)``.
        max_answer: Longest answer, EOS included.

    Returns:
        Ids with EOS, PAD behind, ``(batch, max_answer)``.
    """
    return decode(policy, source, max_answer, GREEDY)[:, 0]


@torch.no_grad()
def decode(
    policy: LMActorCriticPolicy,
    source: NDArray[np.int64],
    max_answer: int,
    config: DecodingConfig = GREEDY,
    generator: torch.Generator | None = None,
) -> NDArray[np.int64]:
    """Answers to a batch of questions.

    Args:
        policy: Whose language model writes.
        source: Source ids, ``(batch, source)``.
        max_answer: Longest answer, EOS included.
        config: How the answers are written.
        generator: Chance, on the policy's device; torch's own if left out.

    Returns:
        Ids with EOS, PAD behind, ``(batch, answers, max_answer)``: of beam search all beams, the best first;
        of best-of-n all that were sampled; of the others one.

    Raises:
        QAError: If there are more beams than tokens to write.
    """
    tokens = policy.lm.vocabulary - len(FORBIDDEN) - (policy.lm.abstain != EOS)
    if config.method == "beam" and config.beams > tokens:
        raise QAError(
            f"decoding.beams must be at most {tokens}, the tokens of the vocabulary; got {config.beams}"
        )
    memory = policy.lm.encode(torch.as_tensor(source, device=policy.device))
    if config.lanes > 1:
        memory = memory.select(
            torch.arange(len(source), device=policy.device).repeat_interleave(config.lanes)
        )
    choose: Choose
    if config.method == "greedy":
        choose = likeliest(policy.sampling)
    elif config.method == "beam":
        penalty, abstain = config.length_penalty, policy.lm.abstain
        choose = BeamSearch(len(source), config.beams, max_answer, penalty, policy.device, abstain)
    else:
        choose = sampled(config.sampling(), generator)
    written = write(policy.lm, memory, max_answer, choose).cpu().numpy()
    return written.reshape(len(source), config.lanes, max_answer)


def write(lm: LSTMAttentionLM, memory: Memory, max_answer: int, choose: Choose) -> Tensor:
    """Write answers until all are finished; ids with EOS, PAD behind, ``(lanes, max_answer)``."""
    lanes, device = len(memory.source), memory.source.device
    state = lm.start(memory)
    token = torch.full((lanes,), BOS, device=device)
    tokens = torch.full((lanes, max_answer), PAD, device=device)
    finished = torch.zeros(lanes, dtype=torch.bool, device=device)
    for time in range(max_answer):
        decoded, state = lm.step(token, state, memory)
        origin, token = choose(lm.log_probabilities(decoded)[:, 0], finished)
        state = DecoderState(*(part[origin] for part in state))
        tokens, finished = tokens[origin], finished[origin]
        tokens[:, time] = token.masked_fill(finished, PAD)
        finished = finished | (token == EOS) | (token == lm.abstain)
        if bool(finished.all()):
            break
    return tokens


def likeliest(sampling: Sampling) -> Choose:
    """Every lane writes its likeliest token."""

    def choose(log_probabilities: Tensor, finished: Tensor) -> tuple[Tensor, Tensor]:
        lanes = torch.arange(len(finished), device=finished.device)
        return lanes, sampling.log_probs(log_probabilities).argmax(1)

    return choose


def sampled(sampling: Sampling, generator: torch.Generator | None) -> Choose:
    """Every lane draws its token, as in a rollout."""

    def choose(log_probabilities: Tensor, finished: Tensor) -> tuple[Tensor, Tensor]:
        lanes = torch.arange(len(finished), device=finished.device)
        return lanes, draw(sampling.log_probs(log_probabilities), generator)

    return choose


def answer_all(
    policy: LMActorCriticPolicy,
    vocabulary: Vocabulary,
    examples: Sequence[QAExample],
    limits: Limits,
    config: DecodingConfig = GREEDY,
    feedback: FeedbackSource | None = None,
) -> list[str]:
    """Answers to all the examples, as text.

    Args:
        policy: Whose language model writes.
        vocabulary: Its tokens.
        examples: The questions.
        limits: Longest source and answer.
        config: How the answers are written; greedily if left out.
        feedback: Who chooses among n sampled answers; see `as_feedback`.

    Raises:
        QAError: If there is a feedback source and nothing to choose for it, or the other way round, or it
            cannot judge the answers.
    """
    if (feedback is not None) != (config.method == "best-of-n"):
        raise QAError(
            f"decoding.method {config.method} takes no feedback: leave it out, or take best-of-n"
            if feedback is not None
            else "decoding.method best-of-n needs a feedback to choose by: a name, or module:attr"
        )
    chooser = None if feedback is None else as_feedback(feedback)
    source, _ = encode_examples(examples, vocabulary, limits.max_source)
    generator = torch.Generator(policy.device).manual_seed(config.seed)
    size = max(BATCH // config.lanes, 1)
    answers: list[list[str]] = []  # of each question
    for start in range(0, len(source), size):
        batch = decode(policy, source[start : start + size], limits.max_answer, config, generator)
        answers += [[vocabulary.decode(row) for row in rows] for rows in batch]
    best = [0] * len(answers) if chooser is None else best_answers(chooser, examples, answers, config.seed)
    return [texts[i] for texts, i in zip(answers, best, strict=True)]


def best_answers(
    feedback: Feedback, examples: Sequence[QAExample], answers: Sequence[Sequence[str]], seed: int
) -> list[int]:
    """Which of the answers to each question the feedback rewards most, the first of equals.

    Args:
        feedback: Judges all the answers in one batch.
        examples: The questions, length ``batch``.
        answers: As many to each question.
        seed: Of the feedback's own chance.

    Raises:
        QAError: If the feedback cannot judge them.
    """
    asked = [example for example, texts in zip(examples, answers, strict=True) for _ in texts]
    given = [text for texts in answers for text in texts]
    rngs = np.random.default_rng(seed).spawn(len(given))
    try:
        reward = score_checked(feedback, asked, given, rngs).reward
    except QAError:
        raise
    except Exception as error:
        if all(example.references for example in examples):
            raise
        raise QAError(
            f"feedback '{feedback.name}' fails where there is no reference answer ({error!r:.80}): "
            "choose by one that needs none"
        ) from error
    return [int(i) for i in reward.reshape(len(answers), -1).argmax(1)]
