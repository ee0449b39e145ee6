"""Models of the BERT family with random weights and few tokens, in folders as transformers has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

TEXTS = [
    "Who signed the letter? Which city is it? Lima is the capital of Peru.",
    "The river is long. Ada Lovelace wrote letters in 1843; they were signed, well-known and (rather) long.",
] * 3
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
}
DISTILBERT = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 64}
CHANGES: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 8},
    "distilbert": DISTILBERT,
    "electra": {"embedding_size": 8},
}


def word_pieces(texts: list[str] = TEXTS) -> Tokenizer:
    """An uncased tokenizer as BERT's; its file prescribes a length, as those of sentence transformers do.

    The tokens are the texts' words and letters: the library's own trainer breaks ties by chance.
    """
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = {w for text in texts for w, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))}
    letters = sorted({letter for word in words for letter in word})
    tokens = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *sorted(words - set(letters))]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.enable_padding(length=32)
    tokenizer.enable_truncation(32)
    return tokenizer


def make_model(
    folder: Path, kind: str = "bert", seed: int = 0, texts: list[str] = TEXTS, **changes: Any
) -> Path:
    """A folder with a random model of a kind and its tokenizer."""
    import transformers

    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=word_pieces(texts),
        **{f"{name.strip('[]').lower()}_token": name for name in SPECIAL},
    )
    sizes = CHANGES.get(kind, {}) if kind == "distilbert" else {**SIZES, **CHANGES.get(kind, {})}
    settings = {"vocab_size": len(tokenizer), "pad_token_id": 0, **sizes, **changes}
    config = transformers.AutoConfig.for_model(kind, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModel.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder
