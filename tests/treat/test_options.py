"""--policy, --treat, --max-actions, --ladder: what may be done, and what is only said."""

import math

import pytest

from nandoctor.causes import treatments
from nandoctor.errors import UserError
from nandoctor.launch.request import TREATMENTS, Request, checked
from nandoctor.treat.plans import DOCUMENTS, MEASURED
from tests.treat import programs
from tests.treat.runs import treated


def test_the_names_that_may_be_given_are_those_of_the_treatments():
    assert TREATMENTS == treatments.ALL
    assert {name for plan in MEASURED.values() for name, _ in plan} <= set(TREATMENTS)
    assert set(DOCUMENTS) <= set(TREATMENTS)


def test_advice_touches_nothing(tmp_path):
    run = treated(tmp_path, "no_epsilon", "--policy", "advise")

    assert math.isnan(run.loss)
    assert run.events("advised") == ["optimizer"] and not run.events("applied") and not run.events("once")


def test_skipping_leaves_out_what_repairing_would_mend(tmp_path):
    run = treated(tmp_path, "one_huge_gradient", "--policy", "skip", "--max-actions", "0")

    assert run.loss < 1.2 * programs.run("one_huge_gradient", False)
    assert [action.what for action in run.actions if action.event == "once"] == ["this update is left out"]


def test_only_named_treatments_are_used_and_weights_stay_finite_all_the_same(tmp_path):
    run = treated(tmp_path, "no_epsilon", "--treat", "adaptive-clipping")

    assert math.isfinite(run.loss)
    assert not run.events("applied") and run.events("aside")


def test_the_documents_ladder_does_what_the_documents_say(tmp_path):
    run = treated(tmp_path, "nan_in_a_file", "--ladder", "documents")

    assert math.isfinite(run.loss) and run.events("applied")
    assert all("back_to" not in action.what for action in run.actions)


@pytest.mark.parametrize(
    "wrong", [{"policy": "hope"}, {"ladder": "gut"}, {"treatments": ("prayer",)}, {"max_actions": -1}]
)
def test_what_cannot_be_asked_is_refused_before_anything_starts(wrong, tmp_path):
    with pytest.raises(UserError):
        checked(Request(("true",), str(tmp_path / "run.parquet"), active=True, **wrong))
