"""Text of a trace made fit for a terminal: a trace comes from strangers, a terminal obeys what it prints."""

import re

SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # colours, cursor movements
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # titles, links
    r"|\x1b[ -/]*[0-~]?"
)
LONGEST = 200  # characters: a line that somebody still reads


def plain(text: object, longest: int = LONGEST) -> str:
    """One line of visible characters, shortened in the middle: the ends of a name tell the most.

    Controls, bidi and zero width marks, lone surrogates: Python does not count them as printable, either.
    """
    visible = SEQUENCE.sub("", str(text)[: 50 * longest])  # what lies beyond is not shown in any case
    visible = "".join(c if c.isprintable() else " " if c.isspace() else "" for c in visible).strip()
    if len(visible) <= longest:
        return visible
    half = (longest - 1) // 2
    return f"{visible[: longest - 1 - half]}…{visible[len(visible) - half :]}"
