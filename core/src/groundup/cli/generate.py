"""`groundup generate`: text from a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from groundup.cli.parameters import whole


def generate(
    run: Annotated[Path, Parameter(name="RUN")],
    /,
    *,
    prompt: str = "\n",
    max_new_tokens: Annotated[int, Parameter(converter=whole)] = 200,
    temperature: float = 0.8,
    top_k: Annotated[int | None, Parameter(converter=whole)] = None,
    top_p: float | None = None,
    seed: Annotated[int, Parameter(converter=whole)] = 0,
    device: str | None = None,
) -> None:
    """Print the prompt and the text that the model puts behind it.

    Parameters
    ----------
    run
        The folder of a run, or of a GPT-2 with Hugging Face's files.
    prompt
        How the text begins.
    max_new_tokens
        How many tokens to add.
    temperature
        Below 1 safer, above 1 wilder, 0 always the most likely token.
    top_k
        Choose among the k most likely tokens only.
    top_p
        Choose among the fewest tokens whose probabilities reach p only.
    seed
        The same seed gives the same text.
    device
        Such as "cpu" or "cuda:0"; by default the best one.
    """
    from groundup.generate import Sampling, TextModel

    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    model = TextModel.load(run, device)
    pieces = model.generate(prompt, max_new_tokens=max_new_tokens, sampling=sampling, seed=seed)
    # Nothing is printed before the first piece: a prompt that cannot be used is one line of error.
    first = next(pieces)
    _show(prompt + first)
    for piece in pieces:
        _show(piece)
    _show("\n")


def _show(text: str) -> None:
    """Print at once, in whatever encoding the terminal has."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"  # there may be no stdout
    print(text.encode(encoding, "replace").decode(encoding), end="", flush=True)
