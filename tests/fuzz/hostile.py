"""What a stranger may write into a field of a trace or a log."""

ESCAPES = (
    "\x1b[2J\x1b[1;1H",  # clears the screen
    "\x1b]0;owned\x07",  # sets the window's title
    "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",  # a link
    "\x9b31mred\x9b0m",  # the same in C1
    "a\rb\x08\x08c\x07\x00d",
    "\u202egnp.exe",  # right to left
    "zero\u200bwidth\ufeff",
)
TEXTS = (
    *ESCAPES,
    "",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>&amp;]]>',
    "../../../../tmp/outside",
    "/etc/passwd",
    "C:\\Windows\\x",
    "$\\frac{1}{0}$ _hidden {0} %s %n",
    "x" * 1_000_000,
    "\n" * 2000,
    "\ud800 alone \udfff",
    "\U0010ffff\ufffe",
    "Schicht.größe.层.🔥",
    "__import__('os').system('true')",
)
NUMBERS = (
    0, 1, -1, True, False, 0.5, -0.0, float("nan"), float("inf"), float("-inf"), 1e300, -1e300, 1e-300, 5e-324,
    2**31 - 1, 2**31, -(2**31), 2**63, -(2**63) - 1, 10**300, -(10**300), 10**4000, 65504, 4e9,
)  # fmt: skip
REALS = tuple(float(n) for n in NUMBERS if not isinstance(n, int) or abs(n) < 10**308)


def nested(depth: int) -> object:
    found: object = 0
    for _ in range(depth):
        found = [found]
    return found


OTHERS = (
    None, [], {}, [[]], [None] * 50, {"": {"": []}}, nested(400), {"note": "incident"}, ["\x1b[2J"], [[1, 2], "x"],
)  # fmt: skip
VALUES = (*TEXTS, *NUMBERS, *OTHERS)
