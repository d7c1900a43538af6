"""Draw the pictures of README.md from a recording (make screenshots): `python docs/screenshots.py RUN.parquet`.

The terminal picture is what `nandoctor diagnose` printed, drawn by rich; the other one is `nandoctor plot provenance`.
"""

import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).parent / "images"


def main(trace: str) -> None:
    IMAGES.mkdir(exist_ok=True)
    run = [sys.executable, "-m", "nandoctor"]
    report = subprocess.run([*run, "diagnose", trace], capture_output=True, text=True, check=False)
    if report.returncode not in (0, 1):
        sys.exit(report.stderr)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=100, file=nowhere)
        console.print(Text(f"$ nandoctor diagnose {Path(trace).name}\n\n{report.stdout.rstrip()}"))
    console.save_svg(str(IMAGES / "diagnose.svg"), title="nandoctor")
    for what in ("grad-norm", "provenance"):
        subprocess.run([*run, "plot", what, trace, "-o", str(IMAGES / f"{what}.png")], check=True)


if __name__ == "__main__":
    main(sys.argv[1])
