"""What a log shows, and how much likelier it makes each cause: natural logs of likelihood ratios.

The weights are judgements of the documents and of docs/evidence.md, not fits: logs are coarse, and so are they.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nandoctor.causes.cause import Fact
from nandoctor.causes.wording import num
from nandoctor.logs import alarms
from nandoctor.logs.course import BURST, CALM, CAP, JUMP, NORM_HIGH, RUN_UP, SPIKE, Course, Failure
from nandoctor.logs.lines import counted, when

LR, GRADIENTS, OUTLIER, INPUT = "lr-too-high", "exploding-gradients", "data-outlier", "bad-input-data"
HALF, OP, BATCHNORM, INIT = "fp16-overflow", "unsafe-op", "batchnorm-tiny-batch", "bad-initialization"
# before anything is seen; the guide's order: exploding gradients through the lr first, then overflow, BatchNorm, data,
# initial weights. exp() of each against 1 for a cause that is not in the list
PRIORS: Mapping[str, float] = {
    LR: 0.4, GRADIENTS: 0.3, OP: -0.4, INPUT: -0.4, HALF: -0.7, OUTLIER: -0.9, INIT: -1.2, BATCHNORM: -1.2,
}  # fmt: skip
QUICK, MIDDLE = 3, (10, 20)  # nan-guide: epochs 1-3, epochs 10-20
SANE_LR = 1e-3  # the default of Adam
HOT_LR, HOT_ADAM = 0.5, 0.02  # above what SGD without momentum, or Adam, is usually given
COOL_LR = 2e-5  # below what explodes by itself
ADAPTIVE = ("Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "Adafactor", "Lion")
BY_A_TENTH = 0.1


@dataclass(frozen=True)
class Symptom:
    fact: Fact
    weights: Mapping[str, float]


def symptoms(c: Course) -> list[Symptom]:
    return [*_course(c), *_validation(c), *_norms(c), *_settings(c), *_warnings(c)]


def _symptom(text: str, value: float | str | None, threshold: float | None, step: int | None, **by: float) -> Symptom:
    return Symptom(Fact(text, value, threshold, step), {name.replace("_", "-"): weight for name, weight in by.items()})


def _course(c: Course) -> Iterator[Symptom]:
    bad = c.train
    if bad is not None and bad.place == int(c.log.known("train")[0]):
        yield _symptom(f"the very first loss is {bad.kind}", bad.kind, None, bad.step, bad_initialization=1.5,
                       bad_input_data=1.2, unsafe_op=0.5, lr_too_high=-1.0, exploding_gradients=-1.5)  # fmt: skip
    elif c.rising >= RUN_UP or (c.rising and not c.per_epoch):
        path = ", ".join(num(value) for value in _run_up(c))
        long = c.rising >= RUN_UP
        yield _symptom(f"the loss rose {counted(c.rising, 'time')} in a row before: {path}", c.rising, RUN_UP,
                       bad.step if bad else None, lr_too_high=1.4 if long else 0.8,
                       exploding_gradients=1.0 if long else 0.8, bad_input_data=-2.0, unsafe_op=-1.5,
                       batchnorm_tiny_batch=-1.5, bad_initialization=-1.0)  # fmt: skip
        if c.leap is not None:
            text = f"in a single step it grew {num(c.leap)}-fold: too much for a step size alone"
            yield _symptom(text, c.leap, BURST, None, data_outlier=2.0, lr_too_high=-0.6)
    elif c.calm:
        text = f"nothing announced it: the last losses were within {num(CALM)} times the usual {num(c.usual)}"
        strength = 0.5 if c.per_epoch else 1.0  # a mean over an epoch hides what its batches did
        yield _symptom(text, c.usual, CALM, bad.step if bad else None, lr_too_high=-0.8 * strength,
                       unsafe_op=0.8 * strength, bad_input_data=0.8 * strength, fp16_overflow=0.6 * strength,
                       batchnorm_tiny_batch=0.6 * strength, bad_initialization=-1.5)  # fmt: skip
    if c.diverged:
        text = f"the loss ends above {num(JUMP)} times where it began, finite"
        yield _symptom(text, float(c.losses[-1]), JUMP, None, lr_too_high=1.5, exploding_gradients=0.5,
                       data_outlier=0.3, bad_input_data=-3.0, unsafe_op=-2.0, batchnorm_tiny_batch=-1.5)  # fmt: skip
    if c.burst and c.peak is not None and c.peak_at is not None:
        step, where = c.log.rows[c.peak_at].step, when(c.log, c.peak_at)
        text = f"the loss jumped to {c.peak:.4f}{where}, usually {num(c.usual)}"
        by = {"bad_input_data": -1.5, "unsafe_op": -1.5, "bad_initialization": -1.5, "batchnorm_tiny_batch": -1.0}
        if c.diverged or (bad is not None and not bad.recovered):  # then all explodes, whatever began it
            by |= {"exploding_gradients": 0.9, "data_outlier": 0.6, "lr_too_high": 0.9}
        else:  # single batches among ordinary ones: monash-stability's own symptom
            by |= {"exploding_gradients": 1.5, "data_outlier": 1.7, "lr_too_high": 0.2}
        yield _symptom(text, c.peak, CAP, step, **by)
    if bad is not None and bad.recovered:
        yield _symptom("the loss was finite again afterwards: the weights survived", bad.kind, None, bad.step,
                       lr_too_high=-1.5, exploding_gradients=-0.5, bad_input_data=1.2, data_outlier=0.5)  # fmt: skip
    if bad is not None and not bad.recovered and bad.epoch is not None and not c.zeroed:
        if bad.epoch <= QUICK:
            text = f"it came in epoch {bad.epoch}: quickly, as the guide says of epochs 1 to 3"
            yield _symptom(text, bad.epoch, QUICK,
                           bad.step, lr_too_high=0.5, bad_initialization=0.3)  # fmt: skip
        elif MIDDLE[0] <= bad.epoch <= MIDDLE[1]:
            text = f"it came in epoch {bad.epoch}: mid-training, as the guide says of epochs 10 to 20"
            yield _symptom(text, bad.epoch, MIDDLE[0], bad.step, lr_too_high=0.2, bad_initialization=-2.0)  # fmt: skip


def _run_up(c: Course) -> list[float]:
    finite = c.losses[: _index(c)]
    return [float(value) for value in finite[-c.rising - 1 :]][-5:]


def _index(c: Course) -> int:
    places = c.log.known("train")
    return len(places) if c.train is None else int((places < c.train.place).sum())


def _validation(c: Course) -> Iterator[Symptom]:
    validation, train = c.validation, c.train
    if validation is None:
        return
    if train is None:
        later = int((c.log.known("train") > validation.place).sum())
        stays = "; training went on, finite" if later else ""
        text = f"validation loss was {validation.kind}{when(c.log, validation.place)}, training loss never{stays}"
        yield _symptom(text, validation.kind, None, validation.step, unsafe_op=1.5, bad_input_data=1.0,
                       batchnorm_tiny_batch=0.5, lr_too_high=-1.0 if later else -0.3,
                       exploding_gradients=-1.0 if later else -0.3)  # fmt: skip
    elif validation.place < train.place or _same_epoch_first(c, validation, train):
        text = f"validation turned {validation.kind}{when(c.log, validation.place)}, training"
        text += (
            f"{when(c.log, train.place)}: the last updates of an epoch ruined the weights, validation met them first"
        )
        yield _symptom(text, validation.kind, None, validation.step, exploding_gradients=0.7, lr_too_high=0.4,
                       unsafe_op=0.3, batchnorm_tiny_batch=1.0, bad_input_data=-1.0,
                       bad_initialization=-2.0)  # fmt: skip


def _same_epoch_first(c: Course, validation: Failure, train: Failure) -> bool:
    """On one line stand both of an epoch; then the earlier epoch counts."""
    return validation.epoch is not None and train.epoch is not None and validation.epoch < train.epoch


def _norms(c: Course) -> Iterator[Symptom]:
    if c.norm is not None:
        text = f"the gradient norm was {c.norm.kind}{when(c.log, c.norm.place)} and ever after"
        first = c.train is None or c.norm.place < c.train.place  # of a NaN loss every gradient is NaN
        alone = first and not c.rising and not c.burst
        yield _symptom(text, c.norm.kind, None, c.norm.step, exploding_gradients=0.8 if alone else 0.2,
                       lr_too_high=0.2, fp16_overflow=0.4 if alone else 0.1)  # fmt: skip
    if c.peak_norm is None or c.usual_norm is None:
        return
    if c.peak_norm > NORM_HIGH and c.failed:
        text = f"the gradient norm reached {num(c.peak_norm)}, usually {num(c.usual_norm)}; the documents act above 10"
        spike = c.peak_norm > SPIKE * c.usual_norm
        yield _symptom(text, c.peak_norm, NORM_HIGH, None, exploding_gradients=0.9 if spike else 0.7, lr_too_high=0.6,
                       data_outlier=0.5 if spike else 0.0, unsafe_op=-0.8, bad_input_data=-1.0)  # fmt: skip
    elif c.failed and c.peak_norm < SPIKE * max(c.usual_norm, BY_A_TENTH):
        text = f"the gradient norm stayed ordinary: at most {num(c.peak_norm)}"
        yield _symptom(text, c.peak_norm, NORM_HIGH, None, exploding_gradients=-1.8, lr_too_high=-0.8, unsafe_op=0.6,
                       bad_input_data=0.6, fp16_overflow=0.3)  # fmt: skip


def _settings(c: Course) -> Iterator[Symptom]:
    said, rates = c.log.said, c.log.column("lr")[c.log.known("lr")]
    if c.lr is not None and not math.isfinite(c.lr):
        yield _symptom(f"the learning rate itself is {num(c.lr)}", num(c.lr), None, None, lr_too_high=4.0)
    elif len(rates) and float(rates.max()) >= (HOT_ADAM if said.optimizer in ADAPTIVE else HOT_LR):
        peak = float(rates.max())
        yield _symptom(f"lr {num(peak)} is high", peak, HOT_LR, None, lr_too_high=1.2, exploding_gradients=-0.2)
    elif len(rates) and COOL_LR < float(rates.max()) <= SANE_LR:
        peak = float(rates.max())
        yield _symptom(f"lr {num(peak)} is ordinary", peak, SANE_LR, None, lr_too_high=-0.5, exploding_gradients=0.3)
    elif len(rates) and float(rates.max()) <= COOL_LR:
        peak = float(rates.max())
        yield _symptom(f"lr {num(peak)} is low already", peak, COOL_LR, None, lr_too_high=-1.5)
    if said.precision == "fp16":
        yield _symptom("the run uses fp16, which ends at 65504", "fp16", None, None, fp16_overflow=1.3)
    elif said.precision in ("bf16", "fp32"):
        yield _symptom(f"the run uses {said.precision}, whose range is wide", said.precision, None, None,
                       fp16_overflow=-3.0)  # fmt: skip
    if said.batch_size == 1:
        yield _symptom("the batch size is 1", 1, None, None, batchnorm_tiny_batch=1.5)


WARNINGS: tuple[tuple[str, str, Mapping[str, float]], ...] = (
    (alarms.OUTPUT, "NaN or Inf in the model's output", {OP: 0.4, INPUT: 0.4, GRADIENTS: 0.2}),
    (alarms.LOSS, "a NaN or Inf loss", {}),
    (alarms.LOSS_CAPPED, "a loss above the cap", {GRADIENTS: 0.8, OUTLIER: 1.0, LR: 0.4, INPUT: -1.0, OP: -1.0}),
    (alarms.GRADIENT, "NaN or Inf in gradients", {GRADIENTS: 0.7, HALF: 0.5, OP: 0.3}),
    (alarms.WEIGHT, "NaN or Inf in weights", {LR: 0.5, GRADIENTS: 0.5, OUTLIER: -0.3}),
    (alarms.NORM_HIGH, "a gradient norm above 10", {GRADIENTS: 0.8, INPUT: -0.7}),
    (alarms.DATA_INF, "a series that holds Inf, left out", {INPUT: 0.3}),
    (alarms.DATA_RANGE, "values of a huge range, kept", {OUTLIER: 1.6}),
    (alarms.DATA_BAD, "abnormal values in the data", {INPUT: 3.0}),
    (alarms.ANOMALY, "a backward function that returned NaN", {OP: 2.0, LR: -0.5}),
)


def _warnings(c: Course) -> Iterator[Symptom]:
    for what, words, weights in WARNINGS:
        count = c.counts.get(what, 0)
        if count:
            first = next(warning for _, warning in c.log.warnings if warning.what == what)
            text = f'{counted(count, "line")} of {words}: "{first.text[:90]}"'
            yield Symptom(Fact(text, count), weights)
    scaling = c.counts.get(alarms.SCALE, 0)
    if scaling and c.skipped >= scaling:
        text = f"the loss scaler skipped {counted(scaling, 'step')}: more than it needs to find its scale"
        yield Symptom(Fact(text, scaling), {HALF: 2.5})
