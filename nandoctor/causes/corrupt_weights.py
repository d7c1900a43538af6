"""NaN or Inf came into the weights from a checkpoint or from other code.

What happens
    A weight is non-finite although the optimizer did not make it so: a checkpoint
    that was saved after the damage is loaded, or code writes into a parameter
    (weight averaging, pruning, a hand-made update). Every batch is NaN from then on.

How to tell it from its neighbours
    bad-initialization: non-finite before the first step, and no checkpoint was
    read. lr-too-high: the optimizer itself wrote the value, after the loss had
    grown. Here the last update was ordinary and the next forward pass was not.

What to do
    Load an older checkpoint and test it for finite values when it is loaded and
    when it is saved. Where code writes into weights, look at the line named.

Sources
    nan-guide (start over), repair-not-skip (repair weights), nan-root-cause
    (check weights)
"""

from ..evidence import Evidence
from .cause import Answer, Cause, Fact, Remedy, Verdict
from .course import learned_little
from .failure import FAR, HOT_RATIO, failed, settled
from .remedies import nan_guide, nan_root_cause, repair_not_skip
from .wording import num

CERTAIN = 0.95  # the writer was seen
SEEN = 0.9  # what was written is finite, and far from what stood there
LOST = 0.8  # the write itself was not seen
UNDONE, AGAIN = 0.85, 2  # once may be a pruning, after which it gets better than before
MANY_TIMES = 5.0  # weight clipping, averaging and decay by hand change a norm by less than itself
SOON = 10  # steps from the write to the failure
GUESSED = 0.6  # a foreign write was recorded at that time, the writer of the value was not
LOUD = 30.0  # batch against its usual largest value, E25
NEAR = 1  # steps between a foreign write and the failure


def judge(e: Evidence) -> Answer:
    bad, weights = e.bad, e.weights
    if bad is None:
        return _thrown_off(e) or _loaded(e) or _undone(e) or _forgotten(e)
    if bad.phase == "input":
        return None
    thrown = _thrown_off(e) or (_loaded(e) if bad.writer is None else None)
    if thrown is not None:
        return thrown
    name = bad.tensor or bad.layer or "a weight"
    if bad.phase == "weights" and bad.writer in ("load_state_dict", "foreign"):
        writer = "load_state_dict" if bad.writer == "load_state_dict" else "code other than the optimizer"
        what = f"{name} is {bad.kind or 'non-finite'}, written by {writer}"
        facts = [Fact(what, bad.kind, step=bad.step, layer=bad.layer)]
        if weights and weights.checkpoint_loads:
            step, call = weights.checkpoint_loads[-1]
            facts.append(Fact(f"{call} was called", step=step))
        return Verdict(CERTAIN, f"At step {bad.step} {what}.", tuple(facts))
    if bad.phase == "weights" and bad.writer is None and weights is not None:
        near = [(step, p) for step, p in weights.foreign_writes if bad.step - NEAR <= step <= bad.step]
        if near:
            what = f"{near[0][1]} was written by code other than the optimizer"
            return Verdict(GUESSED, f"At step {near[0][0]} {what}.", (Fact(what, step=near[0][0]),))
    return None


def _thrown_off(e: Evidence) -> Answer:
    """Finite garbage: a parameter changed many times over between two steps, and the run did not recover from it."""
    change = e.weights.foreign_change if e.weights else None
    if change is None or not change[2] >= MANY_TIMES or not (failed(e) or learned_little(e)):
        return None
    if e.bad is not None and not e.bad.step - SOON <= change[0] <= e.bad.step:
        return None
    step, name, times = change
    what = f"{name} changed by {num(times)} times its norm between two steps, by code other than the optimizer"
    return Verdict(SEEN, f"At step {step} {what}.", (Fact(what, times, MANY_TIMES, step),))


def _loaded(e: Evidence) -> Answer:
    """A checkpoint was loaded, and with the next batch the loss was another: the updates before it explain nothing."""
    loss, weights, optimizer = e.loss, e.weights, e.optimizer
    if weights is None or loss is None or loss.jump_at_onset is None or not failed(e) or e.onset.step < 1:
        return None
    loads = [(step, call) for step, call in weights.checkpoint_loads if e.onset.step - NEAR <= step <= e.onset.step]
    loud = e.data is not None and (e.data.loudest_ratio or 0) >= LOUD
    hot = optimizer is not None and (optimizer.update_ratio or 0) >= HOT_RATIO
    if not loads or loud or hot or loss.jump_at_onset < FAR:
        return None
    step, call = loads[-1]
    what = f"the loss jumped {num(loss.jump_at_onset)}-fold as soon as {call} had been called"
    return Verdict(SEEN, f"At step {step} {what}.", (Fact(what, loss.jump_at_onset, FAR, step),))


def _forgotten(e: Evidence) -> Answer:
    """No write was seen, for weights are not looked at at every step. But no update like those before it undoes all of
    them, and no batch stays: a model that answers as an untrained one does has lost what it knew. Other data make one
    that was sure of its answers dearer than that.
    """
    found = e.forgotten
    if found is None or e.steps <= 0:
        return None
    what = f"the loss went from {num(found.before)} to {num(found.after)} between two steps, where it began "
    what += f"({num(found.start)}), after an ordinary update"
    return Verdict(LOST, f"At step {found.step} {what}.", (Fact(what, found.after, found.start, found.step),))


def _undone(e: Evidence) -> Answer:
    """The weights are written, finite, and the loss is back where it began: again and again, or for good."""
    found = e.weights.set_back if e.weights else None
    if found is None or settled(e):
        return None
    count, step, before, after = found
    if count < AGAIN and not (e.loss is not None and e.loss.end >= before):
        return None
    times = f"{count} times " if count >= AGAIN else ""
    what = f"{times}code other than the optimizer wrote into the weights and undid the training: "
    what += f"the loss went from {num(before)} to {num(after)} at step {step}"
    return Verdict(UNDONE, f"{what[0].upper()}{what[1:]}.", (Fact(what, after, before, step),))


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    name = e.bad.tensor if e.bad and e.bad.tensor else "every tensor"
    check = Remedy(
        "Test a checkpoint when it is loaded and saved",
        f"{name}: must be finite; else load an older checkpoint",
        "nan-guide",
        "rollback",
        "assert all(v.isfinite().all() for v in state.values() if v.is_floating_point())",
    )
    foreign = e.bad is None or e.bad.writer != "load_state_dict"
    if foreign and e.weights is not None and (e.weights.foreign_writes or e.bad) and not e.weights.checkpoint_loads:
        name = e.weights.foreign_change[1] if e.weights.foreign_change else name
        wrote = Remedy(
            "Keep what code writes into weights only where it is sound",
            f"{name}: a copy before the write; put it back where the result is not finite, or five times as far away "
            "as the weight is large",
            "repair-not-skip",
            "rollback",
            "good = layer.weight.detach().clone(); ...; layer.weight.isfinite().all() or layer.weight.data.copy_(good)",
        )
        return (wrote, check, nan_root_cause.check_weights(e), nan_guide.start_over(e))
    return (check, nan_root_cause.check_weights(e), nan_guide.start_over(e), repair_not_skip.repair_weights(e))


CAUSE = Cause("corrupt-weights", "Weights damaged by a checkpoint or by other code", __doc__, judge, remedies)
