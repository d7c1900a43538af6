"""Births where autograd shows one block only: in an autograd.Function of the user's, in a compiled region, in a write
into gradients after backward."""

from typing import Any

from torch.autograd.function import BackwardCFunction

from ..incident import Incident
from ..run import Birth
from . import replay, sources, ungraphed, writes
from .linemap import LineMap
from .operations import public_name, stem
from .tape import Entry
from .values import Graph


def is_custom(node: Any) -> bool:
    """Of a class that the program, or a package, wrote: not torch's own blocks."""
    written = getattr(type(node), "_forward_cls", None)
    return isinstance(node, BackwardCFunction) and not getattr(written, "__module__", "torch.").startswith("torch.")


def told(incident: Incident, node: Any, graph: Graph, lines: LineMap) -> bool:
    """Born in the forward of an autograd.Function: its calls were noted like any others, without a graph."""
    if not is_custom(node):
        return False
    for consumer, _, _ in graph.consumers.get(node, ()):
        line = lines.lookup(consumer, graph.nodes)
        for given in line.entry.parents if line is not None and line.entry is not None else ():
            answer = replay.birth(given) if isinstance(given.source, Entry) and not given.source.graph else None
            if answer is not None and answer.op is not None and answer.place.line is not None:
                phase, layer, module = incident.phase, incident.layer, incident.module
                ungraphed.fill(incident, answer)
                incident.phase, incident.layer, incident.module = phase, layer, module
                return True
    return False


def names_in(graph: Graph) -> list[str]:
    """The autograd.Functions of the program in a graph, by the names that they would have as operations."""
    return [public_name(stem(node)[0]) for node in graph.nodes if is_custom(node)]


def in_backward(incident: Incident, functions: list[str]) -> None:
    """Nothing singular was seen where a gradient turned bad: if the graph has one such class, its backward made it."""
    if incident.op is not None or len(set(functions)) != 1:
        return
    incident.op, place = functions[0], sources.place_of(functions[0], None, ())
    if place is not None:
        incident.place = place


def edited(incident: Incident) -> bool:
    """All gradients that backward handed on were ordinary: the program itself wrote into them."""
    written = writes.into_gradients()
    if written is None:
        return False
    incident.op, incident.place = written
    incident.method = "expression"
    incident.unknown = "backward gave finite gradients: the program changed them before the step"
    return True


def compiled(incident: Incident, birth: Birth | None) -> None:
    """A region of torch.compile is one node: what it was given and gave back is all that can be seen."""
    incident.method, incident.unknown = "compiled", "born inside a region of torch.compile, which is one block"
    if birth is not None:
        incident.place, incident.operands = birth.place, birth.operands
        incident.parameters_finite, incident.kind = birth.parameters_finite, birth.kind
