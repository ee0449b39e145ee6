"""Fitting a reward model to labels, and calibrating it on labels of other questions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.augmentation import Augmentation
from agents.calibration import Calibration
from agents.decoding import Limits
from agents.reward_data import FloatArray, IntArray, RewardData, Rows
from agents.reward_model import RewardModel, RewardModelConfig, answer_batch
from agents.reward_network import RewardNetwork
from agents.warm_start import bucketed
from policies.language_model import LSTMAttentionLM
from qa_env.errors import QAError
from qa_env.vocabulary import Vocabulary

TEMPERATURES = np.geomspace(0.2, 5, 41)
CONSTANTS = np.linspace(-4, 4, 81)
"""Qualities that a constant model may give all answers."""
FAR = 10.0
"""Logits that stand for an infinite cut point."""
LEAST_CHANCE = 1e-6
"""Of a label, so that its logarithm stays finite."""
LEAST_SPREAD = 0.05
"""Of the scores that set the reward's scale: scores that are all alike must not become huge rewards."""


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
    """Fit a reward model to labels, and calibrate it on labels of other questions.

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
    trunk = lm if previous is None else previous.network.lm
    network = RewardNetwork(trunk, config.members, config.dropout)
    if previous is not None:
        network.load_state_dict(previous.network.state_dict())
    network.to(next(lm.parameters()).device)
    kept, held_out = data.split(config.held_out, seed)
    epochs = config.epochs if previous is None else config.refit_epochs
    _train(network, kept.with_demonstrations(*demonstrations), augmentation, config, epochs, seed)
    version = 1 if previous is None else previous.version + 1
    model = RewardModel(network, config, vocabulary, limits, version)
    model.scale, model.good_enough = data.scale, data.good_enough
    _calibrate(model, kept, held_out)
    if previous is not None and previous.trusted:
        model.centre, model.spread = previous.centre, previous.spread
    else:
        mean = model.judge(data.source[data.question], data.tokens).mean
        model.centre, model.spread = float(mean.mean()), max(float(mean.std()), LEAST_SPREAD)
    return model


def _train(
    network: RewardNetwork,
    data: RewardData,
    augmentation: Augmentation,
    config: RewardModelConfig,
    epochs: int,
    seed: int,
) -> None:
    """Minimise the loss of all heads; each sees every question as often as its own bootstrap says."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(data), np.full(len(data), 1 / len(data)), size=config.members).T
    bootstrap = torch.as_tensor(drawn, dtype=torch.float32)
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    batches = [rows for _ in range(epochs) for rows in bucketed(data.source, config.batch_size, rng)]
    for done, questions in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (1 - done / len(batches))
        part = data.of(questions).augmented(augmentation, rng)
        loss = _loss(network, part, bootstrap[questions], config.imitation)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    network.eval()


def _loss(network: RewardNetwork, data: RewardData, bootstrap: Tensor, imitation: float) -> Tensor:
    """Minus the log-likelihood of the labels, and of the good answers' tokens.

    Args:
        network: The trunk and its heads.
        data: A minibatch.
        bootstrap: How much each question counts for each head, ``(questions, members)``.
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
        counts = bootstrap.to(device)[batch.question][data.rows.first]
        weight = torch.as_tensor(data.rows.weight, dtype=torch.float32, device=device)
        log_p = label_log_likelihood(quality, data.rows)
        loss = loss - (log_p * counts * weight.unsqueeze(1)).sum() / (log_p.shape[1] * weight.sum())
    return loss


def label_log_likelihood(quality: Tensor, rows: Rows) -> Tensor:
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


def _calibrate(model: RewardModel, kept: RewardData, held_out: RewardData) -> None:
    """Set temperature and calibration from the held-out labels, if there are enough."""
    rows = held_out.rows
    if len(kept.rows.first) + len(rows.first) < model.config.least_labels or len(rows.first) < 2:
        return
    raw = model.qualities(held_out.source[held_out.question], held_out.tokens).mean(1, keepdims=True)

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
