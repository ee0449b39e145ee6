"""One training run from data to report: text, vocabulary, language model, warm start, RL, evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import get_device, set_random_seed
from stable_baselines3.common.vec_env import VecMonitor

from agents.algorithms import begin_at, find_algorithm, language_model, set_reference
from agents.asking import PEOPLE
from agents.augmentation import Augmentation
from agents.bert import freeze, make_language_model, write_outputs
from agents.buffers import AnswerRolloutBuffer
from agents.checks import OF_USERS, REWARD_MODEL, check_names, try_feedback
from agents.config import TrainConfig
from agents.data import fluency_sentences, load_dataset, training_texts
from agents.decoding import answer_all
from agents.evaluation import METRICS, Judge, checkpoint_score, results_table
from agents.human_feedback import HumanFeedback
from agents.language import choose_vocabulary, fit_fluency
from agents.learning import Learner, learn_offline
from agents.loading import PRETRAINED
from agents.offline import OfflineAlgorithm
from agents.offline_algorithms import OFFLINE, MakeOffline, Prepare
from agents.people import first_answers, make_human_feedback, open_store, reference, wish
from agents.plain_text import learned_texts, pretraining_texts
from agents.pretraining import Corpus, pretrain, reporter
from agents.reports import log_report
from agents.routing import RoutedFeedback
from agents.runs import Run, Stopwatch
from agents.self_imitation import SelfImitation
from agents.stored_labels import StoredLabels
from agents.transfer import transfer
from agents.vec_env import QAVecEnv
from agents.warm_start import Supervised, negative_log_likelihood, warm_start
from agents.word_vectors import start_from_vectors
from policies.actor_critic import LMActorCriticPolicy
from policies.language_model import LSTMAttentionLM
from qa_env.bert import KeptOutputs
from qa_env.datasets import QADataset, QAExample
from qa_env.feedback import SimulatedUsers
from qa_env.feedback.base import Feedback
from qa_env.feedback.fluency import FluencyModel
from qa_env.feedback.loading import as_feedback
from qa_env.feedback.store import Store
from qa_env.task import QATask
from qa_env.vector_env import QAVectorEnv
from qa_env.vocabulary import Vocabulary

OUTPUTS = "bert_outputs"
"""Folder beside the runs' own, for what BERT models say of sources."""
START = "rl_start.safetensors"
"""The weights with which RL began, where people's first labels have changed those of the warm start."""


class Trainer:
    """Runs the stages in order; each can be taken up again from the run's folder.

    Args:
        config: The settings.
        run: Where everything is saved.
        console: Where progress is told.
    """

    def __init__(self, config: TrainConfig, run: Run, console: Console) -> None:
        self.config, self.run, self.console = config, run, console
        self.watch = Stopwatch()
        self.episodes = 0
        self.labels = 0

    def train(self) -> dict[str, Any]:
        """Run all the stages and return the content of ``results.json``."""
        check_names(self.config)
        set_random_seed(self.config.seed)
        with self.watch.stage("data"):
            self.data = self._rateable(load_dataset(self.config))
            for note in self.data.notes:
                self._tell(note)
            if self.config.abstain and not any(example.unanswerable for example in self.data.labelled):
                self._tell("no labelled question is unanswerable: the warm start cannot teach to abstain")
            if self.config.feedback not in OF_USERS:
                try_feedback(as_feedback(self.config.feedback), self.data.labelled)
            self.vocabulary, self.fluency = self._language()
            if self.config.feedback == REWARD_MODEL:  # now, so that a mistake shows before the warm start
                self.store = open_store(self.config, self.run.folder, self.vocabulary)
            if self.config.rl.algorithm in OFFLINE:
                self.make_offline = self._prepare_offline(OFFLINE[self.config.rl.algorithm])
        self.judge = Judge(self.fluency, SimulatedUsers(self.config.users, self.fluency))
        self.logger = configure(str(self.run.folder), ["tensorboard"])
        outputs = Path(self.config.log_dir) / OUTPUTS
        lm = make_language_model(self.config, self.vocabulary, self.run, outputs)
        if isinstance(lm.encoder.contextual, KeptOutputs):
            self._tell(f"BERT reads each source once, which takes time; what it says is kept in {outputs}")
        before = self._warm_start(lm)
        freeze(lm, self.config, outputs)
        if self.run.has(START) and self.run.has("checkpoint/state.json"):
            self.run.load_language_model(lm, START)
        model = self._make_model(lm)
        answers_before = before.pop("answers")
        self._learn(model)
        with self.watch.stage("evaluation"):
            self.run.load_language_model(language_model(model), "model.safetensors")
            answers = self._answers(model.policy, self.data.test)
            after = self.judge.report(self.data.test, answers)
        write_outputs(lm)
        log_report(
            self.logger, model, self.vocabulary, self.data.test, answers_before, answers, self.config.limits
        )
        return self._finish(before, after, answers_before, answers)

    def _rateable(self, data: QADataset) -> QADataset:
        """The data without the unlabelled questions that simulated users have nothing to rate by."""
        by_people = self.config.feedback == REWARD_MODEL and self.config.ask.annotators == PEOPLE
        if self.config.feedback not in OF_USERS or by_people:
            return data
        rateable = tuple(e for e in data.unlabelled if e.references or e.metadata.get("value") is not None)
        left_out = len(data.unlabelled) - len(rateable)
        if left_out:
            self._tell(
                f"{left_out} of {len(data.unlabelled)} unlabelled questions have no reference answer for the "
                "simulated users to rate by: left out"
            )
        return dataclasses.replace(data, unlabelled=rateable)

    def _tell(self, text: str) -> None:
        """Print a line as it is: no markup, no breaks inside a path."""
        self.console.print(text, markup=False, soft_wrap=True)

    def _language(self) -> tuple[Vocabulary, FluencyModel]:
        """The vocabulary and the judge of wording: made from training text, or read when resuming."""
        if self.run.has("fluency.safetensors"):
            vocabulary = self.run.vocabulary()
            return vocabulary, self.run.fluency()
        vocabulary = choose_vocabulary(self.config, learned_texts(self.config, self.data))
        self.run.save_vocabulary(vocabulary, self.data.collection)
        fluency = fit_fluency(fluency_sentences(self.data), vocabulary, self.config.seed)
        self.run.save_fluency(fluency)
        self._tell(
            f"{len(self.data.labelled)} labelled, {len(self.data.unlabelled)} unlabelled, "
            f"{len(self.data.validation)} validation, {len(self.data.test)} test questions; "
            f"vocabulary of {len(vocabulary)} tokens"
        )
        return vocabulary, fluency

    def _warm_start(self, lm: LSTMAttentionLM) -> dict[str, Any]:
        """Supervised training, unless the run has it already; the report before RL."""
        task = QATask(
            self.data.test, self.vocabulary, lm.encoder, "f1", **dataclasses.asdict(self.config.limits)
        )
        policy = LMActorCriticPolicy(task.observation_space, task.action_space, lambda _: 0.0, lm=lm)
        policy.to(get_device(self.config.device))
        if self.run.has("before.json"):
            self.run.load_language_model(lm, "warm_start.safetensors")
            saved = self.run.read_json("before.json")
            self.watch.seconds = saved.pop("seconds")
            return saved
        self._begin(policy)
        with self.watch.stage("warm_start"):
            self._supervise(policy)
        write_outputs(lm)
        self.run.save_weights(lm, "warm_start.safetensors")
        with self.watch.stage("evaluation"):
            answers = self._answers(policy, self.data.test)
            report: dict[str, Any] = {**self.judge.report(self.data.test, answers), "answers": answers}
        self.run.write_json("before.json", {**report, "seconds": self.watch.seconds})
        self._tell("before RL: " + ", ".join(f"{m} {report[m]:.3f}" for m in METRICS))
        return report

    def _begin(self, policy: LMActorCriticPolicy) -> None:
        """What the language model knows before the first question, unless the run has it already."""
        config = self.config
        if self.run.has(PRETRAINED):
            self.run.load_language_model(policy.lm, PRETRAINED)
            self.watch.seconds = self.run.read_json("pretrain.json")["seconds"]
            return
        with self.watch.stage("warm_start"):
            if config.vectors:
                texts = training_texts(self.data)
                self._tell(str(start_from_vectors(policy.lm, self.vocabulary, config.vectors, texts)))
            if config.init_from:
                self._tell(str(transfer(policy.lm, self.vocabulary, config)))
        if config.pretrain:
            with self.watch.stage("pretrain"):
                texts = pretraining_texts(config, self.data)
                settings, limits, seed = config.pretraining, config.limits, config.seed
                corpus = Corpus.from_texts(texts, self.vocabulary, settings, limits, seed)
                done = pretrain(policy, corpus, settings, seed, reporter(self._tell, self.logger))
            self.run.write_json("pretrain.json", {**dataclasses.asdict(done), "seconds": self.watch.seconds})
            self.run.save_weights(policy.lm, PRETRAINED)
            self._tell(str(done))

    def _supervise(self, policy: LMActorCriticPolicy) -> None:
        train = Supervised.from_examples(self.data.labelled, self.vocabulary, self.config.limits)
        held_out = self.data.validation[: self.config.rl.eval_questions]
        validation = Supervised.from_examples(held_out, self.vocabulary, self.config.limits)
        settings = self.config.warm_start
        if train.cut:
            self._tell(
                f"{train.cut} of {len(self.data.labelled)} labelled examples are longer than the limits "
                f"({self.config.limits.max_source} source, {self.config.limits.max_answer} answer tokens): "
                "some sentences of them and all answers too long are left out"
            )

        def validate() -> float:
            if settings.choose_by == "score":
                return 1 - self._validate(policy)["score"]
            return negative_log_likelihood(policy, validation)

        def report(epoch: int, loss: float, missing: float) -> None:
            by_score = settings.choose_by == "score"
            name, value = ("score", 1 - missing) if by_score else ("loss", missing)
            self.logger.record("warm_start/loss", loss)
            self.logger.record(f"warm_start/validation_{name}", value)
            self.logger.dump(epoch)
            self.console.print(
                f"warm start, epoch {epoch + 1}: loss {loss:.3f}, validation {name} {value:.3f}"
            )

        augmentation = Augmentation(self.vocabulary, self.config.changes())
        warm_start(policy, train, validate, augmentation, settings, self.config.seed, report)

    def _prepare_offline(self, prepare: Prepare) -> MakeOffline:
        """Read the store's labels; what makes the algorithm that learns from them."""
        with Store(self.config.feedback_store, must_exist=True) as store:
            labels = StoredLabels.read(store)
        self.labels = len(labels.judgements)
        labelled = Supervised.from_examples(self.data.labelled, self.vocabulary, self.config.limits)
        return prepare(self.config, labels, labelled, self.vocabulary)

    def _make_model(self, lm: LSTMAttentionLM) -> BaseAlgorithm:
        """The environment of unlabelled questions and the algorithm that learns in it.

        An offline algorithm has no environment.
        """
        config = self.config
        common: dict[str, Any] = {
            "policy_kwargs": {"lm": lm, **dataclasses.asdict(config.rl.sampling())},
            "seed": config.seed,
            "device": config.device,
        }
        if config.rl.algorithm in OFFLINE:
            model: BaseAlgorithm = self.make_offline(
                augmentation=Augmentation(self.vocabulary, config.changes()), **common
            )
            model.set_logger(self.logger)
            return model
        env = QAVectorEnv(
            config.rl.n_envs,
            samples_per_question=config.rl.samples_per_question,
            retry=config.rl.retry,
            data=self.data.unlabelled,
            vocabulary=self.vocabulary,
            encoder=None if config.encoder == "tokens" else lm.encoder,
            feedback=self._feedback(),
            **dataclasses.asdict(config.limits),
        )
        if env.task.cut_sources:
            self._tell(
                f"{env.task.cut_sources} of {len(env.task.examples)} unlabelled examples are longer than "
                f"{config.limits.max_source} source tokens: some sentences are left out"
            )
        model = find_algorithm(config.rl.algorithm)(VecMonitor(QAVecEnv(env)), config.rl, common)
        model.set_logger(self.logger)
        buffer = getattr(model, "rollout_buffer", None)
        if isinstance(buffer, AnswerRolloutBuffer):
            buffer.keeps_memory = config.encoder == "frozen"
        set_reference(model)
        return model

    def _feedback(self) -> Feedback:
        match self.config.feedback:
            case "simulated":
                return self.judge.users
            case "reference":
                return reference(self.judge.users)
            case "reward-model":
                fallback = self.config.ask.fallback
                return RoutedFeedback(as_feedback(fallback) if fallback else None)
            case name:
                return as_feedback(name)

    def _people(self, model: BaseAlgorithm) -> HumanFeedback | None:
        """Who asks people during RL, if anybody does."""
        assert model.env is not None
        routed = model.env.get_attr("task", indices=0)[0].feedback
        if not isinstance(routed, RoutedFeedback):
            return None
        lm = language_model(model)
        people = make_human_feedback(
            self.config, self.run.folder, self.store, self.data, self.vocabulary, lm, routed, self._truth()
        )
        people.init_callback(model)
        if not self.run.has("checkpoint/state.json"):
            with self.watch.stage("first_labels"):
                assert isinstance(model.policy, LMActorCriticPolicy)
                answers = first_answers(model.policy, self.vocabulary, self.config, self.data.unlabelled)
                people.prepare(answers, self.config.ask.wait)
            if people.version is not None and people.trusted:
                # The trunks were taught the good answers; the policy need not begin where it knows less.
                begin_at(model, people.version.network.average())
                self.run.save_weights(language_model(model), START)
            self._tell_of(people)
        return people

    def _truth(self) -> Feedback:
        """What simulated annotators go by."""
        return wish(self.judge.users)

    def _tell_of(self, people: HumanFeedback) -> None:
        model = people.version
        told = f"{people.budget.given} first labels"
        if model is not None:
            trust = "serves" if model.trusted else "does not serve yet"
            told += f"; reward model: {model.calibration.accuracy:.3f} of {model.calibration.labels} "
            told += f"held-out labels foretold, {trust}"
        self._tell(told)

    def _learn(self, model: BaseAlgorithm) -> None:
        """The learning that follows; the best weights are in the run's ``model.safetensors`` then."""
        if isinstance(model, OfflineAlgorithm):
            validate = lambda: self._validate(model.policy)  # noqa: E731
            learn_offline(self.config, self.run, model, validate, self.watch, self.console)
            return
        people, imitation = self._people(model), self._imitation(model)
        begins = not self.run.has("checkpoint/state.json")
        if people is not None and imitation is not None and people.trusted and begins:
            for source, tokens, reward in zip(*people.labelled(), strict=True):
                imitation.hear(source, tokens, float(reward))
        learner = Learner(
            self.config,
            self.run,
            model,
            people,
            imitation,
            self.data.labelled,
            lambda: self._validate(model.policy),
            self.watch,
            self.console,
        )
        self.episodes = learner.learn()
        self.labels = 0 if people is None else people.budget.given

    def _imitation(self, model: BaseAlgorithm) -> SelfImitation | None:
        """The self-imitation callback, if it is switched on and the algorithm keeps whole answers."""
        buffer = getattr(model, "rollout_buffer", None)
        settings = self.config.imitation
        modelled = self.config.feedback == REWARD_MODEL
        wanted = settings.batches_and_threshold(modelled)[0] > 0 or settings.epochs > 0
        if not wanted or not isinstance(buffer, AnswerRolloutBuffer):
            return None
        labelled = Supervised.from_examples(self.data.labelled, self.vocabulary, self.config.limits)
        augmentation = Augmentation(self.vocabulary, self.config.changes())
        return SelfImitation(settings, labelled, augmentation, self.config.seed, modelled)

    def _validate(self, policy: Any) -> dict[str, float]:
        examples = self.data.validation[: self.config.rl.eval_questions]
        measured = self.judge.measure(examples, self._answers(policy, examples))
        metrics = {name: float(values.mean()) for name, values in measured.items()}
        return {**metrics, "score": checkpoint_score(metrics, examples)}

    def _answers(self, policy: Any, examples: Sequence[QAExample]) -> list[str]:
        return answer_all(policy, self.vocabulary, examples, self.config.limits)

    def _finish(
        self, before: dict[str, float], after: dict[str, float], answers_before: list[str], answers: list[str]
    ) -> dict[str, Any]:
        """Write and print the report."""
        seconds = {**self.watch.seconds, "total": sum(self.watch.seconds.values())}
        results = {
            "before": before,
            "after": after,
            "seconds": seconds,
            "episodes": self.episodes,
            "labels": self.labels,
            **({"pretrain": self.run.read_json("pretrain.json")} if self.config.pretrain else {}),
            "config": dataclasses.asdict(self.config),
        }
        self.run.write_json("results.json", results)
        columns = {"before RL": before, "after RL": after}
        self.console.print(results_table(columns, f"{len(answers)} test questions"))
        for example, old, new in list(zip(self.data.test, answers_before, answers, strict=True))[:12]:
            self._tell(f"Q: {example.question}\n   before: {old}\n   after:  {new}")
        stages = ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
        told = f"{self.episodes} rated answers; {stages}; everything is in {self.run.folder}"
        self._tell(told)
        return results
