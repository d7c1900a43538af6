"""What trace notes say of the modules of the models: class by path, order, and what the first graph consists of."""

from ..trace.trace import Trace
from . import fields


def classes(trace: Trace) -> dict[str, str]:
    """Class of each module by its dotted path; where there are several models, by that behind the model's name."""
    found: dict[str, str] = {}
    for note in trace.notes_of("model"):
        model = fields.words(note, "name")
        for entry in fields.items(note, "tree"):
            if isinstance(entry, (list, tuple)) and len(entry) >= 2:
                found[str(entry[0])] = str(entry[1])
                if model:
                    found[f"{model}.{entry[0]}"] = str(entry[1])
    return found


def graph_nodes(trace: Trace) -> dict[str, int]:
    """Autograd nodes of the first graph by name: "ReluBackward0": 3."""
    found = {}
    for note in trace.notes_of("graph")[:1]:
        for name, count in fields.mapping(note, "nodes").items():
            if isinstance(count, int):
                found[str(name)] = count
    return found
