"""Is a tensor of a batch a target? By its place or its name in the batch, which the loader's author chose."""

import re

from ..evidence import Bad, Evidence

TARGET = re.compile(r"(^|[._\]'\"\[])(1|-1|y|labels?|targets?|gt|truth)($|['\"\]])", re.IGNORECASE)


def is_target(bad: Bad, e: Evidence | None = None) -> bool:
    """Its name or place says so; or no model was ever given a bad value, so that the loss alone has used it."""
    if bad.tensor is not None and TARGET.search(bad.tensor) is not None:
        return True
    return bad.tensor is not None and e is not None and e.data is not None and e.data.model_inputs_bad is False
