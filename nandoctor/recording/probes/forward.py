"""Forward probe: a row for every output of a leaf module, and the range of graph nodes that each module call made."""

import weakref
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import _C, Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from ...trace.schema import BAD, NO_GRAD
from ..attach import watch_method
from ..autopsy.births import leaf_birth
from ..autopsy.incidents import Alarms
from ..names import Layer, is_loss
from ..nested import tensors
from ..run import MAX_CALLS, Call, Run, sequence_number
from ..stats import away, is_bad, is_countable, measurable, measure, measure_integers
from ..tracebacks import OURS
from . import by_hand
from .backward import watch_gradient
from .checkpointed import block_birth, checkpointed
from .compiled import is_compiled_graph
from .data import find_bad
from .units import Units


class Hooks:
    """Watch every nn.Module of the process, by torch's global hooks: models stay picklable.

    Off at the steps that are not recorded whole: then a module call costs what it costs without nandoctor.
    """

    def __init__(self, run: Run, alarms: Alarms, units: Units) -> None:
        self.run = run
        guard = run.recorder.guard
        self.before = guard("forward", partial(before, run, alarms))
        self.after = guard("forward", partial(after, run, alarms, units))
        # torch 2.4 has no with_kwargs here: inputs given by keyword are then not seen
        names = signature(register_module_forward_hook).parameters
        self.options = {"with_kwargs": True} if "with_kwargs" in names else {}
        self.handles: list[RemovableHandle] = []
        if not self.options:
            run.recorder.unseen("this torch does not show the inputs that a model is given by keyword")

    def set(self, on: bool) -> None:
        if on and not self.handles:
            self.run.thread.stack.clear()  # of calls that began before the hooks were taken off
            self.handles = [
                register_module_forward_pre_hook(self.before),
                register_module_forward_hook(self.after, always_call=True, **self.options),
            ]
            OURS.update(handle.id for handle in self.handles)
        elif not on and not self.run.compiles:  # Dynamo would compile anew whenever hooks come or go
            for handle in self.handles:
                handle.remove()
            self.handles.clear()


def install(run: Run, alarms: Alarms, units: Units) -> Hooks:
    hooks = run.hooks = Hooks(run, alarms, units)
    hooks.set(True)
    governor = run.recorder.governor
    governor.changed.append(hooks.set)

    def evaluation(_: nn.Module) -> None:
        if not governor.whole and governor.evaluation_begins():
            hooks.set(True)

    watch_method(nn.Module, "eval", run.recorder.guard("forward", evaluation))
    return hooks


def recomputing() -> bool:
    """Inside backward: activation checkpointing runs the forward again, and stops it half-way."""
    return bool(_C._current_graph_task_id() != -1)


def before(run: Run, alarms: Alarms, module: nn.Module, args: tuple[Any, ...]) -> None:
    if recomputing() or (run.compiles and passed_over(run, module)):
        return
    stack = run.thread.stack
    layer = run.names.layer(module)
    if not stack:
        if run.overshoot is not None and run.overshoot.model_called():
            return  # a forked copy: nothing is recorded there
        begin_root(run, alarms, module, layer)
    run.thread.entered += 1
    stack.append((layer, sequence_number(), run.thread.entered))


def passed_over(run: Run, module: nn.Module) -> bool:
    """Hooks stay in a program that compiles: is this step not recorded whole, or is the module none of the user's?"""
    governor = run.recorder.governor
    return not (governor.whole or governor.evaluating) or is_compiled_graph(module)


def begin_root(run: Run, alarms: Alarms, module: nn.Module, layer: Layer) -> None:
    """The outermost module call begins."""
    run.reads.asleep = False
    top = layer.model.ref()
    run.mode = "train" if (top if top is not None else module).training else "eval"
    run.thread.graph = torch.is_grad_enabled()
    if run.thread.graph:
        if run.stale:
            run.begin_graph()
        alarms.forward_begins(layer)
    elif run.mode == "eval":
        alarms.lines.pause()


def after(run: Run, alarms: Alarms, units: Units, module: nn.Module, args: tuple[Any, ...], *rest: Any) -> None:
    """rest: keyword arguments and output; the output alone in an old torch, and None alone after an exception."""
    if recomputing():
        return
    kwargs, output = rest if len(rest) == 2 else ({}, rest[0])
    stack = run.thread.stack
    layer = run.names.known(module)
    start, entered_at = None, 0
    while stack and layer is not None:  # an exception may have left calls behind
        entered, begun, entered_at = stack.pop()
        if entered is layer:
            start = begun
            break
    if layer is None or start is None:
        return
    end = sequence_number()
    graph = torch.is_grad_enabled()
    number = run.call_number(layer)
    outermost = not stack
    loss = outermost and in_place_of_loss(run, module, layer, output)
    if graph:
        if len(run.calls) >= MAX_CALLS:
            run.begin_graph()
        run.calls.append(Call(layer, number, start, end, loss))
    if output is None:
        if outermost:
            record_inputs(run, layer, args, kwargs)  # what the call that raised was given
        return
    # no module inside was seen: compiled, or torch's fast path that calls none
    closed = run.thread.entered == entered_at and (run.compiles or not graph)
    if layer.leaf or closed:
        record_leaf(run, module, layer, number, args, kwargs, output, start, end)
        if graph and module.training:
            units.output(layer, module, output)
    elif stack and checkpointed(run, graph):
        block_birth(run, module, layer, args, kwargs, output, start, end)
    if outermost:
        end_root(run, alarms, layer, args, kwargs, output, loss)


def in_place_of_loss(run: Run, module: nn.Module, layer: Layer, output: Any) -> bool:
    """A loss module of torch.nn, or the user's own: called by itself, without parameters, giving one number."""
    if is_loss(module):
        return True
    return not layer.model.parameters and isinstance(output, Tensor) and output.numel() == 1


def record_leaf(
    run: Run, module: nn.Module, layer: Layer, number: int, args: tuple[Any, ...], kwargs: dict[str, Any],
    output: Any, start: int, end: int,
) -> None:  # fmt: skip
    recorder, graph = run.recorder, torch.is_grad_enabled()
    if isinstance(module, _BatchNorm) and module.training and args and isinstance(args[0], Tensor):
        count = args[0].numel() // max(args[0].shape[1] if args[0].dim() > 1 else 1, 1)
        recorder.value("batchnorm_count", run.subject(layer), float(count), 0 if graph else NO_GRAD)
    wanted = recorder.settings.wants(layer.name)
    flags = 0 if graph else NO_GRAD
    for path, tensor in (("", output),) if type(output) is Tensor else tensors(output):
        if not measurable(tensor):
            continue
        if away(tensor):
            if wanted:
                recorder.add_later("activation", run.subject(layer, path), tensor, flags, run.mode, number)
        else:
            stats = measure(tensor)
            bad = stats.bad
            if wanted:
                recorder.add(
                    "activation", run.subject(layer, path), stats, tensor,
                    flags | (BAD if bad else 0), run.mode, number,
                )  # fmt: skip
            run.last_output = (weakref.ref(tensor), bad)
            if bad:
                recorder.nonfinite_detail(run.subject(layer, path), tensor, run.mode, number)
                if len(run.births) < 16:
                    run.births.append(leaf_birth(module, layer, args, kwargs, tensor, start, end))
        if graph and tensor.grad_fn is not None:
            if not away(tensor):
                run.flags[tensor.grad_fn._sequence_nr()] = bad
            if wanted:
                watch_gradient(run, layer, path, number, tensor)


def end_root(
    run: Run, alarms: Alarms, layer: Layer, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any, loss: bool
) -> None:
    """The outermost module call ends: its inputs, and whether what it returned is finite."""
    alarms.lines.go_on()
    evaluated(run)
    if not loss:
        record_inputs(run, layer, args, kwargs)
    returned = [tensor for _, tensor in tensors(output)]
    if not loss:
        by_hand.remember(run, returned)
    run.nothing_evaluated = bool(returned) and all(tensor.numel() == 0 for tensor in returned)
    for tensor in returned:
        if not measurable(tensor) or away(tensor):
            continue
        last, bad = run.last_output
        if bad if last is not None and last() is tensor else is_bad(tensor):
            run.bad_outputs.append(weakref.ref(tensor))
            if run.mode == "eval":
                alarms.evaluation(tensor)
            break


def evaluated(run: Run) -> None:
    """Of an evaluation between steps that are not recorded whole, the first calls are."""
    governor = run.recorder.governor
    if not governor.whole and not run.mode == "train":
        governor.evaluating -= 1
        if governor.evaluating <= 0:
            run.hooks.set(False)


def record_inputs(run: Run, layer: Layer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    recorder = run.recorder
    run.bad_data = [bad for bad in run.bad_data if bad.root != layer.name]  # of an earlier call
    for path, tensor in (*tensors(args), *tensors(kwargs)):
        if tensor.grad_fn is not None:
            continue  # an intermediate value: the user calls the parts of a model one by one
        subject = run.subject(layer, path, role="input")
        if is_countable(tensor):
            recorder.add("input", subject, measure_integers(tensor), tensor, 0, run.mode)
        if not measurable(tensor):
            continue
        if away(tensor):
            recorder.add_later("input", subject, tensor, 0, run.mode)
            continue
        stats = measure(tensor)
        recorder.add("input", subject, stats, tensor, BAD if stats.bad else 0, run.mode)
        if stats.bad:
            first, kind = recorder.nonfinite_detail(subject, tensor, run.mode)
            if not any(bad.source == "batch" for bad in run.bad_data):
                run.bad_data.append(find_bad(tensor, path, first, kind, "input", layer.name))

