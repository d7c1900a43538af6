"""What is concluded from a log, how sure, and what stays open."""

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nandoctor.causes.remedies import papers
from nandoctor.diagnosis import Diagnosis
from nandoctor.logs import text
from nandoctor.logs.diagnosis import diagnose_log, diagnose_table
from nandoctor.logs.opinions import MOST
from nandoctor.logs.table import Log, Row
from nandoctor.report import json as as_json
from nandoctor.report import terminal

SAMPLES = Path(__file__).parents[2] / "sample_logs"
GUIDE = """Epoch 1/50 | Train Loss: 0.4974 | Val Loss: 2.1927 | Val Acc: 0.0000
Epoch 2/50 | Train Loss: 0.7663 | Val Loss: nan | Val Acc: 1.0000
Epoch 3/50 | Train Loss: nan | Val Loss: nan | Val Acc: 1.0000
"""


def of(content: str) -> Diagnosis:
    return diagnose_table(text.read(content, "train.log"))


def losses(values: list[float], **more: float) -> Diagnosis:
    return diagnose_table(Log("x.log", "a text log", tuple(Row(step=n, train=v, **more) for n, v in enumerate(values))))


def falling(count: int = 40, noise: float = 0.1) -> list[float]:
    chance = random.Random(0)
    return [2.0 * math.exp(-n / 15) * (1 + noise * chance.uniform(-1, 1)) + 0.1 for n in range(count)]


def causes(diagnosis: Diagnosis) -> list[str]:
    return [finding.cause for finding in diagnosis.findings]


def advice(diagnosis: Diagnosis, number: int = 0) -> str:
    return " ".join(f"{r.title} {r.change} {r.source}" for r in diagnosis.findings[number].remedies)


def test_the_guides_own_log_is_not_pinned_to_one_cause_but_gets_its_advice():
    found = of(GUIDE)
    assert found.verdict == "unknown" and {"lr-too-high", "exploding-gradients"} <= set(causes(found))
    facts = " ".join(fact.fact for fact in found.findings[0].verdict.evidence)
    assert "validation turned nan in epoch 2, training in epoch 3" in facts and "epochs 1 to 3" in facts
    assert "1e-5 or 5e-6 (NaN in epoch 3" in advice(found) and "nan-guide" in advice(found)


def test_nan_in_mid_training_gets_the_other_row_of_the_guide():
    lines = [f"Epoch {n} | Train Loss: {2 / n:.4f}" for n in range(1, 13)] + ["Epoch 13 | Train Loss: nan"]
    found = of("\n".join(lines))
    lr = next(finding for finding in found.findings if finding.cause == "lr-too-high")
    assert "5e-5 (NaN in epoch 13; the guide for epochs 10-20)" in lr.remedies[0].change


def test_a_known_rate_is_adapted_not_replaced():
    lines = [f"Epoch {n} | Train Loss: {v} lr: 0.0001" for n, v in ((1, 0.5), (2, "nan"))]
    lr = next(finding for finding in of("\n".join(lines)).findings if finding.cause == "lr-too-high")
    assert "0.0001 -> 1e-05" in lr.remedies[0].change


def test_single_batches_that_explode_are_monashs_own_symptom():
    lines = [f"Epoch 1 Batch {n} Loss: {0.5 - n / 100:.4f}" for n in range(1, 30)]
    lines[11] = "Epoch 1 Batch 12 Loss: 8693482495410176.0000"
    found = of("\n".join(lines))
    assert causes(found)[:2] == ["exploding-gradients", "data-outlier"] and found.verdict != "healthy"
    assert "8693482495410176.0000" in found.findings[0].summary
    assert "Cap the loss" in advice(found) and "monash-stability" in advice(found)


def test_norms_of_16_62_with_batches_skipped_get_the_ladder():
    lines = ["[警告] 梯度范数过大 (16.62)，进行梯度裁剪并降低学习率", "[警告] 梯度包含NaN/Inf，跳过batch 7"] * 5
    found = of("\n".join([*lines, "epoch 1 loss: 0.53", "epoch 2 loss: 0.54"]))
    assert found.verdict == "exploding-gradients" and found.findings[0].confidence <= MOST
    assert "nan-root-cause" in advice(found) and "clip 5.0 and halve lr" in advice(found)


def test_norms_of_16_62_alone_in_a_run_that_learns_are_healthy():
    lines = [f"epoch {n} loss: {v:.4f}" for n, v in enumerate(falling(20), 1)]
    lines.insert(5, "[警告] 梯度范数过大 (16.62)，进行梯度裁剪并降低学习率")
    found = of("\n".join(lines))
    assert found.healthy and found.reading is not None and "16.62" in found.reading.said


def test_the_error_of_unscale_is_named_from_its_own_words():
    error = "RuntimeError: unscale_() has already been called on this optimizer since the last update()."
    found = of(f"epoch 1 loss: 0.5\nTraceback (most recent call last):\n{error}\n")
    assert found.verdict == "amp-misuse" and found.findings[0].confidence >= 0.9
    assert "repair-not-skip" in advice(found) and "once" in advice(found)


@pytest.mark.parametrize(("line", "cause"), [
    ("ValueError: Expected more than 1 value per channel when training, got input size torch.Size([1, 8])",
     "batchnorm-tiny-batch"),
    ("IndexError: Target 10 is out of bounds.", "bad-labels"),
    ("RuntimeError: Function 'LogBackward0' returned nan values in its 0th output.", "unsafe-op"),
    ("⚠️  发现异常数据!", "bad-input-data"),
])  # fmt: skip
def test_other_words_of_libraries_and_scans_name_their_cause(line: str, cause: str):
    assert of(f"epoch 1 loss: 0.5\n{line}\n").verdict == cause


def test_many_skipped_batches_are_no_health_and_few_are():
    good = [f"step {n} loss: {v:.4f}" for n, v in enumerate(falling(200))]
    skip = "⚠️  警告: 检测到 NaN/Inf 损失，跳过此批次"
    assert of("\n".join([*good, skip])).healthy
    often = of("\n".join([*good[:100], *[skip] * 20, *good[100:]]))
    assert not often.healthy and "20 batches skipped" in often.findings[0].summary


def test_a_scaler_that_finds_its_scale_is_healthy():
    overflow = "Gradient overflow.  Skipping step, loss scaler 0 reducing loss scale to 32768.0"
    good = [f"step {n} loss: {v:.4f}" for n, v in enumerate(falling(200))]
    assert of("\n".join([*[overflow] * 5, *good])).healthy
    assert of("\n".join([*good[:100], *[overflow] * 60])).findings[0].cause == "fp16-overflow"


def test_trainers_zero_beside_a_norm_that_is_not_finite_is_a_hidden_nan():
    lines = [f"{{'loss': '{v}', 'grad_norm': '1.5', 'learning_rate': '5e-05', 'epoch': '0.{n}'}}"
             for n, v in enumerate((2.0, 1.8, 1.5, 1.4, 1.3))]  # fmt: skip
    lines += ["{'loss': '0', 'grad_norm': 'nan', 'learning_rate': '5e-05', 'epoch': '0.9'}"] * 3
    found = of("\n".join([*lines, "{'train_runtime': '3.1', 'train_loss': '1.0', 'epoch': '1'}"]))
    assert not found.healthy and any("logging_nan_inf_filter" in r.change for r in found.findings[0].remedies)


def test_validation_alone_sends_to_the_validation_data():
    lines = [f"epoch {n} train loss: {v:.3f} val loss: {'nan' if n > 3 else v:.3}" for n, v in enumerate(falling(9), 1)]
    found = of("\n".join(lines))
    assert found.verdict == "unknown" and "Scan the validation data" in advice(found)


@pytest.mark.parametrize("seed", range(6))
def test_a_noisy_loss_that_falls_is_healthy(seed: int):
    chance = random.Random(seed)
    assert losses([2.5 * math.exp(-n / 60) * chance.lognormvariate(0, 0.4) + 0.05 for n in range(300)]).healthy


def test_a_spike_that_recovers_is_healthy():
    values = falling(60)
    values[30] *= 50
    assert losses(values).healthy


def test_losses_of_a_gan_need_not_fall():
    lines = [f"step {n} d_loss: {0.7 + 0.5 * (-1) ** n:.3f} g_loss: {1.5 - (-1) ** n:.3f}" for n in range(60)]
    assert of("\n".join(lines)).healthy


def test_a_loss_that_swings_without_winning_oscillates():
    assert losses([1.0 if n % 2 else 5.0 for n in range(60)]).verdict == "loss-oscillation"


def test_a_loss_that_stands_at_guessing_is_a_plateau():
    chance = random.Random(1)
    found = losses([math.log(10) + chance.uniform(-0.01, 0.01) for _ in range(80)])
    assert found.verdict == "loss-plateau" and "10 classes" in found.findings[0].verdict.evidence[1].fact
    assert found.findings[0].confidence <= MOST and "converged" in found.findings[0].verdict.against[0]


def test_a_run_that_diverges_without_nan_is_sick():
    found = losses([1.0, 1.1, 1.0, 2.0, 4.0, 9.0, 30.0, 90.0, 300.0, 900.0])
    assert not found.healthy and causes(found)[0] == "lr-too-high"


@pytest.mark.parametrize("lines", [1, 2, 4])
def test_too_few_lines_cannot_say(lines: int):
    found = losses([1.0] * lines)
    assert found.verdict == "unknown" and not found.findings and "cannot say" in terminal.render(found)


def test_a_first_loss_of_nan_is_not_blamed_on_the_steps():
    found = losses([math.nan] * 6)
    assert found.verdict == "unknown" and causes(found)[0] in ("bad-initialization", "bad-input-data")


def test_no_verdict_from_numbers_alone_is_surer_than_a_log_allows():
    for path in SAMPLES.glob("*-sick.*"):
        for finding in diagnose_log(path).findings:
            assert finding.confidence <= MOST


def test_a_report_says_how_sure_and_what_tells_more():
    for content in (GUIDE, "\n".join(f"epoch {n} loss: {v}" for n, v in enumerate(falling(), 1))):
        shown = terminal.render(of(content))
        assert "From a log alone" in shown and "nandoctor record -- COMMAND" in shown and "Not seen" in shown
        assert len(shown.splitlines()) <= 40 and max(map(len, shown.splitlines())) <= 100


def test_muted_causes_are_not_judged():
    found = diagnose_table(text.read(GUIDE, "x.log"), frozenset({"lr-too-high"}))
    assert "lr-too-high" not in causes(found) and "muted" in found.not_seen[0]


def test_no_escape_of_a_log_reaches_the_terminal():
    found = of("epoch 1 loss: 0.5\n[警告] 权重包含NaN/Inf，跳过batch 9 \x1b]0;pwned\x07\x1b[31m\n")
    assert "\x1b" not in terminal.render(found, full=True) and "\x07" not in as_json.render(found)


def test_remedies_claim_nothing_that_a_log_does_not_tell():
    for path in SAMPLES.glob("*-sick.*"):
        for number in range(len((found := diagnose_log(path)).findings)):
            assert "no clipping" not in advice(found, number) and "this trace" not in advice(found, number)


def test_every_remedy_names_its_document():
    documents = {"monash-stability", "nan-root-cause", "stability-guide", "repair-not-skip", "nan-guide"}
    for finding in of(GUIDE).findings:
        for remedy in finding.remedies:
            assert remedy.source in documents | set(papers.PAPERS) or remedy.source.startswith("https://")


numbers = st.one_of(st.none(), st.floats(width=64), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1e300, -5.0]))
rows = st.builds(Row, epoch=st.one_of(st.none(), st.floats(0, 1e6)), step=st.one_of(st.none(), st.integers(0, 2**40)),
                 train=numbers, validation=numbers, lr=numbers, norm=numbers)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(rows, max_size=30))
def test_no_table_makes_a_diagnosis_fail(table: list[Row]):
    epochs = [row.epoch for row in table if row.epoch is not None]
    found = diagnose_table(Log("x.csv", "a history in CSV", tuple(table), first_epoch=min(epochs, default=None)))
    assert json.loads(as_json.render(found))["verdict"] == found.verdict
    assert terminal.render(found) and sum(finding.confidence for finding in found.findings) <= 1.05
