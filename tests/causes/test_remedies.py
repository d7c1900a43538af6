"""Remedies hold this run's numbers and are written in the style of the run."""

from dataclasses import replace

import pytest
import torch

from nandoctor.causes import CAUSES
from nandoctor.causes.remedies import monash_stability, nan_guide, papers, stability_guide, torch_docs
from nandoctor.causes.wording import num
from nandoctor.evidence import Accumulation, Bad, Denominator
from tests.causes.offered import seen
from tests.causes.patients import HEALTHY, PATIENTS, born


def collected(backwards: float, **told: object) -> Accumulation:
    return seen(Accumulation, optimizers=1, backwards=backwards, **told)


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
    changes = " ".join(r.change for cause in CAUSES for r in cause.remedies(PATIENTS.get(cause.id, HEALTHY)))
    for told in (
        "monash-stability says smaller (16 or 8); larger is followed here, since it makes the gradient less noisy",
        "repair-not-skip disagrees: it repairs instead; skipping is followed, since",
        "repair-not-skip would fill them with normal * 0.01; started over is followed here, since",
        "nan-guide, nan-root-cause and monash-stability skip the batch, which is followed:",
        "nan-guide starts over, which is followed:",
        "nan-guide says larger, which is followed, since",
    ):
        assert told in changes


def test_a_float16_birth_at_an_attention_layer_offers_the_guides_clamp():
    assert isinstance(PATIENTS["fp16-overflow"].bad, Bad)
    assert any("[-10, 10]" in r.change for r in BY_ID["fp16-overflow"].remedies(PATIENTS["fp16-overflow"]))


@pytest.mark.parametrize("lr, epoch, new", [
    (1e-4, 0, "1e-05"), (1e-4, 2, "1e-05"), (1e-4, 9, "5e-05"), (1e-4, 19, "5e-05"), (2e-4, 11, "5e-05"),
    (5e-5, 1, "1e-05"), (1.5e-5, 0, "5e-06"), (5e-5, 14, "1e-05"), (1e-3, 0, "0.0001"),
])  # fmt: skip
def test_the_guides_table_is_read_by_epoch_and_always_lowers(lr: float, epoch: int, new: str):
    change = nan_guide.lower_lr(with_lr(lr, epoch=epoch)).change
    assert change.startswith(f"lr {num(lr)} -> {new} (")


def test_without_epochs_the_share_of_the_run_decides():
    def change(total: int) -> str:
        e = replace(with_lr(1e-4), incidents=born(step=40, epoch=-1))
        return nan_guide.lower_lr(replace(e, style=replace(e.style, total=total))).change

    assert "-> 1e-05" in change(1000) and "-> 5e-05" in change(100)


def test_a_slow_run_is_raised_by_the_guides_table_or_by_a_factor():
    assert "lr 1e-05 -> 0.0001 (stable, converging slowly: 1e-4)" in nan_guide.higher_lr(with_lr(1e-5)).change
    assert "lr 0.0001 -> 0.0002 (stable throughout: may try 2e-4)" in nan_guide.higher_lr(with_lr(1e-4)).change
    frozen = with_lr(0.01)
    assert frozen.optimizer is not None
    still = replace(frozen, optimizer=replace(frozen.optimizer, update_ratio=1e-5))
    assert "lr 0.01 -> 1 (a factor 100" in nan_guide.higher_lr(still).change


def test_adamw_takes_no_rate_of_sgd():
    remedy = nan_guide.adamw(with_lr(0.5))
    assert "SGD -> AdamW, lr 0.5 -> 0.0001" in remedy.change and "lr=0.0001, weight_decay=0.0001" in (remedy.code or "")


@pytest.mark.parametrize("was, new", [(None, "0.5"), (5.0, "1"), (1.0, "0.5"), (0.25, "0.125")])
def test_clipping_harder_is_never_clipping_less(was: float | None, new: str):
    assert HEALTHY.gradients is not None
    change = nan_guide.clip_half(replace(HEALTHY, gradients=replace(HEALTHY.gradients, max_norm=was))).change
    assert change.startswith(f"max_norm {num(was)} -> {new}" if was else f"clip at norm {new} (now: no clipping)")


def test_sgd_with_large_gradients_is_clipped_where_they_usually_are_and_adam_at_1():
    assert HEALTHY.gradients is not None
    for name, limit in (("SGD", "clip at norm 40.0"), ("Adam", "clip at norm 1.0")):
        e = with_lr(0.01)
        assert e.optimizer is not None
        e = replace(e, gradients=replace(HEALTHY.gradients, pre_median=40.0),
                    optimizer=replace(e.optimizer, name=name, adaptive=name == "Adam"))  # fmt: skip
        assert limit in nan_guide.clip_one(e).change


def test_lightning_and_the_trainer_clip_by_their_own_arguments():
    lightning = replace(HEALTHY, style=replace(HEALTHY.style, lightning=True))
    trainer = replace(HEALTHY, style=replace(HEALTHY.style, hf_trainer=True, accelerate=True))
    assert nan_guide.clip_one(lightning).code == "Trainer(..., gradient_clip_val=1.0)"
    assert nan_guide.clip_one(trainer).code == "TrainingArguments(..., max_grad_norm=1.0)"


def test_accumulated_losses_are_divided_by_this_runs_own_count():
    e = replace(with_lr(0.4), accumulation=collected(8.0, stale=0.0, longest_stale=0, cleared=True, lost=0.0))
    assert torch_docs.divide_loss(e).code == "loss = loss / 8"
    assert (
        "a step sums 8 batches: lr 0.4 -> 0.05, or divide the loss by 8"
        in stability_guide.lr_with_accumulation(e).change
    )
    assert any(r.title == "Scale lr with gradient accumulation" for r in BY_ID["lr-too-high"].remedies(e))


def test_where_zero_grad_is_missing_it_comes_first_and_where_it_is_not_the_divisor_does():
    never = replace(HEALTHY, accumulation=collected(1.0, stale=0.98, longest_stale=90, cleared=False, lost=0.0))
    summed = replace(HEALTHY, accumulation=collected(4.0, stale=0.0, longest_stale=0, cleared=True, lost=0.0))
    ladder = BY_ID["gradient-accumulation-bug"].remedies
    assert ladder(never)[0].title == "Clear the gradients once for every step" and len(ladder(never)) == 1
    assert "90 steps in a row used gradients that a step had used before" in ladder(never)[0].change
    assert ladder(summed)[0].title == "Divide the accumulated loss"


def test_a_batch_is_made_larger_than_this_runs():
    small = replace(HEALTHY, style=replace(HEALTHY.style, batch=4))
    assert "batch size 4 -> 8, then 16" in nan_guide.larger_batch(small).change
    large = replace(HEALTHY, style=replace(HEALTHY.style, batch=64))
    assert "batch size 64 -> 128" in nan_guide.larger_batch(large).change
    assert "batch size 64 -> 16, then 8" in monash_stability.smaller_batch(large).change


def test_a_half_precision_eps_is_one_that_float16_can_hold():
    half = replace(with_lr(1e-3), denominator=seen(Denominator, eps=1e-8, dtype="float16", vanishes=True))
    assert "eps 0.0001; float16 rounds 1e-8 to 0" in papers.larger_epsilon(half).change
    assert torch.tensor(1e-8).half() == 0 and torch.tensor(1e-4).half() > 0


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_updates_below_what_is_told_are_lost(kind: str):
    """In weights all over a binade, where one last digit is worth the most and the least."""
    share = papers.LOST[kind]
    weights = torch.linspace(1.0, 2.0, 129, dtype=torch.float64)[:-1].to(getattr(torch, kind))
    lost = (weights.double() * (1 + 0.99 * share)).to(weights.dtype) == weights
    kept = (weights.double() * (1 + 2.01 * share)).to(weights.dtype) != weights
    assert lost.all() and kept.all()


def test_an_unsafe_log_of_half_numbers_is_computed_in_float32():
    sick = PATIENTS["unsafe-op"]
    assert isinstance(sick.bad, Bad)
    half = replace(sick, incidents=replace(sick.incidents, first=replace(sick.bad, dtype="float16")))
    first = BY_ID["unsafe-op"].remedies(half)[0]
    assert "in float32: float16 cannot hold these limits" in first.change and first.code == (
        "x = x.float(); x.clamp_min(1e-8).log()"
    )


def test_a_schedule_that_gives_nan_is_mended_first():
    assert HEALTHY.optimizer is not None
    sick = replace(HEALTHY, optimizer=replace(HEALTHY.optimizer, lr=float("nan"), lr_peak=0.1, lr_finite=False))
    first = BY_ID["lr-too-high"].remedies(sick)[0]
    assert first.title == "Mend the schedule" and "at most 0.1 before" in first.change
