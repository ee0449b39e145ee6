"""Puts a run's human feedback together: store, budget, people, reward model."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from agents.asking import PEOPLE, Asker, Finished
from agents.augmentation import Augmentation
from agents.config import TrainConfig
from agents.decoding import DecodingConfig, decode
from agents.human_feedback import HumanFeedback
from agents.journal import Journal
from agents.reward_data import RewardData, render
from agents.reward_fitting import fit_reward_model
from agents.reward_model import RewardModel
from agents.routing import RoutedFeedback
from agents.simulated_people import SimulatedPeople
from agents.warm_start import Supervised
from policies.actor_critic import LMActorCriticPolicy
from policies.language_model import LSTMAttentionLM
from qa_env.datasets import QADataset, QAExample
from qa_env.feedback.annotator_config import PRESETS
from qa_env.feedback.annotators import SimulatedAnnotator, crowd
from qa_env.feedback.base import Feedback, FloatArray, FunctionFeedback
from qa_env.feedback.budget import Budget
from qa_env.feedback.labels import Judgement
from qa_env.feedback.simulated import SimulatedUsers
from qa_env.feedback.store import AnswerRecord, Store
from qa_env.task import encode_examples
from qa_env.vocabulary import Vocabulary


class RewardFitter:
    """Fits a run's reward models to labels; the labelled questions are further examples of good answers.

    Args:
        config: The run's settings.
        lm: The language model after the warm start; copied.
        labelled: The labelled questions.
        vocabulary: Of the language model.
        store: Knows who is an expert.
    """

    def __init__(
        self,
        config: TrainConfig,
        lm: LSTMAttentionLM,
        labelled: Supervised,
        vocabulary: Vocabulary,
        store: Store,
    ) -> None:
        self.config, self.labelled, self.store = config, labelled, store
        self.vocabulary, self.limits = vocabulary, config.limits
        self.least_labels = config.reward_model.least_labels
        self.trunk = copy.deepcopy(lm).cpu()

    def __call__(
        self,
        judgements: Sequence[Judgement],
        records: Mapping[str, AnswerRecord],
        corrected: Sequence[AnswerRecord],
        previous: RewardModel | None,
    ) -> RewardModel:
        """Fit a model to all that was said; see `agents.human_feedback.Fit`."""
        limits, model = self.config.limits, self.config.reward_model
        data = RewardData.from_judgements(judgements, records, self.vocabulary, limits, self.store.roles())
        source, tokens = self.labelled.source, self.labelled.tokens
        if corrected:
            examples = [QAExample(r.question_id, r.question, r.context, ()) for r in corrected]
            more = render(examples, [r.text for r in corrected], self.vocabulary, limits)
            source, tokens = np.concatenate([source, more[0]]), np.concatenate([tokens, more[1]])
        return fit_reward_model(
            data,
            (source, tokens),
            self.trunk,
            Augmentation(self.vocabulary, self.config.changes(model.renamed)),
            model,
            self.vocabulary,
            limits,
            self.config.seed,
            previous,
        )


def open_store(config: TrainConfig, folder: Path, vocabulary: Vocabulary) -> Store:
    """The store that the settings name, or one in the run's folder.

    Raises:
        QAError: If it cannot be used, or belongs to another vocabulary.
    """
    return Store(config.feedback_store or folder / "feedback.db", vocabulary.fingerprint)


def make_human_feedback(
    config: TrainConfig,
    folder: Path,
    store: Store,
    data: QADataset,
    vocabulary: Vocabulary,
    lm: LSTMAttentionLM,
    routed: RoutedFeedback,
    truth: Feedback,
) -> HumanFeedback:
    """The callback that asks people, or simulated annotators, during a run.

    Args:
        config: The run's settings.
        folder: Of the run.
        store: Where queries and labels are.
        data: The run's questions; those without labels are asked about.
        vocabulary: Of the run.
        lm: The language model after the warm start.
        routed: The environment's feedback.
        truth: What simulated annotators go by: what an answer is worth, from 0 to 1.
    """
    rng = np.random.default_rng([config.seed, 4])
    people = None
    if config.ask.annotators != PEOPLE:
        examples = {example.id: example for example in data.unlabelled}
        people = SimulatedPeople(simulated_annotators(config), truth, examples, config.seed)
    labelled = Supervised.from_examples(data.labelled, vocabulary, config.limits)
    return HumanFeedback(
        Asker(config.ask, data.unlabelled, rng),
        Budget(config.labels, config.budget),
        store,
        routed,
        RewardFitter(config, lm, labelled, vocabulary, store),
        config.guards,
        people,
        Journal(folder / "taken_in.jsonl"),
    )


def simulated_annotators(config: TrainConfig) -> list[SimulatedAnnotator]:
    """The simulated annotators that a run's settings name."""
    base = PRESETS[config.ask.annotators]
    if config.ask.crowd == 1:
        return [SimulatedAnnotator("simulated-01", base, config.seed)]
    return crowd(config.ask.crowd, base, config.seed)


def first_answers(
    policy: LMActorCriticPolicy, vocabulary: Vocabulary, config: TrainConfig, examples: Sequence[QAExample]
) -> list[Finished]:
    """Answers of the policy before RL, sampled as in rollouts: what the first queries are about.

    Twice as many as labels are asked for first, so that there is a choice; each to a question of its own, but
    two to a question where answers are compared.
    """
    to_each = 2 if config.ask.kind in ("pair", "ratings-and-pairs") else 1
    wanted = 2 * round(config.labels * config.budget.initial) // to_each + 1
    number = min(wanted, len(examples))
    rng = np.random.default_rng([config.seed, 5])
    chosen = rng.choice(len(examples), size=number, replace=False)
    rl = config.rl
    sampling = DecodingConfig("best-of-n", rl.temperature, rl.top_k, rl.top_p, n=to_each)
    generator = torch.Generator(policy.device).manual_seed(config.seed)
    source, _ = encode_examples([examples[i] for i in chosen], vocabulary, config.limits.max_source)
    answers: list[Finished] = []
    for first in range(0, number, 64):
        rows = decode(policy, source[first : first + 64], config.limits.max_answer, sampling, generator)
        for place, written in zip(chosen[first : first + 64].tolist(), rows, strict=True):
            texts = [vocabulary.decode(tokens) for tokens in written]
            answers += [Finished(place, text, -1, -1, np.nan, np.nan) for text in texts]
    return answers


def wish(users: SimulatedUsers) -> Feedback:
    """What an answer is worth to the average simulated user, without noise, from 0 to 1."""
    return FunctionFeedback(users.utility, "wish")


def reference(users: SimulatedUsers) -> Feedback:
    """The same as a reward, from -1 to 1."""

    def reward(examples: Sequence[QAExample], answers: Sequence[str]) -> FloatArray:
        return 2 * users.utility(examples, answers) - 1

    return FunctionFeedback(reward, "reference")
