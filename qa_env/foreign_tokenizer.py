"""Tokenizers that were made elsewhere, for a BERT model or another, laid out as a `Vocabulary` needs them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models

from qa_env.errors import QAError

# Blanks that word pieces have lost count of, and that nobody writes. The rules are English spelling.
_NOT_WRITTEN = (
    r" (?=[.,:;!?%)\]}”])",
    r"(?<=[(\[{$£€“]) ",
    r"(?<=\d[.:])(?<!\d{4}\.) (?=\d)|(?<=\d,) (?=\d{3}(?!\d))",  # 6.5, 12:30, 1,535; not "in 1984. 5 people"
    r" (?=[-–/] ?\w)",
    r"(?<=[\w)][-–/]) ",  # well-known
    r" (?=['’] ?(?:s|t|m|d|ll|ve|re)\b)",
    r"(?<=\w['’]) (?=(?:s|t|m|d|ll|ve|re)\b)",  # Anne's, don't
    r"(?<=\b\w\.) (?=\w\b)",  # U.S.
)


def lay_out(tokenizer: Tokenizer, special: tuple[str, ...]) -> Tokenizer:
    """A copy whose first ids are the `special` tokens, all others behind in their own order, without gaps.

    Padding, cutting to a length and special tokens around a text, which tokenizer files of BERT models
    prescribe, are switched off. Word pieces are written without the blanks around punctuation.

    Args:
        tokenizer: Of any kind: word pieces, byte pairs, words, or a unigram model.
        special: Tokens to put in front; those that the tokenizer has already are moved there.

    Raises:
        QAError: If it is of a kind that is not known here.
    """
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    content |= {"truncation": None, "padding": None, "post_processor": None}
    ids: dict[str, int] = tokenizer.get_vocab()
    others = sorted((token for token in ids if token not in special), key=ids.__getitem__)
    order = {token: place for place, token in enumerate((*special, *others))}
    model = content["model"]
    if model["type"] == "Unigram":
        known = list(model["vocab"])
        scores = {token: score for token, score in known}
        unknown = known[model["unk_id"]][0] if model["unk_id"] is not None else None
        model["vocab"] = [(token, scores.get(token, 0.0)) for token in order]
        model["unk_id"] = None if unknown is None else order[unknown]
    elif model["type"] in ("WordPiece", "WordLevel", "BPE"):
        model["vocab"] = order
    else:
        raise QAError(
            f"expected a tokenizer of kind WordPiece, BPE, WordLevel or Unigram, got {model['type']}"
        )
    added = {token["content"]: token for token in content["added_tokens"]}
    for token in special:
        rules = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        added[token] = {"content": token, "special": True, **rules}
    content["added_tokens"] = sorted(
        ({**token, "id": order[name]} for name, token in added.items()), key=lambda token: int(token["id"])
    )
    copy: Tokenizer = Tokenizer.from_str(json.dumps(content))
    if isinstance(copy.decoder, decoders.WordPiece):
        prefix = model.get("continuing_subword_prefix", "##")
        copy.decoder = decoders.Sequence(
            [decoders.WordPiece(prefix, cleanup=False), decoders.Fuse()]
            + [decoders.Replace(Regex(rule), "") for rule in _NOT_WRITTEN]
        )
    return copy


def with_blanks(tokenizer: Tokenizer, tokens: Sequence[str]) -> list[str]:
    """Tokens as they stand in a text, a word with the blank before it; not for byte-level tokenizers."""
    if isinstance(tokenizer.model, models.WordPiece):
        inside = tokenizer.model.continuing_subword_prefix
        begins = [token[:1].isalnum() and not token.startswith(inside) for token in tokens]
        return [" " * begin + token.removeprefix(inside) for begin, token in zip(begins, tokens, strict=True)]
    if isinstance(tokenizer.decoder, decoders.Metaspace):
        return [f"{' ' * token[1:2].isalnum()}{token[1:]}" if token[:1] == "▁" else token for token in tokens]
    return list(tokens)
