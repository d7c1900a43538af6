"""Gradients shrink to nothing through depth or time.

What happens
    Backward multiplies by each layer's weights and slopes. A sigmoid's slope is at
    most 0.25, a saturated tanh's near 0, small weights add to it: after ten layers
    a gradient of 1 is a millionth, and the layers next to the input do not learn.
    The loss falls as far as the last layer alone can bring it.

How to tell it from its neighbours
    fp16-underflow: gradients are ordinary in float32 and lost in half precision.
    dead-relu: whole units have no gradient at all, others have an ordinary one.
    loss-plateau: every layer gets gradients, and nothing comes of it.

What to do
    ReLU-like activations or residual connections, normalisation between layers,
    initialisation by fan-in; for recurrences gates or a shorter unroll.

Sources
    stability-guide (parameters do not move), glorot-2010, he-2015, pascanu-2013
"""

from ..evidence import Depth, Evidence
from .bookkeeping import from_the_start, outranked
from .cause import Answer, CannotSay, Cause, Remedy
from .course import LITTLE, learned, learned_little, learned_nothing, made_alike, pulled, readable, said
from .data_outlier import saturated
from .domains import NEARLY_ALL, faint_weights
from .failure import failed
from .remedies import nan_guide, nan_root_cause, papers
from .weighing import Clue, clue, weigh
from .wording import num, percent

SMALL = 1e-3  # rms of the smallest matrix' gradient against the largest (AutoTrainer); healthy nets stay above 1e-2
TINY = 1e-5
EXTREME = 1e-6  # single precision has no more digits than that: such a layer does not learn with the others
ORDERED = 0.5  # rank correlation of depth and gradient: it shrinks layer by layer
MATRICES = 3  # fewer layers have no depth to vanish in
TOO_SMALL = 0.5  # std * sqrt(fan-in) of the largest weight; nn.Linear starts at 0.58, Xavier at 1
ALIKE = 0.01  # of the difference between samples is left; healthy nets keep a thirtieth and more
FADED = 0.3
FAINT = 1e-4  # gradient norm against its loss; healthy runs start above 1e-2
DEEP = 4  # stacked recurrent layers, with no way past them
PRIOR = -2.0


def judge(e: Evidence) -> Answer:
    depth = e.depth
    if failed(e):
        return None
    if depth is None:
        return CannotSay("vanishing-gradients: no gradients of weight matrices in this trace")
    if e.flow is not None and (e.flow.blocked or e.flow.silenced or e.flow.unfed or e.flow.unreached) is not None:
        return None  # it stops at once, with an ordinary one on the other side
    if made_alike(e) is not None:
        return None  # samples that are all alike have gradients that cancel
    clues = _depth(depth) or _as_a_whole(e, depth) or _indifferent(e, depth) or _time(e)
    if not clues:
        return None
    if e.spread is not None and depth.saturating and e.spread.left < ALIKE:
        text = f"at first samples differ at {e.spread.layer} by {num(e.spread.left)} of what they did before it"
        clues.append(clue(1.0, text, e.spread.left, ALIKE, layer=e.spread.layer))
    clues += [*_neighbours(e, depth), *outranked(e), *from_the_start(e)]
    layer = f" at {depth.smallest_layer}" if depth.smallest_layer else ""
    text = f"The gradient{layer} is {num(depth.ratio)} of what it is at the other end of the network."
    return weigh(PRIOR, clues, text)


def _depth(depth: Depth) -> list[Clue]:
    found: list[Clue] = []
    if depth.ratio is not None and depth.ratio < SMALL and depth.matrices >= MATRICES and not upside_down(depth):
        text = f"gradients of {depth.smallest_layer} are {num(depth.ratio)} of the largest layer's"
        ordered = depth.ordered is not None and depth.ordered >= ORDERED
        weight = 3.5 if depth.ratio < EXTREME else 2.5 if depth.ratio < TINY else 1.5 if ordered else 0.3
        found.append(clue(weight, text, depth.ratio, SMALL, layer=depth.smallest_layer))
    if found and depth.gain is not None and depth.gain < TINY:
        text = f"from the last layer to the first the gradient shrinks to {num(depth.gain)}"
        found.append(clue(1.0, text, depth.gain, TINY))
    if found and depth.ordered is not None and depth.ordered >= ORDERED:
        found.append(clue(1.0, "it shrinks layer by layer towards the input", depth.ordered, ORDERED))
    if found and depth.saturating:
        found.append(clue(0.5, f"{depth.saturating} sigmoid or tanh operations in the graph"))
    return found


def _as_a_whole(e: Evidence, depth: Depth) -> list[Clue]:
    """Nothing arrives anywhere: the whole gradient is rounding against its loss, and shrinks towards the input."""
    first, loss = e.gradients.first if e.gradients else None, abs(e.loss.first) if e.loss else 0.0
    if first is None or depth.gain is None or depth.gain >= TINY or not 0 < first < EXTREME * loss:
        return []
    text = f"the gradient norm is {num(first)} at a loss of {num(loss)}, and shrinks to {num(depth.gain)} of it"
    return [clue(3.5, text, first, EXTREME * loss)]


def _indifferent(e: Evidence, depth: Depth) -> list[Clue]:
    """Flat activations, layer after layer, leave all samples with one answer: the loss hardly depends on any weight."""
    first, loss = e.gradients.first if e.gradients else None, abs(e.loss.first) if e.loss else 0.0
    if first is None or depth.saturating < DEEP or e.spread is None or e.spread.left >= FADED:
        return []
    if not 0 < first < FAINT * loss or not learned_little(e):
        return []
    text = f"the first gradient norm is {num(first)} at a loss of {num(loss)}, behind {depth.saturating} sigmoid or "
    text += f"tanh operations; at {e.spread.layer} samples differ by {num(e.spread.left)} of what they did before it"
    return [clue(3.0, text, first, FAINT * loss, layer=e.spread.layer)]


def _time(e: Evidence) -> list[Clue]:
    """Through the uses of one layer: what came in first teaches nothing. Many tasks need only the last."""
    flow = e.flow
    if flow is None or flow.through_time is None or flow.through_time >= SMALL or not learned_little(e):
        return []
    text = f"from the last use of {flow.recurrent} in a step to its first the gradient shrinks to "
    weight = 1.5 if learned_nothing(e) else 0.7
    return [clue(weight, f"{text}{num(flow.through_time)}", flow.through_time, SMALL, layer=flow.recurrent)]


def upside_down(depth: Depth) -> bool:
    """Gradients grow towards the input, or belong to several models: then nothing vanishes on its way there."""
    return depth.ordered is not None and depth.ordered < 0


def _neighbours(e: Evidence, depth: Depth) -> list[Clue]:
    found: list[Clue] = []
    course, won = readable(e), learned(e)
    if course is not None and won is not None:
        if learned_nothing(e):
            found.append(clue(2.0, said(course), won, LITTLE))
        elif learned_little(e):
            found.append(clue(1.0, said(course), won, LITTLE))
        else:
            extreme = depth.ratio is not None and depth.ratio < EXTREME
            left = e.fit is not None and e.fit.end >= LITTLE  # of the error: nor does it learn what it could
            found.append(clue(-2.0 if extreme or left else -4.0, f"it learns: {said(course)}"))
    if depth.half or (e.underflow and e.underflow.half_gradients and (e.underflow.flushed or 0) >= 0.5):
        found.append(clue(-1.5, "gradients are in half precision, which flushes small ones"))
    faint = faint_weights(e)
    if faint is not None:
        text = f"{percent(round(faint[2], 2))} of the weights start next to nothing: that is what it vanishes in"
        found.append(clue(-2.5, text, faint[2], NEARLY_ALL))
    if pulled(e):
        found.append(clue(-3.0, "the targets of a batch lie close together: each batch pulls at all answers alike"))
    if saturated(e):
        found.append(clue(-4.0, "the input is never normalised: it alone saturates the first layer"))
    if e.units is not None and e.units.dead and (e.units.dead[0].still or 0) >= 0.9 and e.units.relu:
        found.append(clue(-1.5, f"units of {e.units.dead[0].layer} get no gradient at all"))
    return found


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    depth, gain = e.depth, e.weights.worst_gain if e.weights else None
    initialise = papers.xavier if depth and depth.saturating else papers.kaiming
    through_time = [papers.gated, papers.orthogonal]
    if gain is not None and gain < TOO_SMALL:
        ladder = [initialise, papers.layer_norm, papers.residual, papers.relu]
    elif depth is not None and depth.saturating:
        ladder = [papers.relu, papers.layer_norm, papers.residual, initialise]
    else:
        ladder = [papers.layer_norm, papers.residual, initialise, papers.relu]
    recurrent = depth is not None and any(part in (depth.smallest_layer or "") for part in ("weight_hh", "weight_ih"))
    ladder = [*through_time, *ladder] if recurrent else [*ladder, *through_time]
    if papers.stacked(e) >= DEEP:
        ladder.insert(0, papers.fewer_layers)
    return tuple(remedy(e) for remedy in (*ladder, nan_guide.higher_lr, nan_root_cause.watch_norm))


CAUSE = Cause("vanishing-gradients", "Gradients vanish on their way to the input", __doc__, judge, remedies)
