"""The pages of `nandoctor explain`; `python -m nandoctor.causes.pages` writes docs/causes/ from them."""

from pathlib import Path

from . import CAUSES, healthy, unknown

FOLDER = Path(__file__).parents[2] / "docs" / "causes"
HEADINGS = ("What happens", "How to tell it from its neighbours", "What to do", "Sources")


def pages() -> dict[str, str]:
    """Explanation by id; the two verdicts that are no cause have one too."""
    found = {cause.id: cause.explanation for cause in CAUSES}
    return {**found, "healthy": healthy.__doc__ or "", "unknown": unknown.__doc__ or ""}


def title(explanation: str) -> str:
    return explanation.strip().splitlines()[0]


def markdown(name: str, explanation: str) -> str:
    lines = [f"# {name}", ""]
    for line in explanation.strip().splitlines():
        text = line.strip()
        lines += ["", f"## {text}", ""] if line == text and text in HEADINGS else [text]
    body = "\n".join(lines)
    while "\n\n\n" in body:
        body = body.replace("\n\n\n", "\n\n")
    return body + "\n"


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, explanation in pages().items():
        (folder / f"{name}.md").write_text(markdown(name, explanation), encoding="utf-8")


if __name__ == "__main__":
    write(FOLDER)
