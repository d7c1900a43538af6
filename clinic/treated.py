"""Runs a training script as __main__ under one opponent of active mode, or under none, and notes how it ended."""

import json
import os
import runpy
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from clinic.opponents import Moving, put_in

script, report = sys.argv[1], os.environ.pop("CLINIC_REPORT")
opponent = os.environ.pop("CLINIC_OPPONENT", "")
if opponent:
    put_in(opponent)
moving = Moving()
sys.path[0] = os.path.dirname(os.path.abspath(script))
sys.argv = [script]
try:
    runpy.run_path(script, run_name="__main__")
finally:
    with open(report, "w") as file:
        json.dump(moving.report(), file)
