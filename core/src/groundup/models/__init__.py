"""Models: GPT in GPT-2's architecture, and its weights in Hugging Face's layout."""

from groundup.models.checkpoint import load_gpt, save_gpt
from groundup.models.gpt import GPT, GPTConfig, KVCache

__all__ = ["GPT", "GPTConfig", "KVCache", "load_gpt", "save_gpt"]
