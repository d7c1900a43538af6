"""nandoctor records a PyTorch training and names the cause, layer, operation and line of its NaN."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nandoctor.version import VERSION as __version__

if TYPE_CHECKING:
    from nandoctor.blocks import record
    from nandoctor.notebook import diagnose
    from nandoctor.trace.frame import read_trace

    LightningCallback: type
    TrainerCallback: type

__all__ = ["LightningCallback", "TrainerCallback", "__version__", "diagnose", "read_trace", "record"]

_FROM = {
    "diagnose": "notebook", "read_trace": "trace.frame", "record": "blocks",
    "LightningCallback": "callbacks.lightning", "TrainerCallback": "callbacks.transformers",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Each public name is imported when it is first asked for: `import nandoctor` brings in little."""
    if name in _FROM:
        return getattr(import_module(f"nandoctor.{_FROM[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
