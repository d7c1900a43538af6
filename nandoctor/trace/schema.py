"""The trace format: one row per measured tensor or event, one note per text. Standard library only.

A recording writes ROW structs and JSON notes to a spool; `trace/parquet.py` turns them into run.parquet.
"bad" means NaN or Inf, everywhere. Change anything here: raise VERSION and say so in CHANGELOG.md.
"""

import struct

VERSION = 4

# --- one row: 40 bytes, little-endian ------------------------------------------------------------------------
ROW_FIELDS = (
    ("step", "u4"),  # calls of any optimizer's step before this row (contract/provenance.md)
    ("subject", "u4"),  # id of a `subject` note: what was measured
    ("shape", "u2"),  # id of a `shape` note: shape and element count; NO_SHAPE if it has none
    ("call", "u2"),  # call of that module within this step, from 0, saturating
    ("kind", "u1"),  # index into KINDS
    ("dtype", "u1"),  # index into DTYPES
    ("flags", "u1"),  # bits below
    ("mode", "u1"),  # index into MODES
    ("a", "f8"),  # the three numbers; their names depend on the kind: KINDS
    ("b", "f8"),
    ("c", "f8"),
)
ROW = struct.Struct("<IIHHBBBBddd")
AT_KIND, AT_FLAGS, AT_NUMBERS = 12, 14, 16  # bytes before them in a packed row
NO_SHAPE = 0xFFFF
MAX_CALL = 0xFFFF

# kind -> the names of its three numbers ("" = unused). Order is the number stored in the file: append only.
KINDS: dict[str, tuple[str, str, str]] = {
    # tensors: exact minimum and maximum (NaN if any element is NaN), L2 norm in float32 or wider
    "activation": ("low", "high", "norm"),  # output of a leaf module; subject = the module
    "output_gradient": ("low", "high", "norm"),  # gradient that reached that output
    "parameter_gradient": ("low", "high", "norm"),  # as the optimizer is about to use it, unscaled
    "weight": ("low", "high", "norm"),  # parameter after the step
    "update": ("low", "high", "norm"),  # what the step added to the parameter, from sampled elements; ends at a look
    "input": ("low", "high", "norm"),  # tensor given to a root module
    "batch": ("low", "high", "norm"),  # tensor in a batch drawn from a DataLoader
    # integers
    "labels": ("low", "high", "ignored"),  # integer tensor in a batch; ignored = count of -100
    "nonfinite": ("nan_count", "inf_count", "first_bad"),  # follows a bad tensor row of the same subject
    "batchnorm_count": ("", "", "value"),  # values per channel that BatchNorm took its statistics from
    # the run
    "loss": ("", "", "value"),  # at backward, before loss scaling
    "learning_rate": ("", "", "value"),  # subject = optimizer.group
    "gradient_norm": ("", "", "value"),  # over one optimizer's parameters as it is about to use them
    "clip": ("", "max_norm", "value"),  # value = total norm that clip_grad_norm_ returned, before clipping
    "loss_scale": ("", "found_inf", "value"),  # GradScaler, at each update
    "scaler": ("", "", "value"),  # a GradScaler call in order; subject = scale, unscale_, step, update
    "backward": ("", "divisor", "value"),  # a call of backward; value = the loss as given, scaled or not;
    # divisor = the number that the user divided it by last, 0 for none
    "step": ("", "", "value"),  # end of an optimizer step; value 1 = done, 0 = skipped by a GradScaler
    "zero_grad": ("", "", "value"),
    "epoch": ("", "", "value"),  # an iteration begun over a DataLoader; subject = the loader
    "checkpoint": ("", "", "value"),  # subject = load, save, load_state_dict
    "foreign_write": ("", "", "value"),  # a parameter changed between two steps, by neither optimizer nor
    # load_state_dict; value = relative change of a sample's norm
    "elapsed": ("", "", "value"),  # seconds since recording began, at the end of a step
    # dynamics, from the same sampled elements of all parameters of one optimizer, taken as one vector
    "gradient_cosine": ("", "", "value"),  # between this gradient g_t and the one before, g_t-1
    "curvature": ("slope", "", "value"),  # of the last update s: slope = s . g_t-1; value = s . (g_t-1 - g_t) / 2 slope
    # at a look: every step at first, then every LOOK_EVERY (recording/looks.py)
    "unmoved": ("", "of", "value"),  # sampled elements that have a gradient and did not move; of = that have one
    "denominator": ("zeros", "of", "value"),  # sampled elements of Adam's sqrt(v) below eps; zeros = exactly 0
    "flush": ("zeros", "of", "value"),  # subnormal elements of a half-precision gradient; zeros = exactly 0
    "silent_units": ("looks", "of", "value"),  # units of a layer's output never above 0 in this window of looks
    "still_units": ("looks", "of", "value"),  # rows of a parameter whose gradient was 0 at each look of the window
    "stale_gradient": ("", "", "value"),  # steps in a row that used again what a step had used: never cleared
    # at steps that `record --probe` repeated in forked copies (recording/probes/overshoot.py), on the batch of the step
    "rho": ("", "", "value"),  # decrease of the loss by the step, over the decrease that its gradient promised
    "critical_factor": ("", "", "value"),  # times the step that bring the loss back to its value before the step
    # active mode; subject = the treatment, value = which event (treat/ledger.py): 1 applied, 2 withdrawn, 3 helped,
    # 4 done once, 5 advised, 6 stood aside
    "treatment": ("", "", "value"),
    # under DistributedDataParallel, at a look and where the loss is not finite (recording/probes/replicas.py)
    "local_gradient": ("", "", "value"),  # norm of a parameter's gradient before the ranks' are averaged
    # what the loss was computed with, from what its graph saved (recording/probes/targets.py); subject = the loss
    "target": ("low", "high", "norm"),  # a floating-point target
    "fit": ("of", "divisor", "value"),  # at a look: error of the batch, divided by that of the best constant answer;
    # of = terms of the loss: 1, or 2 where something is added to it
    "spread": ("", "", "value"),  # at a look: of a layer's outputs, how far samples differ / their size; 0 = all alike
    # at a look: the loss again, with the model's answers exchanged among `of` samples (recording/probes/exchanged.py)
    "exchanged": ("of", "divisor", "value"),  # value = mean rise of the loss, divisor = standard deviation of the rise
}
KIND_NAMES = tuple(KINDS)
KIND = {name: number for number, name in enumerate(KIND_NAMES)}
TENSOR_KINDS = KIND_NAMES[:7]

DTYPES = (
    "", "float32", "float16", "bfloat16", "float64", "int64", "int32", "uint8", "bool", "complex64", "complex128",
    "int16", "int8", "float8_e4m3fn", "float8_e5m2", "other",
)  # fmt: skip
MODES = ("train", "eval")

BAD = 1  # the tensor holds NaN or Inf (exact; norm may overflow while this is off)
NORM_ONLY = 2  # low and high were not measured
SCALED = 4  # the value still carries the loss scale
CLIPPED = 8  # measured after a clip of this step
SAMPLED = 16  # the norm is an estimate from a sample of elements
SKIPPED = 32  # the optimizer left this step out
RECOMPUTED = 64  # seen while activation checkpointing ran the forward again
NO_GRAD = 128  # seen under no_grad

# --- notes: one JSON object a line, key "note" says which ----------------------------------------------------
# header      version, nandoctor, torch, python, platform, device, threads, command, cwd, pid, rank, world, started,
#             output
# subject     id, name, role (module|parameter|input|batch|optimizer|loader|scaler|call|loss), module (class), tensor
# shape       id, shape (list), count
# model       name, tree: [[path, class, training]], parameters: [[path, shape, dtype, requires_grad]]
# optimizer   id, name, class, groups: [hyperparameters], step            (again when they change)
# parallel    step, strategy (DistributedDataParallel, fully_shard)          (how the ranks train together)
# counts      step, low: the least of the targets of a Poisson likelihood, where it is below 0
# crossed     step, loss, rows: answers [rows, 1] were compared with targets [rows], each with all
# autocast    step, enabled, dtype
# graph       step, nodes: {name: count}      (autograd nodes of the first graph)
# line        lines of the line map: file, line, text                      (so that it reads on another machine)
# incident    a non-finite loss, gradient or weight and its birth: fields in recording/incident.py
# absorbed    step, looks (so far), op, layer, place: Inf made in float16 and divided by, so that the loss is finite
# exception   type, message, frames: [[file, line, function, text]], last (formatted, last lines)
# probe_failed  probe, step, error
# cost        seconds (in nandoctor's hooks), elapsed, steps, whole_steps  (recorded with everything; at the end)
# treatment   step, batch, event, treatment, cause, what, why, undo, count, patch, confidence, back_to: active mode
# unseen      text                                                        (what could not be observed, in words)
# closed      step                                                        (the process came to its regular end)
# end         exit_code or signal, steps                                   (written by the parent)
