"""What TensorBoard shows at the end: the report, sample answers and attention maps."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib
import torch
from matplotlib.figure import Figure as Plot
from matplotlib.font_manager import get_font_names
from stable_baselines3.common.logger import Figure, Logger

from agents.decoding import Limits, greedy
from qa_env.datasets import QAExample
from qa_env.task import encode_examples
from qa_env.vocabulary import EOS, PAD, Vocabulary

matplotlib.use("Agg")
WIDE_FONTS = ("Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC")
"""Fonts that have Chinese characters, which matplotlib's own has not; those that are installed are used."""
matplotlib.rcParams["font.family"] = ["sans-serif", *set(WIDE_FONTS).intersection(get_font_names())]
SAMPLES, MAPS = 12, 4


def log_samples(
    logger: Logger, examples: Sequence[QAExample], columns: dict[str, Sequence[str]], step: int
) -> None:
    """Questions and answers as a text table, a column each."""
    lines = ["| question | " + " | ".join(columns) + " | reference |", "|---" * (len(columns) + 2) + "|"]
    for row, example in enumerate(examples[:SAMPLES]):
        cells = [
            example.question,
            *(answers[row] for answers in columns.values()),
            (example.references or ("",))[0],
        ]
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    logger.record("eval/samples", "\n".join(lines), exclude=("stdout", "log", "json", "csv"))
    logger.dump(step)


def attention_map(policy: Any, vocabulary: Vocabulary, example: QAExample, limits: Limits) -> Plot:
    """Where each token of the greedy answer looked in the question and its context."""
    source, _ = encode_examples([example], vocabulary, limits.max_source)
    tokens = torch.as_tensor(greedy(policy, source, limits.max_answer), device=policy.device)
    with torch.no_grad():
        memory = policy.lm.encode(torch.as_tensor(source, device=policy.device))
        weights = policy.lm.unroll(tokens, memory).attention[0].cpu().numpy()
    read = [i for i in source[0] if i != PAD]
    written = [i for i in tokens[0].tolist() if i != PAD]
    names = [
        [vocabulary.decode([i]) or ("<eos>" if i == EOS else "|") for i in ids] for ids in (read, written)
    ]
    plot = Plot(figsize=(2 + 0.16 * len(read), 1.5 + 0.2 * len(written)), layout="constrained")
    axes = plot.add_subplot()
    axes.imshow(weights[: len(written), : len(read)], aspect="auto", cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(read)), names[0], rotation=90, fontsize=6, parse_math=False)
    axes.set_yticks(range(len(written)), names[1], fontsize=6, parse_math=False)
    return plot


def log_report(
    logger: Logger,
    model: Any,
    vocabulary: Vocabulary,
    examples: Sequence[QAExample],
    before: Sequence[str],
    after: Sequence[str],
    limits: Limits,
) -> None:
    """Sample answers before and after, and attention maps, at the last step."""
    for number, example in enumerate(examples[:MAPS]):
        plot = attention_map(model.policy, vocabulary, example, limits)
        logger.record(
            f"attention/{number}", Figure(plot, close=True), exclude=("stdout", "log", "json", "csv")
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # such a character is drawn as a box
        log_samples(logger, examples, {"before RL": before, "after RL": after}, model.num_timesteps)
