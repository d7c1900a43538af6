"""One recording from start to end."""

import os
import shutil
import tempfile

from nandoctor.launch import spools
from nandoctor.launch.child import run
from nandoctor.launch.environment import environment
from nandoctor.launch.request import Request, checked
from nandoctor.launch.words import say, why_nothing, wrote


def record(request: Request) -> int:
    """Run the command recorded and return its exit code. nandoctor speaks on stderr, after the end."""
    request = checked(request)
    session = os.urandom(16).hex()
    marks = tempfile.mkdtemp(prefix="nandoctor-")
    try:
        ended = run(request.command, environment(request, session, marks, os.environ))
        ours = spools.of_session(request.output, session)
        closed = [spools.close(spool, found, ended) for spool, found in ours]
        outputs = [one.output for one in closed if one.output is not None]
        trouble = [one.words for one in closed if one.words is not None]
        if outputs and not request.quiet:
            say(*wrote(outputs))
        say(*trouble)
        if not outputs and not trouble:
            say(*why_nothing(marks))
        return ended.exit_code
    finally:
        shutil.rmtree(marks, ignore_errors=True)
