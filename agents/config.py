"""Every setting of a training run, as dataclasses; `train.py` makes a command line of them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml
from stable_baselines3.common.utils import get_device

from agents.asking import AskConfig
from agents.augmentation import AugmentationConfig
from agents.decoding import Limits
from agents.guards import GuardConfig
from agents.preference_learning import DPOConfig, FilteredBCConfig
from agents.reward_model import RewardModelConfig
from agents.self_imitation import ImitationConfig
from agents.warm_start import WarmStartConfig
from policies.language_model import LMConfig
from policies.tokens import Sampling
from qa_env.datasets import FactsConfig
from qa_env.errors import QAError
from qa_env.feedback import SimulatedUsersConfig
from qa_env.feedback.budget import BudgetConfig
from qa_env.vocabulary_making import VocabularyConfig


@dataclass(frozen=True)
class SplitConfig:
    """How data of one's own is split; the built-in facts have their own splits."""

    labelled: int = 100
    """Questions whose reference answers the warm start may read."""
    validation: float = 0.1
    """Share of the questions for choosing the checkpoint, unless validation_data names them."""
    test: float = 0.2
    """Share of the questions for the report, unless test_data names them."""
    validation_data: str = ""
    """Questions for choosing the checkpoint: all that ``data`` may be but the facts. They are taken in random
    order, since files are sorted by passage and a run may look at the first `rl.eval_questions` only."""
    test_data: str = ""
    """Questions for the report: all that ``data`` may be but the facts."""
    seed: int = 0


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of pre-training on plain text, before the warm start."""

    language: float = 0.0
    """Share of the gradient steps for language modelling: the decoder writes a passage and reads nothing."""
    spans: float = 0.0
    """Share for span corruption: it writes the spans that are missing in a passage."""
    order: float = 0.0
    """Share for sentence order: it writes a passage whose sentences were shuffled."""
    cloze: float = 1.0
    """Share for cloze questions: it copies from a passage what is missing in a sentence."""
    noise_density: float = 0.15
    """Share of the words that are missing in span corruption."""
    mean_span: float = 3.0
    """Words of a missing span, on average."""
    dropped: float = 0.5
    """Share of the words that are left out of a cloze question."""
    steps: int = 2000
    """Gradient steps at most."""
    check_every: int = 200
    """Steps between two looks at the held-out text."""
    patience: int = 3
    """Looks without a better held-out loss before it stops."""
    batch_size: int = 32
    """Passages a gradient step."""
    learning_rate: float = 2e-3
    held_out: float = 0.05
    """Share of the passages that are held out."""

    def __post_init__(self) -> None:
        """Raise a QAError if a setting is out of its range."""
        shares = self.shares()
        if min(shares.values()) < 0 or sum(shares.values()) <= 0:
            told = ", ".join(f"{name} {share}" for name, share in shares.items())
            raise QAError(f"pretraining needs shares of 0 or more, one of them greater than 0; got {told}")
        for name in ("noise_density", "held_out"):
            if not 0 < getattr(self, name) < 1:
                raise QAError(f"pretraining.{name} must be between 0 and 1, got {getattr(self, name)}")
        if not 0 <= self.dropped < 1:
            raise QAError(f"pretraining.dropped must be from 0 to below 1, got {self.dropped}")
        for name in ("mean_span", "steps", "check_every", "batch_size"):
            if not getattr(self, name) >= 1:
                raise QAError(f"pretraining.{name} must be 1 or more, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise QAError(f"pretraining.learning_rate must be greater than 0, got {self.learning_rate}")

    def shares(self) -> dict[str, float]:
        """How much of each objective there is."""
        return {"language": self.language, "spans": self.spans, "order": self.order, "cloze": self.cloze}


@dataclass(frozen=True)
class InitConfig:
    """Which parts of another run's language model the run begins with."""

    encoder: bool = True
    """The encoder's recurrent weights and those of its attention to the question."""
    decoder: bool = True
    """The decoder with its attention and copying."""
    embedding: bool = True
    """The embeddings, which are the output layer too, and the output's biases, of tokens of the same text."""

    def parts(self) -> tuple[str, ...]:
        """The names of the chosen parts."""
        return tuple(name for name, chosen in dataclasses.asdict(self).items() if chosen)


@dataclass(frozen=True)
class QLearningConfig:
    """Settings that DQN and QR-DQN have beside those of `RLConfig`."""

    scale: float = 0.1
    """Reward that a nat of log-probability stands for: ``Q = V + scale * log pi``."""
    hysteresis: float = 0.1
    """Weight of errors that would lower an advantage, against those that raise it."""
    return_steps: int = 32
    """Rewards summed before a target bootstraps; from ``limits.max_answer`` on Monte-Carlo returns."""
    buffer_size: int = 200_000
    """Tokens that the replay buffer keeps."""
    gradient_steps: int = 8
    """Between two rollouts."""
    target_update_interval: int = 10_000
    """Tokens between two copies of the network to the target network."""
    exploration_initial: float = 1.0
    """Share of the lanes that sample from the language model instead of taking the best token."""
    exploration_final: float = 0.5
    n_quantiles: int = 8
    """Of QR-DQN."""
    demonstrations: bool = True
    """Begin with the labelled questions' reference answers in the replay buffer; they are rated too."""


@dataclass(frozen=True)
class RLConfig:
    """Settings of reinforcement learning."""

    algorithm: str = "ppo"
    """A name in `agents.algorithms.ALGORITHMS`, or ``module:attr``. Or dpo or filtered-bc, which learn from
    the labels in ``feedback_store``, without writing answers or asking anybody."""
    timesteps: int = 170_000
    """Tokens to write during training."""
    max_rated: int = 0
    """Stop when so many answers have been rated, if that is earlier; 0: no such limit."""
    n_envs: int = 96
    """Questions answered side by side."""
    samples_per_question: int = 2
    """Answers to each question, compared with one another; 1 compares with the critic alone."""
    retry: float = 0.3
    """Share of the questions that are asked again because no answer to them was good so far."""
    n_steps: int = 32
    """Tokens a lane writes between two updates."""
    batch_size: int = 768
    """Tokens a gradient step (whole answers of about this many)."""
    n_epochs: int = 1
    """Passes over a rollout."""
    learning_rate: float | None = None
    """At the start; it falls linearly to a tenth. None: the algorithm's own."""
    gae_lambda: float = 1.0
    clip_range: float = 0.2
    vf_coef: float = 0.5
    ent_coef: float = 0.0
    kl_coef: float = 0.01
    """Charge for each nat a token that the policy moves from the warm start."""
    trust_region: float = 0.01
    """TRPO's greatest KL divergence, in nats a token, between two policies in succession."""
    max_kl: float = 1.0
    """Mean nats a token from the warm start at which training backs off."""
    max_drop: float = 0.1
    """Fall of the validation score below its best at which training backs off."""
    eval_every: int = 12
    """Rollouts between two validations."""
    eval_questions: int = 256
    """Validation questions at each, at most; those of the warm start's validation too."""
    temperature: float = 0.7
    """Of sampling: below 1 there are fewer slips in wording among the answers that are rated well."""
    top_k: int = 0
    """Sample from the k likeliest tokens only; 0 samples from all."""
    top_p: float = 1.0
    """Sample from the fewest likeliest tokens of this probability together only; 1 samples from all."""
    q: QLearningConfig = field(default_factory=QLearningConfig)

    def sampling(self) -> Sampling:
        """How rollouts draw tokens; raises a QAError if a setting of it is out of its range."""
        return Sampling(self.temperature, self.top_k, self.top_p)


@dataclass(frozen=True)
class TrainConfig:
    """A training run."""

    data: str = "facts"
    """"facts" (built in); or a .jsonl, .csv or SQuAD .json file (or .gz of it), hf:NAME:SPLIT (Hugging Face),
    reasoning-gym:TASK:SIZE:SEED, or module:attr; or several of these, joined by commas."""
    facts: FactsConfig = field(default_factory=FactsConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    abstain: bool = False
    """Keep the questions that are marked unanswerable, or whose list of answers is there and empty, and give
    the vocabulary a token that is an answer of its own and says that there is none."""
    limits: Limits = field(default_factory=Limits)
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    vectors: str = ""
    """File of word vectors (GloVe, word2vec, fastText) that the embedding starts from."""
    init_from: str = ""
    """Another run, or one of its files of weights, that the language model starts from."""
    init: InitConfig = field(default_factory=InitConfig)
    pretrain: str = ""
    """Plain text to learn from before the warm start: a file (or .gz of it), a line a text; or "data", the
    passages of the run's own data; or several of these, joined by commas."""
    pretraining: PretrainConfig = field(default_factory=PretrainConfig)
    lm: LMConfig = field(default_factory=LMConfig)
    encoder: Literal["trained", "frozen", "frozen-bert", "tokens"] = "trained"
    """Who encodes during RL: the policy's own encoder in the environment, trained along; the same,
    frozen after the warm start, as a whole or only the BERT that was fine-tuned there; or no encoder in the
    environment."""
    feedback: str = "simulated"
    """"simulated" (users who rate every answer), "reward-model" (people label some answers, a model learns
    from them), "reference" (what the average simulated user thinks, without noise), a built-in reward (f1,
    exact_match, value, reasoning-gym, ...), or module:attr."""
    labels: int = 700
    """reward-model: how many labels people are asked for in all."""
    feedback_store: str = ""
    """reward-model: path or URL of the store of queries and labels; a file in the run's folder if empty.
    With dpo and filtered-bc: the store to learn from."""
    ask: AskConfig = field(default_factory=AskConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    reward_model: RewardModelConfig = field(default_factory=RewardModelConfig)
    guards: GuardConfig = field(default_factory=GuardConfig)
    users: SimulatedUsersConfig = field(default_factory=SimulatedUsersConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """Of examples, in the warm start and after; with lm.bert there is none."""
    warm_start: WarmStartConfig = field(default_factory=WarmStartConfig)
    rl: RLConfig = field(default_factory=RLConfig)
    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    dpo: DPOConfig = field(default_factory=DPOConfig)
    filtered_bc: FilteredBCConfig = field(default_factory=FilteredBCConfig)
    seed: int = 0
    device: str = "cpu"
    log_dir: str = "runs"
    """Folder in which the run's own folder is made."""

    def __post_init__(self) -> None:
        """Check what no part of the config checks itself.

        Raises:
            QAError: If one is out of its range, or there is no such device.
        """
        for name, least in LEAST.items():
            value = attrgetter(name)(self)
            if not value >= least:
                raise QAError(f"{name} must be {least} or more, got {value}")
        for name in ("warm_start.learning_rate", "rl.learning_rate", "rl.q.scale"):
            value = attrgetter(name)(self)
            if value is not None and not value > 0:
                raise QAError(f"{name} must be greater than 0, got {value}")
        for name in ("rl.q.exploration_initial", "rl.q.exploration_final"):
            if not 0 <= attrgetter(name)(self) <= 1:
                raise QAError(f"{name} must be from 0 to 1, got {attrgetter(name)(self)}")
        try:
            self.rl.sampling()
        except QAError as error:
            raise QAError(f"rl.{error}") from None
        if self.lm.bert and self.vocabulary.kind != VocabularyConfig.kind:
            raise QAError("lm.bert brings its own vocabulary: leave out vocabulary.kind")
        if self.lm.bert and self.pretrain:
            raise QAError("lm.bert has read much text already: leave out pretrain, or lm.bert")
        if self.encoder == "frozen-bert" and not (self.lm.bert and self.lm.bert_rate > 0):
            raise QAError(
                "encoder frozen-bert needs a BERT that is fine-tuned: give lm.bert and lm.bert_rate"
            )
        if not self.rl.retry < 1:
            raise QAError(f"rl.retry must be less than 1, got {self.rl.retry}")
        if not 1 <= self.rl.samples_per_question <= self.rl.n_envs:
            raise QAError(
                f"rl.samples_per_question must be from 1 to rl.n_envs={self.rl.n_envs}, "
                f"got {self.rl.samples_per_question}"
            )
        try:
            get_device(self.device)
        except RuntimeError:
            raise QAError(f"device must be cpu, cuda or auto, got '{self.device}'") from None

    def changes(self, renamed: float | None = None) -> AugmentationConfig:
        """How examples are changed: not at all with BERT, which knows its words from far more text.

        Args:
            renamed: Instead of the setting's own.
        """
        if self.lm.bert:
            return AugmentationConfig(0.0, 0.0)
        if renamed is None:
            return self.augmentation
        return dataclasses.replace(self.augmentation, renamed=renamed)


LEAST = {
    "seed": 0,
    "labels": 1,
    "lm.embedding": 1,
    "lm.encoder_hidden": 1,
    "lm.hidden": 1,
    "lm.bert_rate": 0,
    "warm_start.epochs": 0,
    "warm_start.batch_size": 1,
    "warm_start.critic_rollouts": 0,
    "rl.timesteps": 0,
    "rl.max_rated": 0,
    "rl.retry": 0,
    "rl.n_envs": 1,
    "rl.n_steps": 2,
    "rl.batch_size": 2,
    "rl.n_epochs": 1,
    "rl.eval_every": 1,
    "rl.eval_questions": 1,
    "rl.q.hysteresis": 0,
    "rl.q.return_steps": 1,
    "rl.q.buffer_size": 1,
    "rl.q.gradient_steps": 1,
    "rl.q.target_update_interval": 1,
    "rl.q.n_quantiles": 2,
}
"""The smallest value of a setting."""


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain nested dicts."""
    return dataclasses.asdict(config)


def from_dict(cls: type[Any], values: Mapping[str, Any], where: str = "") -> Any:
    """Build a config dataclass from nested dicts.

    Raises:
        QAError: If there is an unknown field (the nearest name is suggested) or one of a wrong type.
    """
    if not isinstance(values, Mapping):
        raise QAError(f"{where.rstrip('.') or 'the config'} must be a mapping of fields, got {values!r:.60}")
    hints = get_type_hints(cls)
    known = {f.name: hints[f.name] for f in dataclasses.fields(cls)}
    built: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise QAError(f"unknown field '{where}{key}'{suggest(str(key), list(known))}")
        kind = known[key]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            built[key] = from_dict(kind, value, f"{where}{key}.")
        else:
            built[key] = _checked_type(value, kind, f"{where}{key}")
    return cls(**built)


def _checked_type(value: Any, kind: Any, name: str) -> Any:
    """`value` if it is of the field's type; an int will do for a float."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise QAError(f"field '{name}' must be one of {', '.join(get_args(kind))}; got {value!r}")
        return value
    if isinstance(kind, UnionType):  # with None
        return None if value is None else _checked_type(value, get_args(kind)[0], name)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise QAError(f"field '{name}' must be of type {kind.__name__}, got {value!r:.60}")
    return value


def suggest(name: str, known: list[str]) -> str:
    """`"; did you mean 'x'?"`, or the list of what there is."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(sorted(known))}"


def load_config(path: str | Path) -> TrainConfig:
    """Read a YAML (or JSON) file of config fields.

    Raises:
        QAError: If the file is missing or malformed, or has an unknown field.
    """
    if not Path(path).is_file():
        raise QAError(f"no config file {path}")
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise QAError(f"{path} is no YAML file: {' '.join(str(error).split()):.120}") from None
    config: TrainConfig = from_dict(TrainConfig, values or {})
    return config
