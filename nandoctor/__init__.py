"""nandoctor records a PyTorch training and names the cause, layer, operation and line of its NaN."""

from typing import TYPE_CHECKING, Any

from nandoctor.version import VERSION as __version__

if TYPE_CHECKING:
    from nandoctor.diagnosis import diagnose
    from nandoctor.trace.frame import read_trace

__all__ = ["__version__", "diagnose", "read_trace"]


def __getattr__(name: str) -> Any:
    """Each public function is imported when it is first asked for: `import nandoctor` brings in little."""
    if name == "read_trace":
        from nandoctor.trace.frame import read_trace

        return read_trace
    if name == "diagnose":
        from nandoctor.diagnosis import diagnose

        return diagnose
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
