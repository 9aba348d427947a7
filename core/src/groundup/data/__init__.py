"""Text and tokens: corpora, tokenizers, token files and batches. NumPy only; no tensors."""

from groundup.data.batches import Batches
from groundup.data.corpus import embedded_corpus, load_text
from groundup.data.tokenizers import (
    BytePairTokenizer,
    CharTokenizer,
    Tokenizer,
    load_tokenizer,
)
from groundup.data.tokens import check_ids, open_tokens, split_by_position, write_tokens

__all__ = [
    "Batches",
    "BytePairTokenizer",
    "CharTokenizer",
    "Tokenizer",
    "check_ids",
    "embedded_corpus",
    "load_text",
    "load_tokenizer",
    "open_tokens",
    "split_by_position",
    "write_tokens",
]
