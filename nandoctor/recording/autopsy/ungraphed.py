"""A bad value that came into the graph from outside: data, or the user's arithmetic without a graph? And which call?"""

from typing import Any

from torch import Tensor

from ..incident import Incident
from ..names import class_name
from ..stats import is_bad, word
from . import replay, variables
from .births import kind_of
from .linemap import Line
from .operations import public_function
from .replay import Replayed
from .search import Found
from .tape import Entry, Given
from .values import Graph, order

# hand on what they are given: a batch stays a batch
HANDING_ON = frozenset(
    """getitem index_select gather cat stack to float double half bfloat16 long view reshape unsqueeze squeeze
    permute transpose t clone detach contiguous flatten expand as_tensor tensor from_numpy get setitem
    zeros_like ones_like rand_like randn_like full_like empty_like new_zeros new_ones new_full new_tensor""".split()
)
UNTOLD = (
    "a tensor that the program computes without a graph was bad before it was used here; "
    "nandoctor record --watch-step with this step names the operation"
)


def bearer(line: Line | None) -> Replayed | None:
    """What bore the value that this call was given from outside the graph."""
    entry = line.entry if line is not None else None
    if entry is None:
        return None
    answers = []
    outside = [given for given in entry.parents if not (isinstance(given.source, Entry) and given.source.graph)]
    made = [given for given in outside if isinstance(given.source, Entry)]
    for given in outside:
        answer = replay.birth(given, eliminates=len(made) == 1)
        if answer is not None:
            answers.append(answer)
    return min(answers, key=lambda a: (a.leaf is not None, a.place.line is None, a.unknown is not None), default=None)


def anywhere(line: Line | None) -> Replayed | None:
    """The birth among all calls that led to what this one gave back, with a graph or without; only if it was seen."""
    entry = line.entry if line is not None else None
    answer = replay.birth(Given(entry), eliminates=False) if entry is not None else None
    return answer if answer is not None and answer.result is not None else None


def computed(line: Line | None) -> bool:
    """Whether what came in from outside is made by the program at each step, by more than taking a batch."""
    entry = line.entry if line is not None else None
    todo: list[Any] = [given.source for given in entry.parents] if entry is not None else []
    seen: set[int] = set()
    while todo:
        source = todo.pop()
        if not isinstance(source, Entry) or source.graph or source.number in seen:
            continue
        seen.add(source.number)
        if source.parents and public_function(source.name) not in HANDING_ON:
            return True
        todo += [given.source for given in source.parents]
    return False


def fill(incident: Incident, answer: Replayed) -> None:
    """Phase, layer, operation and line of a call that has no node."""
    incident.method = "expression"
    incident.phase = "loss" if answer.layer is None else "forward"
    if answer.layer is not None:
        incident.layer, incident.module = answer.layer.name, answer.layer.kind
    incident.op, incident.place, incident.operands = answer.op, answer.place, answer.operands
    incident.masked_rows, incident.unknown = answer.masked_rows, answer.unknown
    if answer.result is not None:
        incident.kind = kind_of(answer.result)
        incident.dtype = word(answer.result.dtype)


def told(origin: Any, incident: Incident, found: Found, graph: Graph) -> bool:
    """Made by the program without a graph, as far as that can be told."""
    if any(bad.source == "batch" for bad in origin.run.bad_data):
        return False
    line = origin.lines.lookup(found.node, graph.nodes)
    answer = bearer(line)
    if answer is not None and answer.leaf is not None:
        given = origin.run.bad_data  # as the model was given it: its row is that of the batch
        origin.from_data(incident, given[0] if given else variables.located(answer.leaf, answer.leaf_name or ""))
        return True
    if answer is not None:
        fill(incident, answer)
        if origin.run.bad_data:  # a model was given it as its input
            origin.from_data(incident, origin.run.bad_data[0], answer.place)
            incident.unknown = None
            if answer.result is not None:  # who made it, in which type
                incident.method, incident.dtype = "expression", word(answer.result.dtype)
                incident.operands = answer.operands
        return True
    made = variables.computed(found.value)
    if made is not None:
        origin.from_expression(incident, found, made)
        return True
    if not origin.run.bad_data and computed(line):
        call = origin.run.locate(order(found.node))
        incident.phase = "loss" if call is None or call.loss else "forward"
        incident.unknown = UNTOLD
        return True
    return False


def repeated(origin: Any, incident: Incident, graph: Graph) -> bool:
    """The graph does not show the birth: repeat what led to the loss, where all of it is still held."""
    if any(bad.source == "batch" or bad.kind != "-inf" for bad in origin.run.bad_data):
        return False
    answer = anywhere(origin.lines.lookup(graph.root, graph.nodes))
    if answer is None:
        return False
    fill(incident, answer)
    return True


def bad_state(origin: Any, found: Found | None) -> tuple[str, str | None, Tensor] | None:
    """A parameter that is bad; a buffer, where the graph knows no operation that bore the value."""
    bad: tuple[str, str | None, Tensor] | None = origin.bad_parameters()
    return bad_buffer(origin) if bad is None and (found is None or found.kind == "outside") else bad


def bad_buffer(origin: Any) -> tuple[str, str | None, Tensor] | None:
    """A buffer that holds NaN and that the model itself does not write: somebody else did. Masks hold -inf."""
    names, makers = origin.run.names, origin.lines.tape.makers
    for model in names.models:
        top = model.ref()
        for path, module in names.modules(top) if top is not None else ():
            for name, value in module._buffers.items():
                if value is None or not is_bad(value) or kind_of(value) != "nan" or name.startswith("running_"):
                    continue
                known = makers.get(id(value))
                if known is None or known[0]() is not value or not isinstance(known[1], Entry):
                    return model.prefixed(f"{path}.{name}" if path else name), class_name(module), value
    return None


def left_packed(incident: Incident, graph: Graph) -> str:
    """What checkpointed blocks saved is never unpacked: that would run the user's forward again."""
    text = f"{graph.hooked} saved tensors belong to checkpointed blocks and were not unpacked"
    if incident.op is None and incident.phase not in ("input", "weights") and incident.layer is None:
        incident.unknown = text
    return text
