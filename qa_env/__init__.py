"""Question answering, one token at a time, as a Gymnasium environment.

``import qa_env`` registers ``qa_env/QA-v0`` for `gymnasium.make` and `gymnasium.make_vec`.
"""

from gymnasium.envs.registration import register

register(
    id="qa_env/QA-v0",
    entry_point="qa_env.env:QAEnv",
    vector_entry_point="qa_env.vector_env:QAVectorEnv",
)
