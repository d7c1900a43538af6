"""Code lines of remedies are Python, run as they stand in a real training, and do what they say."""

import ast
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, SequentialLR

from nandoctor.causes.remedies import code_lines, monash_stability, nan_guide, nan_root_cause, papers, repair_not_skip
from nandoctor.causes.remedies import stability_guide as tutorial
from nandoctor.evidence import Evidence
from tests.causes.offered import GRADIENTS, offered, with_lr
from tests.causes.patients import HEALTHY

SHELL = ("nandoctor ", "nvidia-smi ", "accelerate launch ", "journalctl ")
CODES = sorted({remedy.code for _, remedy in offered() if remedy.code and not remedy.code.startswith(SHELL)})
SCHEDULES = {s.__name__: s for s in (CosineAnnealingLR, LambdaLR, LinearLR, SequentialLR)}


class Accelerator:
    """The two of its methods that lines call; of one process."""

    def __init__(self, **_: Any) -> None:
        pass

    def clip_grad_norm_(self, parameters: Any, max_norm: float) -> Any:
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm)

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor


@pytest.fixture(scope="module", autouse=True)
def one_process() -> Iterator[None]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def training(lr: float = 0.1) -> dict[str, Any]:
    """What a training script holds between backward and step."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(8, 8)
    model = torch.nn.Sequential(layer, torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 8))
    model.fc1, model.fc2 = layer, model[3]  # layers by the names that patients have
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    x, labels = torch.randn(4, 8), torch.arange(4)
    torch.nn.functional.cross_entropy(model(x), labels).backward()
    scaler.scale(torch.ones(()))
    output = model(x)
    loss = torch.nn.functional.cross_entropy(output, labels)
    scores, mask = torch.randn(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool)
    q, k, v = (torch.randn(1, 4, 8) for _ in range(3))
    scheduler = LambdaLR(optimizer, lambda t: 1.0)
    known = dict(
        scheduler=scheduler,
        torch=torch, model=model, net=model, self=model, head=layer, layer=layer, optimizer=optimizer, scaler=scaler,
        x=x, labels=labels, output=output, loss=loss, scores=scores, mask=mask, q=q, k=k, v=v, mean=0.0, dim=-1,
        std=torch.ones(8), series=[x], loader=[[x, labels]], epochs=50, total_steps=100, lr=0.1, batch_size=1,
        accumulation_steps=4, num_classes=8, state={"w": x}, bn=model[1], dataset=[x], num_groups=2, channels=8,
        width=8, inputs=8, hidden=8, rnn=torch.nn.RNN(8, 8), block=layer, low=-1.0, high=1.0, ok=x > 0, safe=x,
        f=torch.log, a=x, b=x, p=x.abs(), features=8, limit=3.0, DataLoader=torch.utils.data.DataLoader,
        y=labels, criterion=torch.nn.functional.cross_entropy, Accelerator=Accelerator, accelerator=Accelerator(),
        SGD=torch.optim.SGD, Adam=torch.optim.Adam, AdamW=torch.optim.AdamW,
        Trainer=lambda *_, **__: None, TrainingArguments=lambda *_, **__: None, **SCHEDULES,
    )  # fmt: skip
    return known


def execute(code: str | None, known: dict[str, Any]) -> dict[str, Any]:
    exec("for _ in range(1):\n    " + (code or ""), known)
    return known


@pytest.mark.parametrize("code", CODES)
def test_a_code_line_is_python(code: str):
    ast.parse(code)


@pytest.mark.parametrize("code", [code for code in CODES if not re.search(r"\breturn\b", code)])
@pytest.mark.filterwarnings("ignore:torch.cuda.amp.GradScaler is enabled")
def test_a_code_line_runs_in_a_training(code: str, capsys: pytest.CaptureFixture[str]):
    execute(code, training())


def norm_of(known: dict[str, Any]) -> float:
    return float(torch.nn.utils.get_total_norm([p.grad for p in known["model"].parameters()]))


def with_norm(size: float) -> dict[str, Any]:
    known = training()
    now = norm_of(known)
    for p in known["model"].parameters():
        p.grad.mul_(size / now)
    return known


@pytest.mark.parametrize("before, after", [(100.0, 5.0), (7.0, 2.0), (3.0, 1.0), (0.5, 0.5)])
def test_the_ladder_of_clips_does_what_the_document_says(before: float, after: float):
    known = execute(nan_root_cause.adaptive_clip(HEALTHY).code, with_norm(before))
    assert norm_of(known) == pytest.approx(after, rel=1e-3)


def test_the_ladder_stands_where_this_runs_norms_are():
    usual = replace(HEALTHY, gradients=replace(GRADIENTS, pre_median=75.0, at_onset=4e3))
    remedy = nan_root_cause.adaptive_clip(usual)
    assert "norm > 1e+03: clip 500.0" in remedy.change and "this run reached 4e+03" in remedy.change
    assert norm_of(execute(remedy.code, with_norm(75.0))) == pytest.approx(75.0)


@pytest.mark.parametrize("style", [{}, {"scaler": True}, {"accelerate": True}, {"scaler": True, "unscales": True}])
def test_a_clip_clips_in_every_style(style: dict[str, bool]):
    e = replace(HEALTHY, style=replace(HEALTHY.style, **style))
    assert norm_of(execute(code_lines.clip(e, 1.0), with_norm(30.0))) == pytest.approx(1.0, rel=1e-3)


def test_a_second_unscale_is_not_added_where_the_program_has_one():
    e = replace(HEALTHY, style=replace(HEALTHY.style, scaler=True, unscales=True))
    known = with_norm(30.0)
    known["scaler"].unscale_(known["optimizer"])
    execute(code_lines.clip(e, 1.0), known)


def rates(code: str | None, steps: int, known: dict[str, Any]) -> list[float]:
    """lr of each step, stepped as the comment says."""
    known = execute(code, known)
    found = []
    for _ in range(steps):
        found.append(known["optimizer"].param_groups[0]["lr"])
        known["optimizer"].step()
        known["scheduler"].step()
    return found


def of_length(total: int | None, epochs: int | None = None, e: Evidence = HEALTHY) -> Evidence:
    return replace(e, style=replace(e.style, total=total, epochs=epochs))


def test_the_warm_up_takes_a_tenth_of_this_runs_steps():
    remedy = tutorial.warm_up(of_length(300))
    found = rates(remedy.code, 40, training())
    assert "15 to 30 of 300" in remedy.change
    assert found[0] == pytest.approx(0.1 / 30) and found[29] == found[39] == pytest.approx(0.1)


def test_the_guides_warm_up_takes_five_of_fifty_epochs_and_ends_at_nothing():
    found = rates(nan_guide.warm_up_cosine(of_length(None, 50)).code, 50, training())
    assert found[0] == pytest.approx(0.01) and found[5] == pytest.approx(0.1) and found[49] < 0.001


def test_a_run_of_two_epochs_warms_up_by_the_batch():
    remedy = nan_guide.warm_up_cosine(of_length(80, 2))
    found = rates(remedy.code, 80, training())
    assert "8 steps" in remedy.title and "the guide: 5 of 50 epochs" in remedy.change
    assert found[0] == pytest.approx(0.01) and found[8] == pytest.approx(0.1) and found[79] < 0.001


def test_the_one_cycle_schedule_begins_at_1e_6_and_peaks_at_5e_5():
    e = of_length(100, e=with_lr(1e-4, name="AdamW"))
    known = training()
    known["optimizer"] = torch.optim.AdamW(known["model"].parameters(), lr=1e-6, weight_decay=1e-3)
    found = rates(nan_root_cause.one_cycle(e).code, 100, known)
    assert found[0] == pytest.approx(1e-6) and max(found) == pytest.approx(5e-5) and found[99] < 1e-8
    assert found.index(max(found)) == 29


def test_a_one_cycle_schedule_leaves_the_momentum_of_sgd_alone():
    known = training()
    found = rates(nan_root_cause.one_cycle(of_length(100, e=with_lr(0.5))).code, 100, known)
    assert max(found) == pytest.approx(0.05) and known["optimizer"].param_groups[0]["momentum"] == 0.9


def test_reduce_on_plateau_halves_after_five_epochs_without_progress():
    known = execute(monash_stability.reduce_on_plateau(HEALTHY).code, training())
    for _ in range(8):
        known["scheduler"].step(1.0)
    assert known["optimizer"].param_groups[0]["lr"] == pytest.approx(0.05)


@pytest.mark.parametrize("style", [{}, {"world": 2}, {"accelerate": True}])
@pytest.mark.parametrize("value, skipped", [(2.0, False), (math.nan, True), (math.inf, True)])
def test_a_guard_skips_what_is_not_finite_and_nothing_else(style: dict[str, Any], value: float, skipped: bool):
    e = replace(HEALTHY, style=replace(HEALTHY.style, **style))
    known = training()
    known |= {"loss": torch.tensor(value), "went_on": False}
    execute(f"{nan_guide.skip_bad_loss(e).code}\n    went_on = True", known)
    assert known["went_on"] is not skipped
    assert (known["model"][0].weight.grad is None) is skipped


@pytest.mark.parametrize("value, skipped", [(9e5, False), (8693482495410176.0, True), (math.nan, True)])
def test_the_loss_cap_lets_ordinary_batches_through(value: float, skipped: bool):
    known = training() | {"loss": torch.tensor(value), "went_on": False}
    execute(f"{monash_stability.loss_cap(HEALTHY).code}\n    went_on = True", known)
    assert known["went_on"] is not skipped


def test_a_loss_of_millions_gets_a_cap_of_its_own():
    assert HEALTHY.loss is not None
    millions = replace(HEALTHY, loss=replace(HEALTHY.loss, pre_median=4e6))
    assert "exceeds 4e+09" in monash_stability.loss_cap(millions).change


def test_a_checked_step_keeps_the_weights_from_a_bad_gradient():
    code = nan_root_cause.check_gradients(HEALTHY).code
    for bad in (False, True):
        known = training()
        before = known["model"][0].weight.clone()
        known["model"][0].weight.grad[0, 0] = math.nan if bad else 1.0
        execute(code, known)
        assert torch.equal(before, known["model"][0].weight) is bad


def test_repairs_change_what_is_bad_and_nothing_else():
    known = training()
    weight, gradient = known["model"][0].weight, known["model"][0].weight.grad
    weight.data[0, 0], gradient[1, 1] = math.inf, math.nan
    kept, kept_gradient = weight.data[1:].clone(), gradient[0].clone()
    execute(repair_not_skip.repair_weights(HEALTHY).code, known)
    execute(repair_not_skip.repair_gradients(HEALTHY).code, known)
    assert torch.equal(weight.data[1:], kept) and abs(weight.data[0, 0]) < 0.1
    assert torch.equal(gradient[0], kept_gradient) and gradient[1, 1] == 0


def test_an_optimizer_keeps_its_own_arguments_but_the_changed_one():
    style = replace(
        HEALTHY.style, constructor="torch.optim.AdamW", arguments=", betas=(0.5, 0.9), eps=1e-06", model="net"
    )
    e = replace(with_lr(1e-3, name="AdamW"), style=style)
    assert "AdamW(net.parameters(), lr=0.001, betas=(0.5, 0.9), eps=1e-08)" in (papers.larger_epsilon(e).code or "")
    assert "AdamW(net.parameters(), lr=0.001, eps=1e-06, betas=(0.9, 0.999))" in (papers.default_betas(e).code or "")


def test_a_layer_is_written_as_python_writes_it():
    assert code_lines.layer(HEALTHY, "body.4.fc1") == "model.body[4].fc1"
    assert code_lines.layer(HEALTHY, "\x1b[31m") == "layer"
