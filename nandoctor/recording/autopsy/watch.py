"""`record --watch-step N`: every operation around step N is looked at as it runs, forward and backward.

Settles what one look at the graph cannot: operations without a gradient, values nobody saved, lines of a graph that
changes from step to step, the operation inside a bracket of layers in backward.
"""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ..frames import user_place
from ..incident import Incident, Place
from ..nested import tensors
from ..run import Run
from ..stats import is_bad, word
from .births import kind_of
from .linemap import OPERATION_INSIDE, LineMap, as_if_from, calling_frame, operation
from .modes import in_main_thread, push, remove
from .operations import MASKS, public_function
from .values import Graph, describe, is_leaf, order

AROUND = 1  # steps before and after N: a guard or an off-by-one must not make the run miss it


class Watch:
    def __init__(self, run: Run, lines: LineMap) -> None:
        self.run, self.lines = run, lines
        self.on = run.recorder.settings.watch_step is not None
        self.forward: Forward | None = None
        self.backward: Backward | None = None
        self.born: list[Incident] = []
        self.origin: dict[int, int] = {}  # id of a bad tensor -> which birth it comes from
        self.held: list[Tensor] = []  # so that no id is used twice within the step

    def wanted(self) -> bool:
        step = self.run.recorder.settings.watch_step
        return step is not None and in_main_thread() and abs(self.run.recorder.step - step) <= AROUND

    def ahead(self) -> None:
        """A step has ended, or an optimizer was made: what is computed before the model is called counts, too."""
        if self.wanted() and self.forward is None and self.lines.allowed:
            self.forget()
            self.forward = Forward(self)
            push(self.forward)

    def forward_begins(self) -> None:
        self._leave_backward()
        if self.wanted() and self.forward is None and self.lines.allowed:
            self.forget()
            self.forward = Forward(self)
            push(self.forward)

    def backward_begins(self, loss: Tensor) -> None:
        if self.forward is not None:
            remove(self.forward)
            self.forward = None
        if self.wanted() and self.backward is None and loss.grad_fn is not None:
            self.backward = Backward(self, Graph(loss.grad_fn))
            self.backward.__enter__()  # type: ignore[no-untyped-call]

    def ends(self) -> None:
        """The optimizer takes over."""
        self._leave_backward()
        if self.forward is not None:
            remove(self.forward)
            self.forward = None

    def forget(self) -> None:
        """The step is over: nothing of it is kept."""
        self.born.clear()
        self.origin.clear()
        self.held.clear()

    def _leave_backward(self) -> None:
        if self.backward is not None:
            self.backward.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self.backward = None

    def birth_of(self, loss: Tensor) -> Incident | None:
        """The operation that bore what this tensor holds."""
        number = self.origin.get(id(loss))
        return self.born[number] if number is not None else None

    def birth_in_backward(self) -> Incident | None:
        return next((incident for incident in self.born if incident.phase == "backward"), None)

    # --- one operation ---------------------------------------------------------------------------------------
    def look(self, op: str, given: Any, made: Any, in_place: bool) -> int | None:
        """Compare what went in with what came out; the number of the birth if it is one."""
        bad = [tensor for _, tensor in tensors(made) if is_bad(tensor)]
        if not bad:
            return None
        if not any(True for _ in tensors(given)):
            return None  # a constant
        sources = [tensor for _, tensor in tensors(given) if is_bad(tensor) and not (in_place and tensor is bad[0])]
        inherited = [self.origin[id(tensor)] for tensor in sources if id(tensor) in self.origin]
        if inherited:
            self._mark(bad, min(inherited))
            return None
        if op in MASKS and all(_only_negative(tensor) for tensor in bad):
            return None
        masked = 0
        if sources:
            if not all(_only_negative(tensor) for tensor in sources) or not bool(torch.isnan(bad[0]).any()):
                return None  # it came in from outside: data, weights
            rows = bad[0] if "softmax" in op else sources[0]
            masked = int((~torch.isfinite(rows)).all(dim=-1).sum()) if rows.dim() else 0
        incident = self.run.incident("loss", method="watch")
        incident.op, incident.kind, incident.masked_rows = op, kind_of(bad[0]), masked
        incident.dtype = word(bad[0].dtype)
        incident.operands = [describe(path or "self", t) for path, t in tensors(given) if t.is_floating_point()][:4]
        incident.operands.append(describe("result", bad[0]))
        self.born.append(incident)
        self._mark(bad, len(self.born) - 1)
        return len(self.born) - 1

    def _mark(self, bad: list[Tensor], number: int) -> None:
        for tensor in bad:
            self.origin[id(tensor)] = number
            self.held.append(tensor)


class Forward(TorchFunctionMode):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = as_if_from(calling_frame())(func, args, kwargs or {})
        self.watch.run.recorder.guard("watch", self._after)(func, (args, kwargs), result)
        return result

    def _after(self, func: Any, given: Any, result: Any) -> None:
        name = getattr(func, "__name__", "")
        op = OPERATION_INSIDE.get(name) or public_function(name)
        in_place = name.endswith("_") and not name.endswith("__") or name == "__setitem__"
        number = self.watch.look(op, given, result, in_place)
        if number is None:
            return
        incident, stack = self.watch.born[number], self.watch.run.thread.stack
        incident.place = user_place()
        incident.phase = "forward" if stack and stack[0][0].model.parameters else "loss"
        if incident.phase == "forward":
            incident.layer, incident.module = stack[-1][0].name, stack[-1][0].kind


class Backward(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees the kernels that backward runs, and which graph node runs them."""

    def __init__(self, watch: Watch, graph: Graph) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.watch = watch
        self.known: dict[int, tuple[str, Place, str | None, str | None]] = {}
        for node in graph.nodes:
            if is_leaf(node):
                continue
            call, line = watch.run.locate(order(node)), watch.lines.lookup(node, graph.nodes)
            inside = call is not None and not call.loss
            self.known[order(node)] = (
                operation(node, line), line.place if line is not None else Place(),
                call.layer.name if call is not None and inside else None,
                call.layer.kind if call is not None and inside else None,
            )  # fmt: skip

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if torch._C._current_graph_task_id() != -1:
            self.watch.run.recorder.guard("watch", self._after)(func, (args, kwargs), result)
        return result

    def _after(self, func: Any, given: Any, result: Any) -> None:
        name = func.__name__.partition(".")[0]
        number = self.watch.look(public_function(name), given, result, name.endswith("_"))
        if number is None:
            return
        incident = self.watch.born[number]
        incident.phase, incident.alarm = "backward", "gradient"
        current = getattr(torch._C, "_current_autograd_node", lambda: None)()
        if current is not None and order(current) in self.known:
            incident.op, incident.place, incident.layer, incident.module = self.known[order(current)]
        else:
            incident.op, incident.unknown = None, "this torch does not say which graph node ran the kernel"


def _only_negative(tensor: Tensor) -> bool:
    """Finite but for -inf."""
    return not bool(torch.isnan(tensor).any()) and not bool((tensor == torch.inf).any())
