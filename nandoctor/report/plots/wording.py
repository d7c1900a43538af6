"""Names from a trace made harmless and short: data from strangers, drawn as they are, never parsed."""

import unicodedata
from functools import cache

LONGEST_NAME = 34  # characters of a layer's name beside a picture; longer ones lose their middle


def plain(text: object, longest: int = 200) -> str:
    """One line of characters that the font has; any other is written as its escape."""
    drawable = _drawable()
    kept = (
        character
        if ord(character) in drawable and unicodedata.category(character)[0] != "C"
        else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in str(text)[: 4 * longest + 4]
    )
    return shortened("".join(kept), longest)


def shortened(text: str, longest: int) -> str:
    """The beginning and the end, which tell layers apart, around an ellipsis."""
    if len(text) <= longest:
        return text
    head = (longest - 1) // 2
    return f"{text[:head]}…{text[len(text) - (longest - 1 - head) :]}"


def layer_name(name: str, longest: int = LONGEST_NAME) -> str:
    return plain(shortened(name, 4 * longest), longest) or "(root)"


@cache
def _drawable() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap())
