"""One function for each kind of cure: it changes the source, or says that it cannot (False)."""

from collections.abc import Callable, Mapping
from typing import Any

from nandoctor.evidence import Evidence
from nandoctor.patching import (
    activations,
    batches,
    expressions,
    first_weights,
    half,
    loops,
    numbers,
    stalled,
    targets,
    writes,
)
from nandoctor.patching.source import Source

Wanted = Mapping[str, Any]  # the `patch` of a treatment's note
Edit = Callable[[Source, Evidence, Wanted], bool]

EDITS: dict[str, Edit] = {
    "lr": numbers.learning_rate,
    "warm-up": loops.warm_up,
    "optimizer": numbers.optimizer_arguments,
    "clip": loops.clip,
    "unscale": loops.unscale,
    "unscale-once": loops.unscale_once,
    "update": loops.update,
    "scaler-step": loops.scaler_step,
    "scaled-backward": loops.scaled_backward,
    "zero-grad": loops.zero_grad,
    "zero-grad-moved": loops.zero_grad_moved,
    "divide": loops.divide,
    "loss-cap": loops.loss_cap,
    "drop-last": expressions.drop_last,
    "batch-size": numbers.batch_size,
    "nan-to-num": batches.finite,
    "in-range": batches.in_range,
    "standardise": batches.standardised,
    "winsorise": batches.winsorised,
    "without-singles": batches.without_singles,
    "shuffle": batches.shuffled,
    "aligned": batches.aligned,
    "labels": targets.agreeing,
    "first-weights": first_weights.beyond_the_rules,
    "awake": first_weights.awake,
    "leaky": activations.leaky,
    "revived": first_weights.revived,
    "unsaturated": first_weights.unsaturated,
    "shallower": activations.shallower,
    "group-norm": activations.group_norm,
    "sound-writes": writes.sound_writes,
    "full-weights": half.full_weights,
    "loss-scale": half.scaled,
    "all-parameters": stalled.all_parameters,
    "thawed": stalled.thawed,
    "uncut": stalled.uncut,
    "downhill": stalled.downhill,
    "steady": stalled.steady,
    "operation": expressions.operation,
    "mask": expressions.open_rows,
    "float32": expressions.wider,
    "grad-scaler": expressions.wider,
    "scaler-defaults": expressions.scaler_defaults,
}
