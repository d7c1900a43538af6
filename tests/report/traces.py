"""Traces made by hand for the pictures: healthy, sick, tiny, huge, hostile."""

from __future__ import annotations

import numpy as np

from nandoctor.trace.schema import BAD
from nandoctor.trace.trace import Trace, dtype_of

NAMES = ("conv1", "conv2", "fc")


def rows_of(kind, step, subject, order, first=None, second=None, third=None, flags=0, epoch=0):
    """Rows of a kind; the three numbers are given in the order of the schema."""
    rows = np.zeros(len(step), dtype=dtype_of(kind))
    rows["step"], rows["subject"], rows["order"], rows["flags"], rows["epoch"] = (
        step,
        subject,
        order,
        flags,
        epoch,
    )
    for name, values in zip(rows.dtype.names[-3:], (first, second, third), strict=True):
        if values is not None:
            rows[name] = values
    return rows


def tensor_rows(kind, sizes, first_subject, steps):
    """sizes: layers x steps of magnitudes; NaN and Inf become bad rows."""
    layers = sizes.shape[0]
    step = np.repeat(steps, layers)
    subject = np.tile(np.arange(layers) + first_subject, len(steps))
    size = sizes.T.reshape(-1)
    flags = np.where(np.isfinite(size), 0, BAD).astype("u1")
    low = np.where(np.isnan(size), np.nan, np.where(np.isinf(size), 0.0, -size))
    return rows_of(kind, step, subject, np.arange(len(step)), low, size, size, flags)


def subject(number, name, role, **more):
    return {"note": "subject", "id": number, "name": name, "role": role, **more}


def trace_of(rows, notes=(), path="run.parquet"):
    found = {kind: np.concatenate(parts) for kind, parts in rows.items() if parts}
    notes = ({"note": "header", "version": 1, "command": ["python", "train.py", "--lr", "0.5"]}, *notes)
    return Trace(path, tuple(notes), lambda kind: found.get(kind, np.zeros(0, dtype_of(kind))))


def values(kind, numbers, subject_id=0, steps=None, **more):
    steps = np.arange(len(numbers)) if steps is None else steps
    order = np.arange(len(numbers))
    return rows_of(kind, steps, np.full(len(steps), subject_id), order, third=numbers, **more)


def run(
    layers=NAMES, steps=60, bad_at=None, kind="nan", born=1, clip=False, scaler=False, epochs=1, incident=True
):
    """A training of `layers` for `steps`; from step `bad_at` on, layer `born` and all after it are bad."""
    layers = (
        [f"blocks.{n}.attention.out_proj" for n in range(layers)] if isinstance(layers, int) else list(layers)
    )
    many, random, at = len(layers), np.random.default_rng(0), np.arange(steps)
    wrong = {"nan": np.nan, "inf": np.inf}[kind]
    loss = 2.3 * np.exp(-at / max(steps, 20)) + random.normal(0, 0.05, steps)
    scale = np.exp(random.normal(0, 0.4, (many, 1))) * (1 + 0.1 * random.random((many, steps)))
    gradient = 0.1 * scale
    norm = np.sqrt((gradient**2).sum(0))
    growth = np.ones(steps) if bad_at is None else np.exp(np.clip(at - bad_at + 6, 0, None) * 1.5)
    activation, weight, update = scale * growth, 5 * scale * growth**0.5, 0.004 * scale * growth**0.5
    loss, norm, gradient = loss * growth, norm * growth, gradient * growth
    notes = [
        *(subject(n, name, "module", module="Conv2d") for n, name in enumerate(layers)),
        *(subject(many + n, f"{name}.weight", "parameter") for n, name in enumerate(layers)),
        subject(2 * many, "SGD.0", "optimizer"),
        subject(2 * many + 1, "x", "batch"),
        subject(2 * many + 2, "clip_grad_norm_", "call"),
        subject(2 * many + 3, "loss", "loss"),
    ]
    if bad_at is not None:
        after = at >= bad_at
        activation[born:, after] = wrong
        activation[:born, at > bad_at] = np.nan
        gradient[:, after], weight[:, after], update[:, after] = np.nan, np.nan, np.nan
        loss[after] = np.nan
        norm[after] = np.nan
        if incident:
            place = {"file": "train.py", "line": 57, "text": "x = torch.log(x)"}
            notes.append({
                "note": "incident", "alarm": "loss", "step": bad_at, "mode": "train", "phase": "forward",
                "layer": layers[born], "op": "log", "place": place, "kind": kind, "skipped": False,
            })  # fmt: skip
    done = np.ones(steps)
    if scaler:
        done[steps // 4 :: max(steps // 5, 1)] = 0
        norm = np.where(done == 0, np.inf, norm)
    rows = {
        "activation": [tensor_rows("activation", activation, 0, at)],
        "output_gradient": [tensor_rows("output_gradient", gradient, 0, at)],
        "parameter_gradient": [tensor_rows("parameter_gradient", gradient, many, at)],
        "weight": [tensor_rows("weight", weight, many, at)],
        "update": [tensor_rows("update", update, many, at)],
        "batch": [tensor_rows("batch", np.full((1, steps), 2.6), 2 * many + 1, at)],
        "loss": [values("loss", loss, 2 * many + 3)],
        "gradient_norm": [values("gradient_norm", np.minimum(norm, 1.0) if clip else norm, 2 * many)],
        "learning_rate": [values("learning_rate", 0.05 * np.minimum(1, (at + 1) / 10), 2 * many)],
        "step": [values("step", done, 2 * many, epoch=at * epochs // max(steps, 1))],
        "clip": [values("clip", norm * 1.0, 2 * many + 2, second=np.full(steps, 1.0))] if clip else [],
    }
    return trace_of(rows, notes)
