"""Is a tensor of a batch a target? By its place or its name in the batch, which the loader's author chose."""

import re

from ..evidence import Bad

TARGET = re.compile(r"(^|[._\]'\"\[])(1|-1|y|labels?|targets?|gt|truth)($|['\"\]])", re.IGNORECASE)


def is_target(bad: Bad) -> bool:
    return bad.tensor is not None and TARGET.search(bad.tensor) is not None
