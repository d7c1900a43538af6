"""nandoctor explain [CAUSE]: the page of a cause, or the list of all."""

import sys
from typing import Annotated

import typer

CauseId = Annotated[str | None, typer.Argument(metavar="CAUSE", help="an id of the list")]


def explain(cause: CauseId = None) -> None:
    """Print what a cause means, how to tell it from its neighbours and what to do."""
    from nandoctor.causes.pages import pages, title
    from nandoctor.errors import unknown_cause

    known = pages()
    if cause is None:
        width = max(map(len, known))
        text = "\n".join(f"{name:<{width}}  {title(page)}" for name, page in known.items())
    elif cause in known:
        text = f"{cause}: {known[cause].strip()}"
    else:
        raise unknown_cause(cause, ", ".join(known))
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))
