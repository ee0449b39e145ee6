"""Learning: warm start, Stable-Baselines3 algorithms, buffers, callbacks, evaluation, command lines."""

import os

# oneDNN keeps what it has compiled for each shape that an LSTM has met, 1,024 of them: in training, where
# nearly every minibatch has a shape of its own, that is about a gigabyte which is hardly ever used again.
# It reads the variable when it first compiles something.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")
