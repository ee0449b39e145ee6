"""Metrics for answers in free wording: how much of a reference's text an answer says, in its order.

Exact match and F1 (`qa_env.feedback.text`) suit answers that are a span of the passage. Where people have
worded the answers themselves, these two tell more of how near an answer is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from rapidfuzz.distance import Indel

from qa_env.feedback.text import tokens

if TYPE_CHECKING:
    from sacrebleu.metrics.chrf import CHRF


def rouge_l(answer: str, references: Sequence[str]) -> float:
    """Return ROUGE-L, the F-measure of the longest common subsequence of words, the best over references.

    Lin (2004, "ROUGE: A Package for Automatic Evaluation of Summaries"), precision and recall weighted
    alike. The words are those of `token_f1`, so each CJK character is one. With the length L of the longest
    common subsequence of m and n words it is ``2 L / (m + n)``, which is the similarity that goes with the
    distance of insertions and deletions, ``m + n - 2 L``.

    No references: 0.0. An answer without words: 1.0 if a reference is empty too, else 0.0.
    """
    said = tokens(answer)
    if not said:
        return float("" in references)
    return max((Indel.normalized_similarity(said, tokens(text)) for text in references), default=0.0)


def chrf(answer: str, references: Sequence[str]) -> float:
    """Return chrF in [0, 1], the F2 of character n-grams of 1 to 6, the best over references.

    Popović (2015, "chrF: character n-gram F-score for automatic MT evaluation"), by sacreBLEU: blanks do
    not count; case and punctuation do, since it reads the texts as they are written. Orders that the answer
    or the reference is too short for are left out.

    No references: 0.0. An answer without words: 1.0 if a reference is empty too, else 0.0.
    """
    if not references or not tokens(answer):
        return float("" in references)
    return float(_chrf().sentence_score(answer, references).score) / 100


@lru_cache(maxsize=1)
def _chrf() -> CHRF:
    """Imported where it is needed, since that takes longer than all other metrics together."""
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
