"""Weights go to files and come back, wherever they lie in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from agents.algorithms import make_ppo
from agents.config import RLConfig, TrainConfig
from agents.runs import Run
from agents.vec_env import QAVecEnv
from policies.language_model import LSTMAttentionLM
from qa_env.encoders import LSTMEncoder
from qa_env.errors import QAError
from qa_env.vector_env import QAVectorEnv
from qa_env.vocabulary import Vocabulary


@pytest.fixture
def run(tmp_path: Path, vocabulary: Vocabulary) -> Run:
    run = Run.create(TrainConfig(log_dir=str(tmp_path)))
    run.save_vocabulary(vocabulary, [])
    return run


def in_one_piece(module: nn.Module) -> nn.Module:
    """The module with all its LSTMs' weights in one piece of memory each, as cuDNN wants them."""
    for lstm in module.modules():
        if isinstance(lstm, nn.LSTM):
            memory = torch.cat([p.detach().reshape(-1) for p in lstm.parameters()])
            start = 0
            for parameter in lstm.parameters():
                part = memory[start : start + parameter.numel()]
                parameter.data = part.view_as(parameter)
                start += parameter.numel()
    return module


def test_weights_that_share_memory_come_back(run: Run, new_lm: Callable[..., LSTMAttentionLM]) -> None:
    lm, other = in_one_piece(new_lm(seed=0)), in_one_piece(new_lm(seed=1))
    run.save_weights(lm, "lm.safetensors")
    run.load_weights(other, "lm.safetensors")
    for name, tensor in lm.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


def test_an_encoder_whose_weights_share_memory_can_be_saved(
    tmp_path: Path, new_lm: Callable[..., LSTMAttentionLM]
) -> None:
    encoder = in_one_piece(new_lm().encoder)
    assert isinstance(encoder, LSTMEncoder)
    encoder.save(tmp_path / "encoder.safetensors")
    loaded = LSTMEncoder.load(tmp_path / "encoder.safetensors").state_dict()
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(loaded[name], tensor), name


def test_a_file_that_lacks_or_adds_a_weight_is_refused(
    run: Run, new_lm: Callable[..., LSTMAttentionLM]
) -> None:
    run.save_weights(new_lm(copy=False), "plain.safetensors")
    run.save_weights(new_lm(), "copying.safetensors")
    with pytest.raises(QAError, match=r"lacks generate_gate\.weight, generate_gate\.bias"):
        run.load_weights(new_lm(), "plain.safetensors")
    with pytest.raises(QAError, match=r"also has generate_gate\.bias, generate_gate\.weight"):
        run.load_weights(new_lm(copy=False), "copying.safetensors")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use")
@pytest.mark.parametrize("setting", ["trained", "frozen", "tokens"])
def test_on_a_gpu_it_trains_saves_and_loads(run: Run, new_task: Any, setting: str) -> None:
    lm, task = new_task(setting)
    lm.to("cuda")
    config = RLConfig(n_envs=4, n_steps=8, batch_size=16)
    common = {"policy_kwargs": {"lm": lm}, "seed": 0, "device": "cuda"}
    model = make_ppo(QAVecEnv(QAVectorEnv(4, **task)), config, common)
    model.learn(64)
    run.save_weights(model.policy, "policy.safetensors")
    run.load_weights(model.policy, "policy.safetensors")
    assert all(torch.isfinite(p).all() for p in model.policy.parameters())
