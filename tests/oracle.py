"""Finds where a script's non-finite values are born, without nandoctor: the labels of the corpus rest on it.

    python -m tests.oracle SCRIPT [ARGS...]

Slow on purpose: every aten operation of the whole run is looked at, its tensors before and after. Prints, in order of
time, the operations that made NaN or Inf of finite operands; which of them counts (contract/provenance.md) is for
the reader to judge, and goes into labels.toml by hand.
"""

import os
import runpy
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SHOWN = 14


def bad(value: Any) -> bool:
    return any(
        isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and leaf.numel() > 0
        and not bool(torch.isfinite(leaf.detach()).all())
        for leaf in tree_leaves(value)
    )  # fmt: skip


def holds_nan(value: Any) -> bool:
    return any(
        isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and bool(torch.isnan(leaf.detach()).any())
        for leaf in tree_leaves(value)
    )


class Watch:
    """What the two modes and the hooks know together."""

    def __init__(self, script: str) -> None:
        self.script = os.path.abspath(script)
        self.lines = open(script, encoding="utf-8").read().splitlines()
        self.step = 0
        self.backwards = 0
        self.stack: list[str] = []
        self.names: dict[int, str] = {}
        self.roots: dict[int, str] = {}
        self.in_optimizer = False
        self.nodes: dict[int, tuple[int, str, str]] = {}  # autograd sequence number -> line, function, layer
        self.function = ""
        self.shown = 0
        self.bad_weights = False

    def line(self) -> int:
        frame: Any = sys._getframe(1)
        while frame is not None:
            if os.path.abspath(frame.f_code.co_filename) == self.script:
                return int(frame.f_lineno)
            frame = frame.f_back
        return 0

    def say(self, text: str) -> None:
        self.shown += 1
        if self.shown <= SHOWN:
            print("  #", text, file=sys.stderr)

    def text(self, line: int) -> str:
        return f"{line}: {self.lines[line - 1].strip()}" if line else "?"

    def layer(self) -> str:
        return self.stack[-1] if self.stack else "-"


class Functions(TorchFunctionMode):
    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        watch = self.watch
        outer, watch.function = watch.function, getattr(func, "__name__", str(func))
        first = torch._C._autograd._get_sequence_nr()
        try:
            return func(*args, **(kwargs or {}))
        finally:
            for number in range(first, torch._C._autograd._get_sequence_nr()):
                watch.nodes[number] = (watch.line(), watch.function, watch.layer())
            watch.function = outer


class Operations(TorchDispatchMode):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        if name.startswith(("empty", "detach", "view", "isnan", "isfinite", "isinf", "new_empty")):
            return func(*args, **kwargs)
        operands = (args[1:], kwargs) if name == "copy_" else (args, kwargs)
        before, before_nan = bad(operands), holds_nan(operands)
        result = func(*args, **kwargs)
        if not before and bad(result) and not name.startswith(("masked_fill", "scatter")):
            self.tell(name)
        elif before and not before_nan and holds_nan(result):
            self.tell(name + " (NaN of Inf)")
        return result

    def tell(self, name: str) -> None:
        watch = self.watch
        if torch._C._current_graph_task_id() != -1:
            node = torch._C._current_autograd_node()
            line, function, layer = watch.nodes.get(node._sequence_nr(), (0, "?", "-"))
            phase = f"backward [{node.name()}]"
        else:
            line, function, layer = watch.line(), watch.function, watch.layer()
            phase = "optimizer" if watch.in_optimizer else "forward" if watch.stack else "outside"
        grad = "" if torch.is_grad_enabled() else " no_grad"
        watch.say(f"step {watch.step} batch {watch.backwards} {phase}{grad} layer={layer} aten={name} "
                  f"function={function} | {watch.text(line)}")  # fmt: skip


def watch_modules(watch: Watch) -> None:
    def before(module: torch.nn.Module, inputs: Any, kwargs: Any = None) -> None:
        if id(module) not in watch.names:
            for path, child in module.named_modules():
                watch.names.setdefault(id(child), path)
        if not watch.stack and bad(inputs):
            watch.say(f"step {watch.step} batch {watch.backwards}: input of root {type(module).__name__} is bad")
        watch.stack.append(watch.names[id(module)] or f"<root {type(module).__name__}>")

    def after(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        watch.stack.pop()

    torch.nn.modules.module.register_module_forward_pre_hook(before)
    torch.nn.modules.module.register_module_forward_hook(after, always_call=True)


def watch_steps(watch: Watch) -> None:
    def before(optimizer: Any, args: Any, kwargs: Any) -> None:
        watch.in_optimizer = True
        groups = [p for group in optimizer.param_groups for p in group["params"]]
        if not watch.bad_weights and bad(groups):
            watch.bad_weights = True
            watch.say(f"step {watch.step}: WEIGHTS bad before the step, gradients bad: {bad([p.grad for p in groups])}")

    def after(optimizer: Any, args: Any, kwargs: Any) -> None:
        watch.in_optimizer = False
        groups = [p for group in optimizer.param_groups for p in group["params"]]
        if not watch.bad_weights and bad(groups):
            watch.bad_weights = True
            watch.say(f"step {watch.step}: WEIGHTS bad after the step, gradients bad: {bad([p.grad for p in groups])}")
        watch.step += 1

    register_optimizer_step_pre_hook(before)
    register_optimizer_step_post_hook(after)
    scaler_step = torch.amp.GradScaler.step

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        number = watch.step
        result = scaler_step(self, *args, **kwargs)
        if watch.step == number:
            watch.say(f"step {number}: skipped by the scaler")
        watch.step = number + 1
        return result

    torch.amp.GradScaler.step = counted  # type: ignore[method-assign]
    backward = torch.Tensor.backward

    def noticed(self: Any, *args: Any, **kwargs: Any) -> Any:
        if bad(self):
            watch.say(f"step {watch.step} batch {watch.backwards}: LOSS at backward is {self.item()}")
        try:
            return backward(self, *args, **kwargs)
        finally:
            watch.backwards += 1

    torch.Tensor.backward = noticed  # type: ignore[method-assign]


def main(arguments: list[str]) -> Iterator[str]:
    script = arguments[0]
    watch = Watch(script)
    watch_modules(watch)
    watch_steps(watch)
    sys.argv = arguments
    with Operations(watch), Functions(watch):
        try:
            runpy.run_path(script, run_name="__main__")
        except BaseException as error:
            yield f"ended by {type(error).__name__}: {str(error)[:160]}"
    yield f"{watch.step} steps, {watch.backwards} backward calls, {watch.shown} events"


if __name__ == "__main__":
    for said in main(sys.argv[1:]):
        print("  #", said, file=sys.stderr)
