"""Is a tensor of a batch a target? By its place or its name in the batch, which the loader's author chose."""

import re

from ..evidence import Bad, Evidence

TARGET = re.compile(r"(^|[._\]'\"\[])(y|labels?|targets?|gt|truth)($|['\"\]])", re.IGNORECASE)
LAST = re.compile(r"(^|[._\]'\"\[])(1|-1)($|['\"\]])")


def beside(bad: Bad, e: Evidence) -> str | None:
    """An input of the same batches that holds NaN, too: what was made of it, or scaled with its mean, is the target."""
    others = [name for name in e.spoiled if name != bad.tensor and TARGET.search(name) is None]
    named = bad.tensor is not None and TARGET.search(bad.tensor) is not None  # places in a batch tell too little
    return others[0] if named and others and not others[0].isdigit() else None


def is_target(bad: Bad, e: Evidence | None = None) -> bool:
    """Its name says so; or its place, the last of a batch; or no model was given it, the loss alone."""
    if bad.tensor is None:
        return False
    if TARGET.search(bad.tensor) is not None:
        return True
    data = e.data if e is not None else None
    given = data.model_inputs_bad if data is not None else None
    if given is not None or bad.source == "input":  # a second input stands in the second place, too
        return given is False and bad.source != "input"
    last = data.last_tensor if data is not None else None
    return bad.tensor == last if last is not None and bad.tensor.isdigit() else LAST.search(bad.tensor) is not None
