"""The confusion matrix as a picture: planted causes down, verdicts across, counts in the cells."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clinic.accuracy import Result


def confusions(results: "Sequence[Result]", path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    planted = sorted({r.planted for r in results})
    said = sorted({r.verdict for r in results} | set(planted))
    counts = Counter((r.planted, r.verdict) for r in results)
    cells = np.array([[counts[row, column] for column in said] for row in planted], float)
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(11, 9))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(said)), said, rotation=55, ha="right")
    axes.set_yticks(range(len(planted)), planted)
    axes.set_xlabel("verdict")
    axes.set_ylabel("planted")
    for row, column in np.argwhere(cells > 0):
        dark = shares[row, column] > 0.5
        axes.text(column, row, int(cells[row, column]), ha="center", va="center", color="white" if dark else "black")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
