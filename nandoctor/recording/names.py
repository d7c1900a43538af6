"""Module and parameter -> the dotted name that its user knows: named_modules() of the user's model.

A model is the topmost module that holds the one being called: `vae.encoder(x)` names `encoder`, also when `vae`
itself is never called. With several models the variable or attribute that holds each goes in front (`netD.conv1`).
"""

import weakref
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from .frames import user_frames, variables_of
from .stats import word

WRAPPERS = {  # class of a wrapper -> the attribute that holds the user's module
    "DistributedDataParallel": "module", "DataParallel": "module", "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "OptimizedModule": "_orig_mod", "CheckpointWrapper": "_checkpoint_wrapped_module",
    "_FabricModule": "_forward_module", "AveragedModel": "module",
}  # fmt: skip


@dataclass(eq=False)
class Layer:
    """One module of a model."""

    ref: "weakref.ref[nn.Module]"
    model: "Model"
    path: str  # inside the model
    kind: str  # class name
    leaf: bool
    subjects: dict[str, int] = field(default_factory=dict)  # path in the output -> subject id
    hooks: dict[Any, Any] = field(default_factory=dict)  # probes/backward.py
    calls: int = 0  # in the step
    calls_step: int = -1
    began: int = -1  # backward calls so far when it was last called as the outermost module
    looked: int = 0  # times that the user's variables were looked at since

    @property
    def name(self) -> str:
        return self.model.prefixed(self.path)


@dataclass(eq=False)
class Held:
    """A parameter's place in a model."""

    path: str
    module: "weakref.ref[nn.Module]"
    leaf: str  # its name in that module


@dataclass(eq=False)
class Model:
    ref: "weakref.ref[nn.Module]"
    names: "Names"
    variable: str  # what the user calls it
    parameters: dict[int, "Held"] = field(default_factory=dict)  # by id
    looked: bool = False  # its first weights were recorded

    def prefixed(self, path: str) -> str:
        if not self.names.several or not self.variable:
            return path
        return f"{self.variable}.{path}" if path else self.variable


class Names:
    """Knows which module belongs to which model. Holds weak references only."""

    def __init__(self, on_model: Any) -> None:
        self.models: list[Model] = []
        self.several = False
        self._layers: dict[int, Layer] = {}
        self._parents: dict[int, tuple[weakref.ref[nn.Module], weakref.ref[nn.Module], str]] = {}
        self._originals: dict[int, Layer] = {}  # by the hooks that DataParallel's replicas share with the original
        self.listeners = [on_model]  # called with each Model that is new or has grown
        register_module_module_registration_hook(self._registered)

    def _registered(self, parent: nn.Module, name: str, child: nn.Module | None) -> None:
        if isinstance(child, nn.Module) and not (type(parent) is nn.Sequential and self._placed(child)):
            self._parents[id(child)] = (weakref.ref(child), weakref.ref(parent), name)

    def _placed(self, child: nn.Module) -> bool:
        """It was called as a part of a model that still holds it."""
        known, entry = self.known(child), self._parents.get(id(child))
        parent = entry[1]() if entry is not None and entry[0]() is child else None
        return known is not None and parent is not None and entry is not None and _child(parent, entry[2]) is child

    def layer(self, module: nn.Module) -> Layer:
        """The layer of a module that is being called; learns its model on first sight."""
        layer = self._layers.get(id(module))
        if layer is not None and layer.ref() is module:
            return layer
        original = self._originals.get(id(module._forward_hooks)) if is_replica(module) else None
        if original is not None:  # a copy made for one call: not kept
            return original
        part = self._slice(module)
        if part is not None:
            self._layers[id(module)] = part
            return part
        top = self._top(module)
        model = next((known for known in self.models if known.ref() is top), None)
        if model is None:
            self._forget_the_dead()
            model = Model(weakref.ref(top), self, variable_of(top))
            if not is_loss(top):
                self.models.append(model)
        self._learn(model, top)
        found = self._layers.get(id(module))
        if found is None or found.ref() is not module:  # not in named_modules(): hidden in a list, say
            found = self._layers[id(module)] = Layer(
                weakref.ref(module), model, variable_of(module), class_name(module), not module._modules
            )
        return found

    def _slice(self, module: nn.Module) -> Layer | None:
        """`self.critic[:4]` makes a new nn.Sequential of a model's layers at every call: no model of its own."""
        if type(module) is not nn.Sequential or not module._modules or self._top(module) is not module:
            return None
        parts = [self.known(child) for child in module._modules.values()]
        first = parts[0]
        if first is None or first.model.ref() is None or any(p is None or p.model is not first.model for p in parts):
            return None
        return Layer(weakref.ref(module), first.model, first.path.rpartition(".")[0], class_name(module), False)

    def _forget_the_dead(self) -> None:
        """Models come and go in a sweep; ids are used again."""
        self.models = [known for known in self.models if known.ref() is not None]
        self._layers = {key: layer for key, layer in self._layers.items() if layer.ref() is not None}
        self._originals = {key: layer for key, layer in self._originals.items() if layer.ref() is not None}
        self._parents = {key: entry for key, entry in self._parents.items() if entry[0]() is not None}

    def known(self, module: nn.Module) -> Layer | None:
        layer = self._layers.get(id(module))
        if layer is not None and layer.ref() is module:
            return layer
        return self._originals.get(id(module._forward_hooks)) if is_replica(module) else None

    def _top(self, module: nn.Module) -> nn.Module:
        top, seen = module, {id(module)}
        while True:
            entry = self._parents.get(id(top))
            if entry is None or entry[0]() is not top:
                return top
            parent = entry[1]()
            if parent is None or _child(parent, entry[2]) is not top or id(parent) in seen:
                return top
            top = parent
            seen.add(id(top))

    def _learn(self, model: Model, top: nn.Module) -> None:
        paths = {id(module): (path, module) for path, module in _user_modules(top)}
        for path, module in paths.values():
            known = self.known(module)
            if known is None or known.model is not model:
                self._layers[id(module)] = layer = Layer(
                    weakref.ref(module), model, path, class_name(module), not module._modules
                )
                self._originals[id(module._forward_hooks)] = layer
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    full = f"{path}.{name}" if path else name
                    model.parameters.setdefault(id(parameter), Held(full, weakref.ref(module), name))
        # a module without parameters (a criterion, a single activation) is no second model
        self.several = sum(1 for known in self.models if known.parameters and known.ref() is not None) > 1
        for listener in self.listeners:
            listener(model)

    def layers(self) -> list[Layer]:
        return list(self._layers.values())

    def modules(self, top: nn.Module) -> list[tuple[str, nn.Module]]:
        """Path and module, without the wrappers around them."""
        return [(path, module) for path, module in _user_modules(top) if unwrapped(module) is module]

    def parameters(self, model: Model) -> list[tuple[str, tuple[int, ...], str, bool]]:
        """(path, shape, dtype, whether a gradient is wanted) of a model's parameters."""
        top = model.ref()
        if top is None:
            return []
        return [
            (
                f"{path}.{name}" if path else name, tuple(value.shape), word(value.dtype),
                value.requires_grad,
            )  # fmt: skip
            for path, module in _user_modules(top)
            for name, value in module._parameters.items()
            if value is not None
        ]

    def parameter(self, parameter: Any) -> tuple[str, str | None]:
        """(name, class of its module) of a parameter; ("", None) if no module that was seen holds it."""
        found = self._held(parameter)
        if not found[0] and self._discover(parameter):
            return self._held(parameter)
        return found

    def _held(self, parameter: Any) -> tuple[str, str | None]:
        for model in self.models:
            known = model.parameters.get(id(parameter))
            module = known.module() if known is not None else None
            if known is None or module is None:
                continue
            if dict(module._parameters.items()).get(known.leaf) is parameter:
                return model.prefixed(known.path), class_name(module)
        return "", None

    def _discover(self, parameter: Any) -> bool:
        """Learn the model of a parameter whose modules were never called before our eyes: compiled, stepped first."""
        for child, parent, _ in list(self._parents.values()):
            for module in (child(), parent()):
                if module is not None and any(value is parameter for value in module._parameters.values()):
                    self.layer(module)
                    return True
        return False


def _user_modules(top: nn.Module) -> list[tuple[str, nn.Module]]:
    """named_modules() without the wrappers' own names, each module once."""
    found: list[tuple[str, nn.Module]] = []
    seen: set[int] = set()
    todo = [("", top)]  # no recursive closure: its reference cycle would keep the model alive
    while todo:
        path, module = todo.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        found.append((path, module))
        inner = WRAPPERS.get(type(module).__name__)
        children = [
            (path if name == inner else (f"{path}.{name}" if path else name), child)
            for name, child in module._modules.items()
            if child is not None
        ]
        todo.extend(reversed(children))
    return found


def _child(parent: nn.Module, name: str) -> nn.Module | None:
    """parent._modules[name]; a script module's dictionary has no get."""
    return parent._modules[name] if name in parent._modules else None


def unwrapped(module: nn.Module) -> nn.Module:
    """The user's own module inside DistributedDataParallel, torch.compile and the like."""
    name = WRAPPERS.get(type(module).__name__)
    inner = _child(module, name) if name is not None else None
    return module if inner is None else unwrapped(inner)


def is_replica(module: nn.Module) -> bool:
    """A copy of a module that nn.DataParallel made for one device and one call."""
    return bool(module.__dict__.get("_is_replica", False))


def class_name(module: nn.Module) -> str:
    """As its user wrote it: fully_shard puts a class of its own, FSDPLinear, in front of Linear."""
    kinds = type(unwrapped(module)).__mro__
    if len(kinds) > 2 and kinds[1].__name__ == "FSDPModule":
        return kinds[2].__name__
    return kinds[0].__name__


def is_loss(module: nn.Module) -> bool:
    """A loss of torch.nn, or the user's own module without parameters or buffers in a loss's place."""
    return type(module).__module__ == "torch.nn.modules.loss"


def variable_of(thing: Any) -> str:
    """The variable or attribute that holds `thing` in the running user program, "" if none is found."""
    for frame in user_frames():
        local = variables_of(frame)
        for names in (local, frame.f_globals):
            for name, value in list(names.items()):
                if value is thing and name != "self":
                    return str(name)
        owner = local.get("self")
        for name, value in list(getattr(owner, "__dict__", {}).items()):
            if value is thing:
                return str(name)
        for name, value in list(getattr(owner, "__dict__", {}).get("_modules", {}).items()):
            if value is thing:
                return str(name)
    return ""
