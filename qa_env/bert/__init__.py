"""Models of the BERT family as encoders, by way of the `transformers` library (the extra ``bert``)."""

from qa_env.bert.loading import empty_reader, load_reader, load_vocabulary_of
from qa_env.bert.outputs import KeptOutputs
from qa_env.bert.reader import BertReader

__all__ = ["BertReader", "KeptOutputs", "empty_reader", "load_reader", "load_vocabulary_of"]
