"""Most units of a layer never fire.

What happens
    A ReLU is flat below 0. A unit whose input is negative for every sample passes
    nothing forward and gets no gradient back, so it never recovers. A bias pushed far
    down by one large update, a bad initialisation or loud inputs kill a layer at
    once; what is left of the network learns what it can.

How to tell it from its neighbours
    vanishing-gradients: all units get small gradients, smaller layer by layer.
    A healthy ReLU is silent for many samples, but not for all of them over a
    hundred steps. loss-plateau: units fire.

What to do
    Initialise by He's rule with biases at 0, lower the learning rate, use
    LeakyReLU, GELU or a normalisation before the activation.

Sources
    he-2015, maas-2013 (LeakyReLU), nan-guide (lower learning rate)
"""

from ..evidence import DeadLayer, Evidence
from ..evidence.units import APART, MOST, dead_share
from .bookkeeping import from_the_start, outranked
from .cause import Answer, CannotSay, Cause, Remedy
from .course import LITTLE, learned, learned_little, no_better_than_constant, readable, said, unmixed
from .failure import HOT_RATIO, failed
from .lr_too_high import stuck_hot
from .remedies import monash_stability, nan_guide, papers, stability_guide
from .weighing import Clue, clue, weigh
from .wording import percent

MANY = 0.7
NEARLY_ALL = 0.9
SHRUNK = 1e-4  # gradients that shrink with depth starve units, too
LONG = 0.8  # of the run without winning anything: what it learned, it learned before the units died
PRIOR = -1.5


def judge(e: Evidence) -> Answer:
    if failed(e):
        return None
    flat = _flat(e)
    if flat is not None:
        return flat
    nothing = e.flow is not None and e.units is not None and e.flow.unreached in e.units.starved  # no ReLU is before it
    if e.units is not None and e.units.relu and e.units.starved and not nothing:
        return _starved(e, e.units.starved)
    if e.units is not None and e.units.relu and e.units.unmoved >= MOST and learned_little(e):
        return _unmoved(e, e.units.unmoved)
    if e.units is None:
        return CannotSay("dead-relu: no layer's units were looked at")
    layers = [dead for dead in e.units.dead if dead_share(dead) >= MOST and (_silent(dead) or learned_little(e))]
    if not layers or not e.units.relu:
        return None
    worst = layers[0]
    text = f"{percent(round(dead_share(worst), 2))} of the {worst.units} units of {worst.layer} never fired "
    text += f"in {worst.looks} looks, and got no gradient"
    weight = 3.0 if dead_share(worst) >= NEARLY_ALL else 2.0 if dead_share(worst) >= MANY else 0.8
    clues = [clue(weight, text, dead_share(worst), MOST, layer=worst.layer)]
    if len(layers) > 1:
        clues.append(clue(0.5, f"{len(layers)} layers are mostly dead: {', '.join(d.layer for d in layers[:4])}"))
    depth = e.depth
    if dead_share(worst) < NEARLY_ALL and depth and depth.ratio is not None and depth.ratio < SHRUNK:
        clues.append(clue(-1.5, f"gradients of {depth.smallest_layer} are {depth.ratio:.2g} of the largest layer's"))
    if stuck_hot(e):
        clues.append(clue(-4.0, "updates as large as the weights killed them: the learning rate"))
    first = worst.at_first
    grew = first is not None and first < MOST
    if first is not None and grew and dead_share(worst) >= MANY and _stands(e):
        text = f"{percent(round(first, 2))} of them were silent in the first batch: training killed the others"
        clues.append(clue(1.0, text, first, MOST, layer=worst.layer))
    if unmixed(e):
        clues.append(clue(-4.0, "batches are not mixed: units of the classes that are not there fall silent"))
    elif grew and dead_share(worst) < NEARLY_ALL and no_better_than_constant(e):
        firing = worst.units - round(worst.silent * worst.units)
        clues.append(clue(-1.5, f"{firing} units fire, and tell nothing of the targets either"))
    clues += [*_course(e), *outranked(e), *from_the_start(e)]
    return weigh(PRIOR, clues, f"Most units of {worst.layer} are dead: {text}.")


def _flat(e: Evidence) -> Answer:
    """Not some units but all of them: a ReLU of what is never above 0 ends every gradient at one place."""
    flow = e.flow
    if flow is not None and flow.silenced is not None and e.units is not None and e.units.relu and learned_little(e):
        text = f"the outputs of {flow.silenced}, the last layer, are never above 0, and its gradient is exactly 0"
        clues = [clue(4.0, f"{text}, in every batch", layer=flow.silenced), *_course(e)]
        clues += [*outranked(e), *from_the_start(e)]
        return weigh(PRIOR, clues, f"A ReLU behind the last layer is silent: {text}.")
    if flow is None or flow.blocked is None or e.units is None or not e.units.relu or not learned_little(e):
        return None
    text = f"{flow.before or 'the next layer'} gets a gradient and {flow.blocked}, one further from the loss, exactly 0"
    clues = [clue(3.0, f"{text}, in every batch", layer=flow.blocked), *_course(e), *outranked(e), *from_the_start(e)]
    return weigh(PRIOR, clues, f"No unit between {flow.blocked} and {flow.before} fires: {text}.")


def _starved(e: Evidence, layers: tuple[str, ...]) -> Answer:
    """The gradient of a weight is that of its output times its input: where the bias gets one and the weight never
    does, no unit before the layer fires.
    """
    text = f"{layers[0]}.bias gets gradients and {layers[0]}.weight exactly 0 at every look: its input is 0"
    clues = [clue(3.0, text, layer=layers[0]), *_course(e), *outranked(e), *from_the_start(e)]
    if len(layers) > 1:
        clues.append(clue(0.5, f"so it is with {len(layers)} layers: {', '.join(layers[:4])}"))
    if stuck_hot(e):
        clues.append(clue(-4.0, "updates as large as the weights killed them: the learning rate"))
    return weigh(PRIOR, clues, f"No unit before {layers[0]} fires: {text}.")


def _unmoved(e: Evidence, share: float) -> Answer:
    """Matrices of no module: ReLUs stand between them, and what is behind one that never fires gets no gradient."""
    text = f"{percent(round(share, 2))} of the weights never get a gradient, and the graph has ReLUs"
    return weigh(PRIOR, [clue(2.5, text, share, MOST), *_course(e), *outranked(e), *from_the_start(e)], f"{text}.")


def _stands(e: Evidence) -> bool:
    """What learns on may do without units that it does not need."""
    course = readable(e)
    return course is None or course.stalled >= LONG or learned_little(e)


def _silent(dead: DeadLayer) -> bool:
    return dead.still is not None and dead.still <= dead.silent + APART


def _course(e: Evidence) -> list[Clue]:
    course, won = readable(e), learned(e)
    if course is None or won is None:
        return []
    if learned_little(e):
        return [clue(1.5, said(course), won, LITTLE)]
    if course.stalled >= LONG:
        return [clue(-0.5, said(course), won, LITTLE)]
    return [clue(-1.5, f"it learns all the same: {said(course)}")]


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    ratio = e.optimizer.update_ratio_first if e.optimizer else None
    gain = e.weights.worst_gain if e.weights else None
    ladder = [papers.revive, papers.leaky_relu, papers.kaiming]
    if gain is not None and gain > papers.FAN_IN:  # weights beyond the rule
        ladder = [papers.kaiming, papers.revive, papers.leaky_relu]
    if ratio is not None and ratio >= HOT_RATIO:  # the first steps themselves pushed the units below 0
        ladder.insert(0, nan_guide.lower_lr)
    else:
        ladder.append(nan_guide.lower_lr)
    ladder += [monash_stability.normalise, papers.layer_norm, stability_guide.warm_up]
    return tuple(remedy(e) for remedy in ladder)


CAUSE = Cause("dead-relu", "Most units of a layer never fire", __doc__, judge, remedies)
