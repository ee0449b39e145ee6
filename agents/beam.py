"""Beam search over answers, batched over questions and beams."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from policies.tokens import Sampling
from qa_env.vocabulary import EOS


class BeamSearch:
    """Chooses the next tokens so that a question's lanes hold the best beginnings of its answer.

    A beginning of n tokens, or a finished answer (which stays among them), is as good as
    ``log p / ((5 + n) / 6) ** length_penalty`` (Wu et al. 2016, "Google's Neural Machine Translation System",
    equation 14, without the coverage penalty). What no longer can become better than a finished answer is
    given up, so that a question is over when its best answer is certain. A single beam is greedy decoding.

    Args:
        questions: How many questions are answered side by side.
        beams: Lanes a question; those of one question stand together.
        max_answer: Longest answer, EOS included.
        length_penalty: 0 ranks by the log-likelihood itself, which favours short answers.
        device: Where the lanes are.
        abstain: See `Vocabulary`.

    Attributes:
        total: The log-likelihood of each lane's tokens, ``(questions, beams)``, the best lane first; -inf
            for a lane that was given up.
    """

    def __init__(
        self,
        questions: int,
        beams: int,
        max_answer: int,
        length_penalty: float,
        device: torch.device,
        abstain: int = EOS,
    ) -> None:
        self.beams, self.max_answer, self.length_penalty = beams, max_answer, length_penalty
        self.abstain = abstain
        self.total = torch.full((questions, beams), -math.inf, device=device)
        self.total[:, 0] = 0  # all lanes begin alike: one of them is enough
        self.length = torch.zeros_like(self.total)
        self._first = torch.arange(0, questions * beams, beams, device=device).unsqueeze(1)

    def __call__(self, log_probabilities: Tensor, finished: Tensor) -> tuple[Tensor, Tensor]:
        """The lanes' next tokens and where they come from; see `agents.decoding.Choose`."""
        scores, tokens = Sampling().log_probs(log_probabilities).topk(self.beams, dim=1)
        stays = torch.full_like(scores[0], -math.inf)
        stays[0] = 0  # a finished answer has one continuation: itself
        scores = torch.where(finished.unsqueeze(1), stays, scores)
        shape = (len(self.total), self.beams * self.beams)
        total = (self.total.view(-1, 1) + scores).view(shape)
        length = self.length + ~finished.view_as(self.total)
        length = length.repeat_interleave(self.beams, dim=1)
        chosen = self._quality(total, length).topk(self.beams, dim=1).indices
        self.total, self.length = total.gather(1, chosen), length.gather(1, chosen)
        origin = (self._first + chosen // self.beams).flatten()
        token = tokens.view(shape).gather(1, chosen).flatten()
        lost = self._lost(finished[origin] | (token == EOS) | (token == self.abstain))
        return origin, token.masked_fill(lost, EOS)

    def _lost(self, finished: Tensor) -> Tensor:
        """Give up the lanes ``(lanes,)`` that cannot overtake a finished one any more.

        A log-likelihood only falls, and the penalty is the mildest for the longest answer.
        """
        finished = finished.view_as(self.total)
        best = self._quality(self.total, self.length).masked_fill(~finished, -math.inf).amax(1, keepdim=True)
        within_reach = self._quality(self.total, torch.full_like(self.length, self.max_answer))
        lost = ~finished & (within_reach < best)
        self.total = self.total.masked_fill(lost, -math.inf)
        return lost.flatten()

    def _quality(self, total: Tensor, length: Tensor) -> Tensor:
        return total / ((5 + length) / 6) ** self.length_penalty
