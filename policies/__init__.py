"""The language model, and the Stable-Baselines3 policies that wrap it."""

from policies.actor_critic import AnswerBatch, LMActorCriticPolicy
from policies.language_model import LMConfig, LSTMAttentionLM

__all__ = ["AnswerBatch", "LMActorCriticPolicy", "LMConfig", "LSTMAttentionLM"]
