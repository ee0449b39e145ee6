"""Questions made from a small table of facts on countries, cities and chemical elements."""

from qa_env.datasets.facts.config import FactsConfig
from qa_env.datasets.facts.generate import make_facts
from qa_env.datasets.facts.table import Fact, load_facts

__all__ = ["Fact", "FactsConfig", "load_facts", "make_facts"]
