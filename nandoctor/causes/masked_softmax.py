"""A softmax got a row that is masked entirely.

What happens
    Attention masks put -inf where nothing may be looked at. A row that holds
    nothing but -inf has no largest score: softmax computes -inf - (-inf) = NaN.
    An empty sentence, a padding row or a wrong mask polarity make such rows. NaN
    then reaches every weight through backward, even if the row's output is masked
    out later.

How to tell it from its neighbours
    A mask of -inf with one open place in every row is healthy. In fp16-overflow the
    scores pass 65504 and turn +inf. unsafe-op has no mask in its operands.

What to do
    Leave at least one open place in every row, or give fully masked rows a zero
    output. scaled_dot_product_attention gives zeros for such rows in recent
    PyTorch; a finite mask constant gives a uniform row instead of NaN.

Sources
    nan-guide (attention scores kept in range), nan-root-cause (check the masks),
    PyTorch's documentation of scaled_dot_product_attention
"""

import math

from ..evidence import Bad, Evidence
from ..evidence.first_bad import MASK
from .cause import Answer, Cause, Fact, Remedy, Verdict
from .domains import drifted
from .remedies import nan_guide, nan_root_cause
from .wording import where

SOFTMAXES = (
    "softmax",
    "log_softmax",
    "multi_head_attention",
    "multi_head_attention_forward",
    "logsumexp",
    "scaled_dot_product_attention",
    "softmin",
    "gumbel_softmax",
    "cross_entropy",
)
CERTAIN = 0.96  # rows of nothing but -inf were counted in the operand
LIKELY = 0.8  # -inf in the operand, NaN in the result
MASKED = 0.75  # neither the row nor the softmax was seen
ATTENTION = 0.55  # born in an attention layer whose inside was not seen, with a mask among its operands


def judge(e: Evidence) -> Answer:
    bad = e.bad
    if bad is None or bad.phase not in ("forward", "loss", "backward"):
        return None
    if bad.masked_rows > 0:  # of a softmax, or of one written by hand: x - x.max() is NaN there
        what = f"{bad.masked_rows} rows hold nothing but -inf"
        facts = [Fact(f"{bad.op or 'softmax'}: {what}", bad.masked_rows, 0, bad.step, bad.layer)]
        return Verdict(CERTAIN, f"At {where(bad)}, {what}.", (*facts, *_range(bad)))
    if bad.op in SOFTMAXES and bad.kind != "inf" and _holds_minus_inf(bad):
        fact = Fact(f"{bad.op} was given -inf and returned NaN", bad.kind, step=bad.step, layer=bad.layer)
        return Verdict(
            LIKELY,
            f"At {where(bad)}, scores masked with -inf became NaN.",
            (fact, *_range(bad)),
            ("how many rows are masked entirely was not seen",),
        )
    if bad.method == MASK and not drifted(e):
        what = "a constant of the program holds -inf, its batches do not, and a softmax follows"
        return Verdict(MASKED, f"At {where(bad)}: {what}.", (Fact(what, bad.kind, step=bad.step),))
    attention = "ttention" in (bad.module or "") and (bad.op is None or bad.op in SOFTMAXES)
    if attention and bad.operand("mask") is not None and bad.kind == "nan":
        fact = Fact("an attention layer with a mask returned NaN", bad.kind, step=bad.step, layer=bad.layer)
        return Verdict(ATTENTION, f"At {where(bad)}, an attention layer with a mask returned NaN.", (fact,))
    return None


def _holds_minus_inf(bad: Bad) -> bool:
    x = bad.operand("self", "input", "mask")
    return x is not None and x.inf > 0 and (x.nan == 0)


def _range(bad: Bad) -> tuple[Fact, ...]:
    x = bad.operand("self", "input")
    if x is None or math.isnan(x.high):
        return ()
    return (Fact(f"the unmasked scores are ordinary: [{x.low:.3g}, {x.high:.3g}]", x.high),)


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    docs = "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html"
    rows = e.bad.masked_rows if e.bad else 0
    open_row = Remedy(
        "Leave one place open in every row",
        f"{rows or 'fully masked'} rows -> 0: drop empty sequences, or unmask their first place",
        "nan-root-cause",
        "attention-logits",
        "mask[mask.all(dim=-1)] = False  # True = masked",
    )
    zeros = Remedy(
        "Give fully masked rows a zero output",
        "softmax(scores) -> zeros where a row is all -inf",
        docs,
        "attention-logits",
        "weights = scores.softmax(-1).masked_fill(mask.all(-1, keepdim=True), 0.0)  "
        "# after scores = scores.masked_fill(mask, torch.finfo(scores.dtype).min)",
    )
    fused = Remedy(
        "Use scaled_dot_product_attention",
        "softmax(q k^T) v -> one fused call; since torch 2.5 a row that is masked entirely gives zeros",
        docs,
        None,
        "y = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=~mask)  # True there: may be seen",
    )
    others = (nan_root_cause.check_inputs, nan_guide.clamp_attention, nan_guide.skip_bad_loss)
    return (open_row, zeros, fused, *(remedy(e) for remedy in others))


CAUSE = Cause("masked-softmax", "A softmax row is masked entirely", __doc__, judge, remedies)
