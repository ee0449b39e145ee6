"""A finished run, read back from its folder: for answering, and for evaluation on other data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.bert import FREEZING, WARM_START, freeze, make_language_model
from agents.config import TrainConfig
from agents.decoding import GREEDY, DecodingConfig, Limits, answer_all
from agents.evaluation import Judge
from agents.runs import Run
from policies.actor_critic import LMActorCriticPolicy
from policies.language_model import LSTMAttentionLM
from qa_env.datasets import QAExample
from qa_env.feedback import FeedbackSource, SimulatedUsers
from qa_env.feedback.fluency import FluencyModel
from qa_env.task import QATask
from qa_env.vocabulary import Vocabulary

BEST = "model.safetensors"
PRETRAINED = "pretrained.safetensors"
"""The weights after pre-training, which is before the warm start."""
BEFORE_RL = (PRETRAINED, WARM_START)


@dataclass(frozen=True)
class LoadedRun:
    """What a run has learned, on the CPU.

    Attributes:
        config: The run's settings.
        vocabulary: Its tokenizer.
        policy: Its policy, for writing answers.
        fluency: Its frozen judge of wording.
        judge: Measures answers as the run's own report did.
    """

    config: TrainConfig
    vocabulary: Vocabulary
    policy: LMActorCriticPolicy
    fluency: FluencyModel
    judge: Judge

    def answers(
        self,
        examples: Sequence[QAExample],
        decoding: DecodingConfig = GREEDY,
        feedback: FeedbackSource | None = None,
    ) -> list[str]:
        """Answers, one an example.

        Args:
            examples: The questions.
            decoding: How the answers are written; greedily if left out.
            feedback: Who chooses among n sampled answers: what `as_feedback` takes, or "simulated" for the
                run's simulated users.

        Raises:
            QAError: If the feedback does not go with the decoding, or cannot judge the answers.
        """
        chooser = self.judge.users if feedback == "simulated" else feedback
        return answer_all(self.policy, self.vocabulary, examples, self.config.limits, decoding, chooser)


def load_policy(run: Run, name: str = BEST, outputs: Path | None = None) -> LoadedRun:
    """Read a run's policy and what goes with it.

    Args:
        run: The run.
        name: The file of weights: `BEST`, `WARM_START` or another in the run's folder.
        outputs: Where a frozen BERT's outputs are kept; None keeps none.

    Raises:
        QAError: If a file is missing or broken, or does not fit the others.
    """
    config = run.config()
    vocabulary, lm = read_language_model(run, name, outputs)
    fluency = run.fluency()
    policy = new_policy(lm, vocabulary, config.limits)
    policy.set_training_mode(False)
    judge = Judge(fluency, SimulatedUsers(config.users, fluency))
    return LoadedRun(config, vocabulary, policy, fluency, judge)


def new_policy(lm: LSTMAttentionLM, vocabulary: Vocabulary, limits: Limits) -> LMActorCriticPolicy:
    """A policy around a language model, for writing answers and for supervised learning."""
    nothing = [QAExample("nothing", "")]  # the spaces depend on the vocabulary and the limits alone
    task = QATask(nothing, vocabulary, None, "f1", **dataclasses.asdict(limits))
    return LMActorCriticPolicy(task.observation_space, task.action_space, lambda _: 0.0, lm=lm)


def read_language_model(
    run: Run, name: str, outputs: Path | None = None
) -> tuple[Vocabulary, LSTMAttentionLM]:
    """Read a run's language model and the vocabulary that it belongs to.

    Args:
        run: The run.
        name: As for `load_policy`.
        outputs: As for `load_policy`.

    Raises:
        QAError: As `load_policy`.
    """
    config = run.config()
    vocabulary = run.vocabulary()
    lm = make_language_model(config, vocabulary, run, outputs)
    if config.encoder in FREEZING and name not in BEFORE_RL:
        run.load_language_model(lm, WARM_START)  # whose encoder it is, BERT included
        freeze(lm, config, outputs)  # as after the warm start: a frozen encoder has its own embedding
    run.load_language_model(lm, name)
    return vocabulary, lm
