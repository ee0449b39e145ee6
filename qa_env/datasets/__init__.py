"""Data sets of questions: the built-in facts, and loaders for your own files."""

from qa_env.datasets.example import QADataset, QAExample
from qa_env.datasets.facts import FactsConfig, make_facts
from qa_env.datasets.loaders import load_examples
from qa_env.datasets.splitting import set_apart, split_dataset

__all__ = [
    "FactsConfig",
    "QADataset",
    "QAExample",
    "load_examples",
    "make_facts",
    "set_apart",
    "split_dataset",
]
