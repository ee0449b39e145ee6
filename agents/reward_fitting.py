"""Fitting a reward model to labels, each network to all but a part, by which it is then calibrated."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.augmentation import Augmentation
from agents.calibration import Calibration
from agents.decoding import Limits
from agents.reward_data import FloatArray, IntArray, RewardData
from agents.reward_model import RewardModel, RewardModelConfig, answer_batch
from agents.reward_network import RewardEnsemble, RewardNetwork
from agents.warm_start import bucketed
from policies.language_model import LSTMAttentionLM
from policies.optimizers import make_optimizer
from qa_env.errors import QAError
from qa_env.feedback.aggregation import Terms
from qa_env.vocabulary import Vocabulary

TEMPERATURES = np.geomspace(0.2, 5, 41)
CONSTANTS = np.linspace(-4, 4, 81)
"""Qualities that a constant model may give all answers."""
FAR = 10.0
"""Logits that stand for an infinite cut point."""
LEAST_CHANCE = 1e-6
"""Of a label, so that its logarithm stays finite."""


def fit_reward_model(
    data: RewardData,
    demonstrations: tuple[IntArray, IntArray],
    lm: LSTMAttentionLM,
    augmentation: Augmentation,
    config: RewardModelConfig,
    vocabulary: Vocabulary,
    limits: Limits,
    seed: int,
    previous: RewardModel | None = None,
) -> RewardModel:
    """Fit each network to all labels but those of its fold, and calibrate with what it foretells there.

    Every label is held out from one network, so that a few hundred labels suffice to see whether the model
    may be trusted (cross-fitting; Stone 1974, "Cross-Validatory Choice and Assessment of Statistical
    Predictions").

    Args:
        data: The labels.
        demonstrations: Source and answer ids of answers known to be good, from which the trunk learns too.
        lm: The language model whose copy is the trunk of the first fit.
        augmentation: Changes questions and answers anew in each pass; what is said of them stays true.
        config: Settings.
        vocabulary: Of the language model.
        limits: Longest source and answer.
        seed: Of everything drawn.
        previous: Where a later fit goes on from; it is not changed.

    Raises:
        QAError: If fewer than two questions have labels, so that none can be held out.
    """
    if len(data) < 2:
        raise QAError(f"a reward model needs labels of two questions at least, got {len(data)}")
    torch.manual_seed(seed)
    network = RewardEnsemble(lm, config.members, config.dropout)
    if previous is not None:
        network.load_state_dict(previous.network.state_dict())
    network.to(next(lm.parameters()).device)
    fold = data.folds(config.folds, seed)
    epochs = config.epochs if previous is None else config.refit_epochs
    for place, member in enumerate(network.networks):
        kept = data.of(np.flatnonzero(fold != place)).with_demonstrations(*demonstrations)
        _train(member, kept, augmentation, config, epochs, np.random.default_rng([seed, place]))
    version = 1 if previous is None else previous.version + 1
    model = RewardModel(network, config, vocabulary, limits, version)
    model.scale, model.good_enough = data.scale, data.good_enough
    _calibrate(model, data, fold)
    return model


def _train(
    network: RewardNetwork,
    data: RewardData,
    augmentation: Augmentation,
    config: RewardModelConfig,
    epochs: int,
    rng: np.random.Generator,
) -> None:
    """Minimise the loss of one network."""
    network.train()
    optimizer = make_optimizer(network, config.learning_rate)
    batches = [rows for _ in range(epochs) for rows in bucketed(data.source, config.batch_size, rng)]
    for done, questions in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (1 - done / len(batches))
        loss = _loss(network, data.of(questions).augmented(augmentation, rng), config.imitation)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    network.eval()


def _loss(network: RewardNetwork, data: RewardData, imitation: float) -> Tensor:
    """Minus the log-likelihood of the labels, and of the good answers' tokens.

    Args:
        network: To be trained.
        data: A minibatch.
        imitation: Weight of the tokens.
    """
    device = next(network.parameters()).device
    batch, ids = answer_batch(data.source, data.question, data.tokens, device)
    quality, likelihood = network(batch, ids)
    # An answer that is rather good than bad counts by its chance, as in filtered behaviour cloning.
    likely = np.where(data.good > 0.5, data.good, 0.0)
    good = torch.as_tensor(likely, dtype=torch.float32, device=device)[batch.answer]
    loss: Tensor = -imitation * (good * likelihood).sum() / good.sum().clamp(min=1)
    if len(data.rows.first):
        weight = torch.as_tensor(data.rows.weight, dtype=torch.float32, device=device)
        log_p = label_log_likelihood(quality.unsqueeze(1), data.rows).squeeze(1)
        loss = loss - (log_p * weight).sum() / weight.sum()
    return loss


def label_log_likelihood(quality: Tensor, rows: Terms) -> Tensor:
    """The log-probability of labels ``(rows, members)`` if answers have qualities ``(answers, members)``."""

    def column(values: NDArray[Any]) -> Tensor:
        return torch.as_tensor(values, dtype=quality.dtype, device=quality.device).unsqueeze(1)

    second = torch.as_tensor(rows.second, device=quality.device)
    compared = quality[second.clamp(min=0)] * (second >= 0).unsqueeze(1)
    z = column(rows.scale) * (quality[torch.as_tensor(rows.first, device=quality.device)] - compared)
    meant = torch.sigmoid(column(rows.high) - z) - torch.sigmoid(column(rows.low) - z)
    lapse = column(rows.lapse)
    chance: Tensor = (1 - lapse) * meant + lapse * column(rows.uniform)
    return chance.clamp(min=LEAST_CHANCE).log()


def _calibrate(model: RewardModel, data: RewardData, fold: IntArray) -> None:
    """Set temperature and calibration from the held-out labels, if there are enough.

    Args:
        model: Whose network ``n`` was not fitted to fold ``n``.
        data: All labels.
        fold: The fold of each question, ``(questions,)``; with fewer networks than folds some are no one's.
    """
    questions = np.flatnonzero(fold < model.config.members)
    held_out, owner = data.of(questions), fold[questions]
    rows = held_out.rows
    if len(data.rows.first) < model.config.least_labels or len(rows.first) < 2:
        return
    every = model.qualities(held_out.source[held_out.question], held_out.tokens)
    raw = np.take_along_axis(every, owner[held_out.question][:, None], axis=1)
    share = rows.weight / rows.weight.sum()

    def losses(quality: FloatArray) -> FloatArray:
        log_p: FloatArray = label_log_likelihood(torch.as_tensor(quality), rows).squeeze(1).numpy()
        return -log_p

    tempered = [losses(model.tempered(raw, float(t))) for t in TEMPERATURES]
    best = int(np.argmin([share @ loss for loss in tempered]))
    model.temperature = float(TEMPERATURES[best])
    constant = min((losses(c * np.ones_like(raw)) for c in CONSTANTS), key=lambda loss: float(share @ loss))
    gained = constant - tempered[best]
    margin = np.sqrt((share**2 @ (gained - share @ gained) ** 2) * len(gained) / (len(gained) - 1))
    predicted, said = outcomes(model.tempered(raw, model.temperature)[:, 0], held_out)
    log_loss, constant_loss = float(share @ tempered[best]), float(share @ constant)
    model.calibration = Calibration.of(predicted, said, log_loss, constant_loss, float(margin))


def outcomes(quality: FloatArray, data: RewardData) -> tuple[FloatArray, FloatArray]:
    """Labels as yes or no: predicted chances and what was said, each ``(rows,)``; half for a tie.

    A label of one answer says yes if it is on the side of 4 and 5 of its rater's scale; a comparison if the
    first answer is better.
    """
    rows = data.rows
    single = rows.second < 0
    middle = (
        rows.low.clip(-FAR, FAR) + rows.high.clip(-FAR, FAR)
    ) / 2 - rows.scale * data.good_enough * single
    compared = np.where(single, data.good_enough, quality[rows.second])
    predicted = 1 / (1 + np.exp(-rows.scale * (quality[rows.first] - compared)))
    return predicted, np.where(np.abs(middle) < 1e-9, 0.5, middle > 0)
