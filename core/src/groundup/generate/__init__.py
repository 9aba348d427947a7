"""Text from a trained model."""

from groundup.generate.sampling import Sampling, choose
from groundup.generate.text import TextModel, generate_ids

__all__ = ["Sampling", "TextModel", "choose", "generate_ids"]
