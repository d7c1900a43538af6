"""The environment of a recorded command: the inject folder in front of PYTHONPATH, settings in variables."""

import json
import os
from collections.abc import Mapping

from nandoctor.launch.request import Request
from nandoctor.launch.secrets import masked

HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
INJECT = os.path.join(HOME, "recording", "inject")
OF_ONE_RECORDING = (  # a recording around this one must not tell it how to record
    "NANDOCTOR_LAYERS", "NANDOCTOR_WATCH_STEP", "NANDOCTOR_PROBE", "NANDOCTOR_ACTIVE", "NANDOCTOR_POLICY",
    "NANDOCTOR_TREAT", "NANDOCTOR_LADDER", "NANDOCTOR_MAX_ACTIONS",
)  # fmt: skip


def environment(request: Request, session: str, marks: str, outer: Mapping[str, str]) -> dict[str, str]:
    """The outer environment, and what makes each Python of the command load inject/sitecustomize.py."""
    ours = {
        "NANDOCTOR_HOME": HOME,
        "NANDOCTOR_OUTPUT": request.output,
        "NANDOCTOR_SESSION": session,
        "NANDOCTOR_MARKS": marks,
        "NANDOCTOR_COMMAND": json.dumps(masked(request.command)),
        "NANDOCTOR_BUDGET": str(request.budget),
        "NANDOCTOR_WHOLE_STEPS": str(request.whole_steps),
        "NANDOCTOR_MAX_SIZE": str(request.max_size),
    }
    if request.layers is not None:
        ours["NANDOCTOR_LAYERS"] = request.layers
    if request.watch_step is not None:
        ours["NANDOCTOR_WATCH_STEP"] = str(request.watch_step)
    if request.probe:
        ours["NANDOCTOR_PROBE"] = "1"
    if request.active:
        ours["NANDOCTOR_ACTIVE"] = "1"
        ours["NANDOCTOR_POLICY"] = request.policy
        ours["NANDOCTOR_TREAT"] = ",".join(request.treatments)
        ours["NANDOCTOR_LADDER"] = request.ladder
        if request.max_actions is not None:
            ours["NANDOCTOR_MAX_ACTIONS"] = str(request.max_actions)
    kept = {name: value for name, value in outer.items() if name not in OF_ONE_RECORDING}
    path = kept.get("PYTHONPATH", "")
    if path.split(os.pathsep)[0] != INJECT:
        path = INJECT + os.pathsep + path if path else INJECT
    return {**kept, **ours, "PYTHONPATH": path}
