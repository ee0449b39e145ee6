"""Learning: warm start, Stable-Baselines3 algorithms, buffers, callbacks, evaluation, command lines."""
