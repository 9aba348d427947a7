"""loss.png: training and validation loss over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from groundup.files import StrPath, atomic_write


def plot_losses(metrics: Sequence[Mapping[str, Any]], path: StrPath) -> None:
    """Draw the `loss` and `val_loss` of `metrics` into a PNG. Raises CheckpointError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4))
    FigureCanvasAgg(figure)  # draws into memory, whatever display there is or is not
    axes = figure.add_axes((0.1, 0.13, 0.87, 0.83))  # quicker than a layout engine
    for key, label, style in (("loss", "training", "-"), ("val_loss", "validation", "o-")):
        points = [(line["step"], line[key]) for line in metrics if key in line]
        if points:
            steps, losses = zip(*points, strict=True)
            axes.plot(steps, losses, style, label=label, markersize=4, linewidth=1)
    axes.set(xlabel="step", ylabel="loss per token (nats)")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)
