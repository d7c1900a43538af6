"""Remedies hold this run's numbers and are written in the style of the run."""

from dataclasses import replace

from nandoctor.causes import CAUSES
from nandoctor.causes.remedies import nan_guide
from nandoctor.evidence import Bad
from tests.causes.patients import HEALTHY, PATIENTS, born

BY_ID = {cause.id: cause for cause in CAUSES}
assert HEALTHY.optimizer and HEALTHY.gradients


def with_lr(lr: float, ratio: float = 0.05, epoch: int = 0):
    optimizer = replace(HEALTHY.optimizer, lr=lr, lr_first=lr, lr_peak=lr, hottest_ratio=ratio)
    return replace(HEALTHY, optimizer=optimizer, incidents=born(epoch=epoch))


def test_a_rate_of_the_guides_order_gets_the_guides_number_for_a_fast_nan():
    assert "lr 0.0001 -> 1e-05" in nan_guide.lower_lr(with_lr(1e-4)).change


def test_the_same_rate_in_mid_training_is_lowered_less():
    assert "lr 0.0001 -> 5e-05" in nan_guide.lower_lr(with_lr(1e-4, epoch=14)).change


def test_a_large_rate_gets_a_factor_and_not_the_guides_number():
    assert "lr 0.5 -> 0.05" in nan_guide.lower_lr(with_lr(0.5)).change


def test_very_hot_updates_ask_for_a_larger_factor():
    assert "lr 3 -> 0.003" in nan_guide.lower_lr(with_lr(3.0, ratio=40.0)).change


def test_clipping_uses_accelerates_own_function_where_accelerate_runs():
    style = replace(HEALTHY.style, accelerate=True)
    assert nan_guide.clip_one(replace(HEALTHY, style=style)).code == (
        "accelerator.clip_grad_norm_(model.parameters(), 1.0)"
    )


def test_clipping_unscales_first_where_a_scaler_runs():
    style = replace(HEALTHY.style, scaler=True)
    code = nan_guide.clip_one(replace(HEALTHY, style=style)).code
    assert code is not None and code.startswith("scaler.unscale_(optimizer); ")


def test_a_run_that_clips_already_is_told_to_clip_harder():
    clipped = replace(PATIENTS["lr-too-high"], gradients=replace(HEALTHY.gradients, max_norm=1.0))
    titles = [remedy.change for remedy in BY_ID["lr-too-high"].remedies(clipped)]
    assert "max_norm 1 -> 0.5" in titles and not any("no clipping" in change for change in titles)


def test_an_unsafe_log_is_repaired_at_its_line():
    first = BY_ID["unsafe-op"].remedies(PATIENTS["unsafe-op"])[0]
    assert "log(x) -> log(x.clamp_min(1e-8))" in first.change and "train.py:12" in first.change


def test_the_bad_row_is_named():
    first = BY_ID["bad-input-data"].remedies(PATIENTS["bad-input-data"])[0]
    assert "row 17" in first.change and "batch 12" in first.change


def test_where_documents_disagree_the_report_says_which_it_follows():
    changes = " ".join(r.change for cause in CAUSES for r in cause.remedies(PATIENTS[cause.id]))
    for told in ("monash-stability says smaller", "repair-not-skip disagrees", "repair-not-skip would fill"):
        assert told in changes


def test_a_float16_birth_at_an_attention_layer_offers_the_guides_clamp():
    assert isinstance(PATIENTS["fp16-overflow"].bad, Bad)
    assert any("[-10, 10]" in r.change for r in BY_ID["fp16-overflow"].remedies(PATIENTS["fp16-overflow"]))
