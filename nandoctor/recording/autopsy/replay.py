"""The birth of a value that has no graph: the calls that led to it are repeated from the variables that still hold what
they were given, until one makes a bad value of good ones.

Only torch's own functions, only those without chance or side effects, only after an alarm; never the user's code.
Where an operand is held by nobody any more the answer is by elimination, and only if one line is left.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..incident import Operand, Place
from ..names import Layer
from ..quiet import quiet
from ..stats import is_bad
from .elimination import above, can_leave, name_of, place_of
from .linemap import OPERATION_INSIDE
from .operations import MASKS, public_function
from .tape import Entry, Given, Held, Leaf, held_now
from .values import describe

MAX_STEPS = 5_000  # calls repeated
MAX_ELEMENTS = 50_000_000  # computed in all: an alarm may cost a moment
CHANCE = frozenset(
    """rand randn randint randperm rand_like randn_like randint_like normal bernoulli multinomial poisson binomial
    dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout rrelu gumbel_softmax
    uniform exponential geometric cauchy log_normal random trunc_normal native_dropout empty empty_like new_empty
    empty_strided fractional_max_pool2d fractional_max_pool3d""".split()
)
PROPERTIES = frozenset("T mT H mH data real imag".split())
OUTSIDE_EFFECTS = frozenset(
    "backward register_hook retain_grad requires_grad set apply to_sparse share_memory pin_memory record_stream "
    "register_post_accumulate_grad_hook from_numpy load frombuffer".split()
)
FILLS = frozenset(
    "masked_fill where tril triu setitem index_put scatter full full_like tensor fill new_full clamp".split()
)
SOFTMAXES = frozenset("softmax log_softmax logsumexp scaled_dot_product_attention softmin".split())


@dataclass
class Replayed:
    op: str | None
    place: Place
    layer: Layer | None
    operands: list[Operand] = field(default_factory=list)
    result: Tensor | None = None
    masked_rows: int = 0
    leaf: Tensor | None = None  # it was bad before anything was computed of it
    leaf_name: str | None = None
    unknown: str | None = None


def birth(given: Given, eliminates: bool = True) -> Replayed | None:
    """Of what a consumer was given; None if the tape cannot tell."""
    with torch.no_grad(), quiet():
        return _Replay(given, eliminates).birth()


class _Replay:
    def __init__(self, root: Given, eliminates: bool) -> None:
        self.root, self.eliminates = root, eliminates
        self.now = held_now()
        self.values: dict[tuple[int, int], Tensor | None] = {}  # (id of entry or leaf, place)
        self.reproduced: set[int] = set()  # ids of entries that gave a bad value again
        self.spent = 0

    def birth(self) -> Replayed | None:
        if isinstance(self.root.source, Leaf):
            return self._leaf(self.root.source)
        chain = self._ancestors(self.root.source)
        if len(chain) > MAX_STEPS:
            return None
        for entry in chain:
            if not self._settled(entry):
                self._compute(entry)
        return self._walk(chain)

    # --- values ----------------------------------------------------------------------------------------------
    def _ancestors(self, root: Entry) -> list[Entry]:
        """In the order of the calls, as far up as a good value is held by a variable."""
        seen, todo = {root.number: root}, [root]
        while todo and len(seen) <= MAX_STEPS:
            entry = todo.pop()
            if self._settled(entry):
                continue
            for given in entry.parents:
                above = given.source
                if isinstance(above, Entry) and above.number not in seen:
                    seen[above.number] = above
                    todo.append(above)
        return [seen[number] for number in sorted(seen)]

    def _held(self, key: Held | None) -> Tensor | None:
        value = self.now.get(key) if key is not None else None
        return value.detach() if value is not None else None

    def _settled(self, entry: Entry) -> bool:
        """Whether variables hold good values of all that this call gave back and that is known of."""
        if not entry.held:
            return False
        good = {place: value for place, key in entry.held.items() if (value := self._held(key)) is not None}
        if len(good) < len(entry.held) or any(is_bad(value) for value in good.values()):
            return False
        self.values.update({(id(entry), place): value for place, value in good.items()})
        return True

    def value(self, given: Given) -> Tensor | None:
        key = (id(given.source), given.place)
        if key not in self.values and isinstance(given.source, Leaf):
            leaf = given.source
            value = self._held(leaf.held)
            if value is None and leaf.lasting:
                lasting = leaf.ref()
                value = lasting.detach() if lasting is not None else None
            self.values[key] = value
        return self.values.get(key)

    def _compute(self, entry: Entry) -> None:
        for place, value in enumerate(self._repeated(entry)):
            self.values[(id(entry), place)] = value
            if is_bad(value):
                self.reproduced.add(id(entry))
        for place, key in entry.held.items():
            held = self._held(key)
            if held is not None and (id(entry) not in self.reproduced or not is_bad(held)):
                self.values[(id(entry), place)] = held  # what was repeated had other operands, or was made good again

    def _repeated(self, entry: Entry) -> list[Tensor]:
        op = public_function(entry.name)
        accessor = entry.name == "__get__"
        if accessor and getattr(entry.func.__self__, "__name__", "") not in PROPERTIES:
            return []
        random = op in CHANCE or op in OUTSIDE_EFFECTS or entry.name.startswith("__set__")
        if random or not entry.whole or entry.autocast is None or self.spent > MAX_ELEMENTS:
            return []
        if any(self.value(given) is None for given in entry.parents):
            return []
        self.spent += entry.elements
        args = [self._filled(value) for value in entry.args]
        kwargs = {key: self._filled(value) for key, value in entry.kwargs.items()}
        if "out" in kwargs or kwargs.get("inplace"):
            return []
        setitem = entry.name == "__setitem__"
        if (setitem or _in_place(entry.name)) and args and isinstance(args[0], Tensor):
            args[0] = args[0].clone()
        device, dtype, enabled = entry.autocast
        state = torch.get_rng_state()
        try:
            with torch.autocast(device, dtype=dtype if enabled else None, enabled=enabled, cache_enabled=False):
                result = entry.func(*args, **kwargs)
        except Exception:  # of another size than it was then
            return []
        finally:
            torch.set_rng_state(state)
        if setitem:
            result = args[0]
        if isinstance(result, Tensor):
            return [result]
        return [r for r in result if isinstance(r, Tensor)] if isinstance(result, (tuple, list)) else []

    def _filled(self, value: Any) -> Any:
        if isinstance(value, Given):
            return self.value(value)
        if isinstance(value, (tuple, list)):
            return type(value)(self._filled(item) for item in value)
        if isinstance(value, slice):
            return slice(self._filled(value.start), self._filled(value.stop), self._filled(value.step))
        return value

    # --- from the bad value back -----------------------------------------------------------------------------
    def _walk(self, chain: list[Entry]) -> Replayed | None:
        todo: list[Given] = [self.root]
        seen: set[int] = set()
        found: list[Entry] = []
        lost: list[Entry] = []
        while todo:
            given = todo.pop()
            source = given.source
            if id(source) in seen:
                continue
            seen.add(id(source))
            if isinstance(source, Leaf):
                leaf = self._leaf(source)
                if leaf is not None:
                    return leaf
                continue
            value = self.values.get((id(source), given.place))
            if value is not None and not is_bad(value) and given is not self.root:
                continue
            bad = [g for g in source.parents if (v := self.value(g)) is not None and self._counts(g, v, source)]
            unknown = [g for g in source.parents if self.value(g) is None]
            if bad:
                todo += bad
            elif value is None or unknown or id(source) not in self.reproduced:
                lost.append(source)
                todo += unknown
            elif not self._masks(source, value):
                found.append(source)
        if found:
            return self._born(min(found, key=lambda entry: entry.number))
        return self._by_elimination(lost) if lost and self.eliminates else None

    def _counts(self, given: Given, value: Tensor, consumer: Entry) -> bool:
        """Bad, and not only masked."""
        if not is_bad(value):
            return False
        if not _only_negative(value):
            return True
        source = given.source
        if isinstance(source, Leaf):
            return public_function(consumer.name) not in MASKS | SOFTMAXES | {"full"}
        return not self._masks(source, value)

    def _masks(self, entry: Entry, value: Tensor) -> bool:
        """Whether the -inf that it gave back was put there on purpose."""
        if not _only_negative(value):
            return False
        bad = [g for g in entry.parents if (v := self.value(g)) is not None and is_bad(v)]
        if not bad:
            return public_function(entry.name) in FILLS
        return all(
            isinstance(g.source, Leaf) or ((v := self.value(g)) is not None and self._masks(g.source, v)) for g in bad
        )

    def _leaf(self, leaf: Leaf) -> Replayed | None:
        value = self.value(Given(leaf))
        if value is None or not is_bad(value) or leaf.lasting or _only_negative(value):
            return None
        return Replayed(None, Place(), None, leaf=value, leaf_name=leaf.held[1] if leaf.held else None)

    def _born(self, entry: Entry) -> Replayed:
        op = OPERATION_INSIDE.get(entry.name) or name_of(entry)
        born = Replayed(op, place_of(entry), entry.layer)
        roles = ("self", "other", "input 2", "input 3")
        operands = [v for g in entry.parents if (v := self.value(g)) is not None]
        born.operands = [describe(role, v) for role, v in zip(roles, operands, strict=False)]
        born.result = next(v for p in range(64) if (v := self.values.get((id(entry), p))) is not None and is_bad(v))
        born.operands.append(describe("result", born.result))
        born.masked_rows = _masked_rows(op, operands, born.result)
        return born

    def _by_elimination(self, lost: list[Entry]) -> Replayed | None:
        """What led to the value cannot be repeated: which of the calls can make a bad one at all?"""
        able = [entry for entry in above(lost) if not entry.graph and can_leave(entry)]
        places = {(entry.file, entry.line) for entry in able}
        if len(places) != 1:
            return None
        names = {name_of(entry) for entry in able}
        root = self.root.source
        spread = next((e for e in able if name_of(e) in ("std", "var") and not e.kwargs and len(e.args) == 1), None)
        op = names.pop() if len(names) == 1 else None
        if op is None and spread is not None and isinstance(root, Entry):
            held = next((v for key in root.held.values() if (v := self._held(key)) is not None), None)
            if held is not None and held.numel() == 1 and root.elements > 1:
                op = name_of(spread)  # over all elements of what has one now: it divides by 0
        told = "what it was computed of is held by no variable any more: the only line that can have made it is named"
        return Replayed(op, place_of(able[0]), able[0].layer, unknown=None if op else told)


def _masked_rows(op: str, operands: list[Tensor], result: Tensor) -> int:
    """Rows of a softmax, or of one written by hand, that hold nothing but -inf."""
    if not operands or not result.dim() or not operands[0].dim() or op not in (*SOFTMAXES, "sub"):
        return 0
    rows = int((operands[0] == -torch.inf).all(dim=-1).sum()) if is_bad(operands[0]) else 0
    return rows or (int(torch.isnan(result).all(dim=-1).sum()) if op in SOFTMAXES and is_bad(operands[0]) else 0)


def _in_place(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__") or name.startswith("__i") and name.endswith("__")


def _only_negative(tensor: Tensor) -> bool:
    return not bool(torch.isnan(tensor).any()) and not bool((tensor == torch.inf).any())
