"""What `nandoctor record` does once its arguments are read. No typer here: it would delay every recording."""

import sys

from nandoctor.launch.request import Request


def start(wish: Request | str) -> int:
    """Record a request, or recover a spool by its path; returns the exit code."""
    if isinstance(wish, Request):
        from nandoctor.launch.session import record

        return record(wish)
    from nandoctor.launch.spools import recover
    from nandoctor.launch.words import near, say

    output = recover(wish)
    if output is None:
        say(f"nandoctor: nothing had trained yet in {near(wish)}; it held no trace and was removed.")
        return 0
    print(near(output))
    sys.stdout.flush()
    return 0
