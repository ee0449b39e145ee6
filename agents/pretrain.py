"""Learn from plain text, before any question: word vectors, or a whole language model.

    python -m agents.pretrain vectors TEXT... --out FILE    # for train.py --vectors
    python -m agents.pretrain lm TEXT... --out FOLDER       # for train.py --init-from

A line of a text is a text of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Protocol

from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import get_device, set_random_seed
from tyro.conf import OmitArgPrefixes, Positional, arg

from agents.bert import make_language_model
from agents.commands import parse, run_command
from agents.config import PretrainConfig, TrainConfig, suggest
from agents.decoding import Limits
from agents.language import choose_vocabulary
from agents.loading import PRETRAINED, new_policy
from agents.plain_text import OWN, lines
from agents.pretraining import Corpus, pretrain, reporter
from agents.runs import Run
from agents.skip_gram import SkipGramConfig, train_vectors
from agents.word_vectors import start_from_vectors, write_vectors
from policies.language_model import LMConfig
from qa_env.errors import QAError
from qa_env.vocabulary_making import VocabularyConfig


class Command(Protocol):
    """What a subcommand's arguments are parsed into."""

    def run(self) -> None:
        """Do it."""


@dataclass(frozen=True)
class VectorsCommand:
    """Train word vectors by skip-gram with negative sampling."""

    texts: Annotated[Positional[tuple[str, ...]], arg(metavar="TEXT...")]
    """Files of plain text, or .gz of it; a line is a text of its own."""
    out: str
    """The file to write, word2vec's text format; .gz packs it. For `train.py --vectors`."""
    settings: OmitArgPrefixes[SkipGramConfig] = field(default_factory=SkipGramConfig)

    def run(self) -> None:
        """Read, train, write."""
        if not Path(self.out).absolute().parent.is_dir():
            raise QAError(f"cannot write {self.out}: there is no such folder")
        learned = train_vectors(
            [line for path in self.texts for line in lines(path)],
            self.settings,
            lambda epoch, loss: print(f"epoch {epoch + 1}: loss {loss:.3f}", flush=True),
        )
        write_vectors(self.out, learned.words, learned.vectors)
        print(f"{len(learned.words)} words with {learned.vectors.shape[1]} dimensions written to {self.out}")


@dataclass(frozen=True)
class LanguageModelCommand:
    """Pre-train a language model, encoder and decoder, for `train.py --init-from`."""

    texts: Annotated[Positional[tuple[str, ...]], arg(metavar="TEXT...")]
    """Files of plain text, or .gz of it; a line is a text of its own."""
    out: str
    """The folder to make."""
    settings: OmitArgPrefixes[PretrainConfig] = field(default_factory=PretrainConfig)
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    lm: LMConfig = field(default_factory=LMConfig)
    vectors: str = ""
    """File of word vectors that the embedding starts from."""
    limits: Limits = field(default_factory=Limits)
    seed: int = 0
    device: str = "cpu"

    def run(self) -> None:
        """Read, train, write."""
        if OWN in self.texts:
            raise QAError(f'"{OWN}" stands for the data of a run, and here is none: name files of text')
        config = TrainConfig(
            pretrain=",".join(self.texts),
            pretraining=self.settings,
            vocabulary=self.vocabulary,
            lm=self.lm,
            vectors=self.vectors,
            limits=self.limits,
            seed=self.seed,
            device=self.device,
        )
        texts = list(dict.fromkeys(line for path in self.texts for line in lines(path)))
        set_random_seed(self.seed)
        vocabulary = choose_vocabulary(config, texts)
        corpus = Corpus.from_texts(texts, vocabulary, self.settings, self.limits, self.seed)
        lm = make_language_model(config, vocabulary, Run(Path(self.out)))
        if self.vectors:
            tell(str(start_from_vectors(lm, vocabulary, self.vectors, texts)))
        run = Run.make(self.out, config)
        run.save_vocabulary(vocabulary, ())
        policy = new_policy(lm, vocabulary, self.limits)
        policy.to(get_device(self.device))
        logger = configure(self.out, ["tensorboard"])
        done = pretrain(policy, corpus, self.settings, self.seed, reporter(tell, logger))
        run.write_json("pretrain.json", asdict(done))
        run.save_weights(policy.lm, PRETRAINED)
        print(f"{done}; written to {self.out}, for train.py --init-from {self.out}")


def tell(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


COMMANDS: dict[str, type[Command]] = {"vectors": VectorsCommand, "lm": LanguageModelCommand}


def main(arguments: Sequence[str]) -> None:
    """Run one of the commands."""
    name, *rest = arguments or ("--help",)
    if name in ("--help", "-h"):
        print("usage: python -m agents.pretrain COMMAND ...; a command's --help tells its options")
        print("\n".join(f"  {known:<10} {kind.__doc__}" for known, kind in COMMANDS.items()))
        return
    if name not in COMMANDS:
        raise QAError(f"unknown command {name}{suggest(name, list(COMMANDS))}")
    parse(COMMANDS[name], rest, prog=f"python -m agents.pretrain {name}").run()


if __name__ == "__main__":
    run_command(main)
