"""Which algorithm learns from stored labels, without RL: a plain dict from names to what prepares it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from agents.config import TrainConfig
from agents.offline import OfflineAlgorithm
from agents.preference_learning import DPO, FilteredBC
from agents.stored_labels import StoredLabels
from agents.warm_start import Supervised
from policies.actor_critic import LMActorCriticPolicy
from qa_env.vocabulary import Vocabulary

MakeOffline = Callable[..., OfflineAlgorithm]
"""Makes the algorithm, given policy_kwargs, augmentation, seed and device."""
Prepare = Callable[[TrainConfig, StoredLabels, Supervised, Vocabulary], MakeOffline]
"""``(config, labels, labelled questions, vocabulary) -> make``; a QAError if nothing can be learned."""


def prepare_dpo(
    config: TrainConfig, labels: StoredLabels, labelled: Supervised, vocabulary: Vocabulary
) -> MakeOffline:
    """Direct preference optimisation."""
    data = labels.preferences(vocabulary, config.limits)
    return partial(DPO, LMActorCriticPolicy, None, data, config.dpo)


def prepare_filtered_bc(
    config: TrainConfig, labels: StoredLabels, labelled: Supervised, vocabulary: Vocabulary
) -> MakeOffline:
    """Filtered behaviour cloning."""
    data = labels.answers(vocabulary, config.limits)
    data.good(config.filtered_bc.threshold)  # now, so that a mistake shows before the warm start
    return partial(FilteredBC, LMActorCriticPolicy, None, data, config.filtered_bc, labelled=labelled)


OFFLINE: dict[str, Prepare] = {"dpo": prepare_dpo, "filtered-bc": prepare_filtered_bc}
