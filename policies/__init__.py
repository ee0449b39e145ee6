"""The language model, and the Stable-Baselines3 policies that wrap it."""

from policies.actor_critic import LMActorCriticPolicy
from policies.language_model import LMConfig, LSTMAttentionLM
from policies.q_network import LMDQNPolicy, LMQRDQNPolicy
from policies.reading import AnswerBatch

__all__ = [
    "AnswerBatch",
    "LMActorCriticPolicy",
    "LMConfig",
    "LMDQNPolicy",
    "LMQRDQNPolicy",
    "LSTMAttentionLM",
]
