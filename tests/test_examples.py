"""The scripts in `examples/`, run as they are shipped with tiny budgets."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from examples import cleanrl_ppo, gymnasium_vectors, maskable_ppo, recurrent_ppo
from qa_env.env import QAEnv
from qa_env.vocabulary import EOS

ROOT = Path(__file__).parents[1]
TASK = {"data": ROOT / "examples/echo.jsonl", "encoder": None, "max_source": 8, "max_answer": 6}


def test_maskable_ppo_learns_to_use_the_words_it_was_given() -> None:
    before, after = maskable_ppo.main(timesteps=2048)
    assert after > before + 0.1


def test_the_narrow_mask_allows_the_source_and_eos_and_nothing_forbidden() -> None:
    env = maskable_ppo.OnlySourceTokens(QAEnv(**TASK))
    observation, _ = env.reset(seed=0)
    source = {int(i) for i in observation["source"]} - {0}
    assert set(np.flatnonzero(env.action_masks())) == source | {EOS}


def test_recurrent_ppo_learns_with_the_last_token_only() -> None:
    before, after = recurrent_ppo.main(timesteps=2048)
    assert after > before + 0.1


def test_the_single_file_ppo_improves_its_reward() -> None:
    rewards = cleanrl_ppo.main(cleanrl_ppo.Args(timesteps=4096, update_epochs=3))
    assert len(rewards) == 4
    assert rewards[-1] > rewards[0] + 0.05


def test_single_file_advantages_end_with_the_answer() -> None:
    rewards, values = torch.tensor([[0.0], [1.0], [0.0]]), torch.tensor([[0.5], [0.25], [0.75]])
    dones = torch.tensor([[0.0], [1.0], [0.0]])
    found = cleanrl_ppo.advantages(rewards, values, dones, torch.tensor([0.5]), gae_lambda=0.5)
    # The second step: 1 - 0.25, with nothing of the next question's value behind it.
    torch.testing.assert_close(found, torch.tensor([[-0.25 + 0.5 * 0.75], [0.75], [-0.25]]))


def test_every_kind_of_vector_environment_trains_alike() -> None:
    rewards = gymnasium_vectors.main(timesteps=128)
    assert rewards["async"] == rewards["sync"]
    assert rewards["subproc"] == pytest.approx(rewards["sync"])  # its monitor rounds otherwise


def test_rl_zoo3_trains_and_evaluates_with_the_shipped_settings(tmp_path: Path) -> None:
    """The command is read from the settings file, so that what stands there is what is tested."""
    text = (ROOT / "examples/zoo_ppo.yml").read_text()
    command = re.findall(r"^#   python (.*?)--eval-freq 2000$", text, re.DOTALL | re.MULTILINE)[0]
    words = command.replace("\\\n#", "").replace('"', "").split()
    tiny = "--n-timesteps 256 --eval-freq 128 --eval-episodes 2 -params n_steps:16 --seed 0 --num-threads 1"
    done = subprocess.run(
        [sys.executable, "-W", "error", *words, *tiny.split(), "-f", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Eval num_timesteps=128" in done.stdout
    assert (tmp_path / "ppo/qa_env-QA-v0_1/best_model.zip").is_file()
