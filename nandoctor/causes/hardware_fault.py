"""The same computation gave another result: a processor or memory that errs.

What happens
    A bit flips in a memory, or a core computes wrongly, without any error being
    raised (silent data corruption). One activation, gradient or weight jumps;
    from there the run goes wrong as if the model were to blame, and the next run
    of the same program does not show it.

How to tell it from its neighbours
    Only by repetition: nandoctor diagnose A B, two recordings of one command.
    Proved where all inputs, weights and random draws are equal to the last bit
    for several steps, and then one layer's output or one weight is not, by more
    than rounding. In a distributed training the replicas are each other's
    repetition: a candidate is one that was given the same gradients and does not
    hold the same weights. A program without a seed differs from its first step
    on; kernels that add in no fixed order differ by rounding, and early. On a
    processor with the same number of threads they add in the same order each time:
    there a difference of rounding's size that comes late and grows is a fault, too.
    corrupt-weights: code that writes into a weight does so in every run. From one
    recording this is never more than a candidate: a weight changed once, nothing
    was seen writing it, and one flipped bit of its exponent explains by how much.

What to do
    Run the same command again, and on another device. Where only one device
    errs, take it out of use. Load a checkpoint from before the fault: what was
    computed after it is worth nothing.

Sources
    nan-guide (if nothing helps: is the GPU driver sound; start over),
    dixit-2021 (another machine), PyTorch's notes on reproducibility
"""

from ..evidence import Desync, Evidence, Flip, Ranks
from ..evidence.divergence import Divergence
from ..evidence.side_by_side import Parting, tolerance
from .across_ranks import replicas as replica_facts
from .cause import Answer, Cause, Fact, Remedy, Verdict
from .remedies import nan_guide, papers, torch_docs
from .wording import num

COMPUTED = ("activation", "output_gradient", "parameter_gradient", "update", "weight", "loss", "gradient_norm",
            "gradient_cosine", "curvature",
            "foreign_write")  # kinds whose values follow from inputs, weights and random draws alone  # fmt: skip
EQUAL_STEPS = 3  # equal to the last bit before it: a program without a seed has parted by then
SURE_STEPS = 10  # and one that draws at random in one batch of four, too (0.75 ** 10 = 6 %)
PROVED, LIKELY = 0.95, 0.7  # after so many equal steps
CANDIDATE, FAINTER = 0.4, 0.3  # from one trace; from two that do not allow a proof
LATE = 5  # steps after which a single write is no part of setting a model up


def judge(e: Evidence) -> Answer:
    """From one recording: a candidate at most."""
    if e.ranks is not None and e.ranks.desync is not None and e.ranks.desync.gradients_equal:
        return _replica(e.ranks.desync, e.ranks, e.flip)
    flip = e.flip
    if flip is None or flip.step < LATE:
        return None
    changed = f"{flip.parameter} changed between steps {flip.step - 1} and {flip.step}, and nothing was seen writing it"
    facts = (
        Fact(changed, step=flip.step, layer=flip.parameter.rpartition(".")[0] or None),
        _bit(flip),
        Fact("it happened once in the run, to this parameter alone"),
    )
    against = ("one recording cannot prove it: code may have written that value",)
    return Verdict(CANDIDATE, f"At step {flip.step} {flip.parameter} jumped as a flipped bit would.", facts, against)


def _replica(d: Desync, r: Ranks, flip: Flip | None) -> Answer:
    """Replicas that are given equal gradients stay equal, unless one of them computes or keeps something else."""
    who = f"rank {d.rank}" if d.rank is not None else "one rank"
    facts = [*replica_facts(r)]
    if flip is not None and flip.step == d.step:
        facts.append(_bit(flip))
    against = ["code that runs on one rank alone (if rank == 0: ...) and writes weights would do the same"]
    if d.loaded:
        against.append("a checkpoint was loaded at that time")
    confidence = FAINTER if d.loaded else CANDIDATE
    return Verdict(confidence, f"From step {d.step} on {who} holds other weights than the others, although all were "
                   "given the same gradients.", tuple(facts), tuple(against))  # fmt: skip


def compared(d: Divergence, other: tuple[str, ...], flip: Flip | None, ordered: bool = False) -> Verdict | None:
    """From two recordings; `other` says what was not the same about them: then nothing is proved.

    ordered: both were made by kernels that add in the same order each time.
    """
    p = d.first
    if p is None or d.other_start or p.kind not in COMPUTED:
        return None
    if p.rounding and not (ordered and d.beyond is not None and min(p.step, d.equal_here) >= SURE_STEPS):
        return None
    written = p.kind == "foreign_write"
    if p.step < EQUAL_STEPS or (not written and (p.only_in is not None or d.equal_here < EQUAL_STEPS)):
        return None
    what = _what(p)
    against = tuple(f"{text}: that may explain the difference" for text in other)
    against += ("a random draw without a seed that happens for the first time at this step would look the same",)
    sure = p.step >= SURE_STEPS and not p.random and not p.rounding
    confidence = FAINTER if other else PROVED if sure else LIKELY
    facts = (Fact(what, p.b if isinstance(p.b, float) else None, None, p.step, p.layer), *_equal(d, p))
    if flip is not None and flip.step == p.step:
        facts += (_bit(flip),)
    summary = f"At step {p.step} {what}, although all that it is computed from is equal."
    return Verdict(confidence, summary, facts, against)


def _bit(flip: Flip) -> Fact:
    to = num(flip.after) if flip.after < float("inf") else "a number whose square overflows"
    bit = f"one flipped bit of an exponent explains it: about {num(flip.before)} -> {to}, a factor of 2^{flip.bits}"
    return Fact(bit, flip.after, step=flip.step)


def _what(p: Parting) -> str:
    named = f"{p.layer} ({p.module})" if p.module else p.layer or p.kind
    if p.only_in is not None:
        return f"{named} was changed in {p.only_in} by no one that was seen, and not in the other recording"
    kind = {"activation": "the output", "output_gradient": "the gradient", "weight": "the weight"}.get(
        p.kind, f"the {p.kind.replace('_', ' ')}"
    )
    of = f" of {named}" if p.layer and p.layer != p.kind else ""
    return f"{kind}{of} is not the same: {p.number} {_number(p.a)} in A, {_number(p.b)} in B"


def _number(value: float | str | None) -> str:
    return num(value) if isinstance(value, float) else str(value)


def _equal(d: Divergence, p: Parting) -> tuple[Fact, ...]:
    inputs = sum(d.equal_before.get(kind, 0) for kind in ("batch", "labels", "input"))
    weights, total = d.equal_before.get("weight", 0), sum(d.equal_before.values())
    drawn = f", {d.equal_random} outputs of random layers" if d.equal_random else ""
    facts = [Fact(f"equal to the last bit before: {total} rows of steps 0 to {p.step}, among them {inputs} of inputs, "
                  f"{weights} of weights{drawn}", total)]  # fmt: skip
    if d.equal_here:
        facts.append(Fact(f"the same was computed and equal in {d.equal_here} steps before", d.equal_here))
    w = d.written
    if w is not None and w.step == p.step and p.kind != "foreign_write":
        facts.append(Fact(f"{_what(w)}", step=w.step, layer=w.layer))
    if p.relative < float("inf"):
        allowed = num(tolerance(p.dtype))
        facts.append(Fact(f"it differs by {num(p.relative)} of its size; sums taken in another order stay below "
                          f"{allowed}", p.relative, tolerance(p.dtype)))  # fmt: skip
    return tuple(facts)


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    return (
        torch_docs.run_twice(e),
        papers.suspect_hardware(e),
        torch_docs.deterministic(e),
        Remedy(
            "Ask the device for its own errors",
            "is the GPU driver sound, does CUDA match PyTorch; memory errors that the device has counted",
            nan_guide.SOURCE,
            None,
            "nvidia-smi -q -d ECC,PAGE_RETIREMENT" if e.style.cuda else "journalctl -k | grep -i -e mce -e edac",
        ),
        nan_guide.start_over(e),
    )


CAUSE = Cause("hardware-fault", "The same computation gave another result", __doc__, judge, remedies)
