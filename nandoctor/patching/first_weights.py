"""First weights drawn again: of layers whose spread is beyond every rule, and of layers that began dead."""

from collections.abc import Iterator, Mapping
from typing import Any

from nandoctor.evidence import Evidence, Layout
from nandoctor.evidence.layout import First
from nandoctor.patching import activations
from nandoctor.patching.model import built, layer
from nandoctor.patching.source import Source

Wanted = Mapping[str, Any]
FAR, NOTHING = 5.0, 0.02  # std * sqrt(fan-in): He's rule is 1.41; a fiftieth of Xavier passes nothing on
FAR_TABLE = 5.0  # std of an embedding: torch draws from N(0, 1)
FAR_BIAS = 5.0  # a bias of a rule is below 1
LOW_BIAS = -0.5  # of a layer whose units are silent: below what nn.Linear of four inputs draws
MOSTLY = 0.5  # of a layer's units
FEW = 6  # layers that are named one by one
RESETS = (
    "Linear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Embedding",
    "EmbeddingBag", "LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell", "BatchNorm1d", "BatchNorm2d",
    "BatchNorm3d", "LayerNorm", "GroupNorm", "Bilinear",
)  # fmt: skip


def beyond_the_rules(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """Those that are NaN, far too large or next to nothing before the first step."""
    if e.layout is None:
        return False
    return again(source, e, [name for name, first in e.layout.first.items() if _beyond(e.layout, name, first)])


def _beyond(layout: Layout, name: str, first: First) -> bool:
    if first.bad:
        return True
    if len(first.shape) < 2:
        normalises = "Norm" in _owner(layout, name)  # its scale begins at 1, and may be set to 0
        return not normalises and first.absmax >= FAR_BIAS
    if _owner(layout, name).startswith("Embedding"):
        return first.std >= FAR_TABLE
    zero = first.std == 0 and "Norm" not in _owner(layout, name)
    return first.gain >= FAR or 0 < first.gain <= NOTHING or (zero and layout.models == 1)


def awake(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """Layers whose units are silent and whose biases began far below 0."""
    if e.layout is None or e.units is None:
        return False
    dead = [d.layer for d in e.units.dead if d.silent >= MOSTLY]
    output = list(e.layout.parameters)[-1:]  # its bias may be anything
    low = [name for name, first in e.layout.first.items()
           if len(first.shape) == 1 and name.endswith("bias") and name not in output and _far_below(first)]  # fmt: skip
    of_dead = [name for name in low if any(name.startswith(f"{path}.") for path in dead)]
    return again(source, e, of_dead or (low if wanted.get("all") else []))


def revived(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """Where nothing says why they are silent: drawn again, before an activation that cannot die."""
    if e.layout is None or e.units is None:
        return False
    dead = [d.layer for d in e.units.dead if d.silent >= MOSTLY]
    owned = [name for name in e.layout.parameters if name.rpartition(".")[0] in dead]
    return activations.leaky(source, e, wanted) and again(source, e, owned)


def for_relu(source: Source, e: Evidence) -> bool:
    """He's rule for a stack whose first weights are those of nn.Linear, 0.58 of what keeps a signal's size or less."""
    place = built(source, e)
    if place is None or e.layout is None or not source.imports("torch") or not e.depth or not e.depth.smallest_layer:
        return False
    if e.weights is None or (e.weights.worst_gain or FAR) >= 1 or e.weights.checkpoint_loads:
        return False
    statement, root = place
    inside = e.depth.smallest_layer.rpartition(".")[0].rpartition(".")[0]
    stack = [name.removesuffix(".weight") for name in e.layout.parameters
             if name.endswith(".weight") and _owner(e.layout, name).startswith(("Linear", "Conv"))
             and (not inside or name.startswith(f"{inside}."))]  # fmt: skip
    stack = stack if inside else stack[:-1]  # the last one gives the output
    written = [layer(root, path) for path in stack]
    if len(written) < 2 or None in written:
        return False
    whole = layer(root, inside) if inside else None
    if whole is not None:
        return source.above_it(
            statement,
            f"for layer in {whole}.modules():",
            "    if isinstance(layer, (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)):",
            '        torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")',
        )
    return source.above_it(
        statement,
        f"for layer in ({', '.join(str(one) for one in written)}):",
        '    torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")',
    )


def unsaturated(source: Source, e: Evidence, wanted: Wanted) -> bool:
    """ReLU between the layers, and first weights that fit it."""
    if not activations.unsaturated(source, e, wanted):
        return False
    if not any("tanh" in line for line in source.replaced.values()):
        for_relu(source, e)
    return True


def _far_below(first: First) -> bool:
    return first.low <= 2 * LOW_BIAS and (first.low + first.high) / 2 <= LOW_BIAS


def again(source: Source, e: Evidence, parameters: list[str]) -> bool:
    """Before the optimizer is made: the weights of their layers, as torch draws them."""
    place = built(source, e)
    weights = e.weights
    if place is None or not parameters or e.layout is None or (weights is not None and weights.checkpoint_loads):
        return False  # a checkpoint's weights are not drawn again
    statement, root = place
    lines = list(dict.fromkeys(_lines(e.layout, root, parameters)))
    if not lines or None in lines:
        return False
    resets = [line.removesuffix(".reset_parameters()") for line in lines if line and line.endswith("()")]
    others = [line for line in lines if line and not line.endswith("()")]
    if others and not source.imports("torch"):
        return False
    if len(resets) > FEW:
        whole = sum(kind in RESETS for kind in e.layout.modules.values()) == len(resets)
        names = f"{root}.modules()" if whole else f"({', '.join(resets)})"
        resets = []
        others = [f"for layer in {names}:", *(_guarded() if whole else ["    layer.reset_parameters()"]), *others]
    return source.above_it(statement, *(f"{one}.reset_parameters()" for one in resets), *others)


def _guarded() -> list[str]:
    return ['    if hasattr(layer, "reset_parameters"):', "        layer.reset_parameters()"]


def _lines(layout: Layout, root: str, parameters: list[str]) -> Iterator[str | None]:
    for name in parameters:
        path = name.rpartition(".")[0]
        shape = layout.parameters.get(name, ())
        if _owner(layout, name) in RESETS:
            written = layer(root, path) if path else root
            yield f"{written}.reset_parameters()" if written else None
            continue
        written = layer(root, name)
        last = name.rpartition(".")[2]
        if written is None or _owner(layout, name).startswith("Parametrized") or "parametrizations" in name:
            yield None
        elif len(shape) < 2:
            value = "ones_" if any(word in last for word in ("weight", "scale", "gain", "gamma")) else "zeros_"
            yield f"torch.nn.init.{value}({written})"
        elif last in ("weight", "in_proj_weight"):
            yield f"torch.nn.init.xavier_uniform_({written})"
        else:  # a table of its own: positions, tokens
            yield f"torch.nn.init.normal_({written}, std=0.02)"


def _owner(layout: Layout, name: str) -> str:
    return layout.modules.get(name.rpartition(".")[0], "")
