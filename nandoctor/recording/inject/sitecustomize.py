"""First file of nandoctor that runs in a recorded command: waits for `import torch`, then arms the recording.

Every Python of the command pays for this file, also those that never see torch. So: nothing but sys and os,
which Python has loaded already, and a syntax that even Python 2 reads (a shell script may start any Python).
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # noqa: F401

OLDEST = (3, 10)  # the recording half is written for it


class TorchFinder:
    """Finds torch as Python would have, and is called once more when torch has been executed."""

    def find_spec(self, name, path=None, target=None):
        # type: (str, Any, Any) -> Any
        if name != "torch":
            return None
        for finder in list(sys.meta_path):
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):  # not a namespace package
                    self.follow(spec.loader)
                return spec
        return None

    def follow(self, loader):
        # type: (Any) -> None
        """Let start() run after the loader has executed torch; the loader is left as it was found.

        A spec may be looked up (`find_spec("torch")`) and never executed: the finder stays until then.
        """
        execute = loader.exec_module

        def exec_module(module):
            # type: (Any) -> None
            loader.__dict__.pop("exec_module", None)
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            start()

        # Python leaves frames of its import system out of a traceback: a torch that fails to import
        # must fail with the same words as without nandoctor
        exec_module.__code__ = exec_module.__code__.replace(co_filename="<frozen importlib._bootstrap>")
        loader.exec_module = exec_module


def start():
    # type: () -> None
    """Load the recording half from its own place under a name of its own, and arm it."""
    if "_nandoctor" in sys.modules:
        return
    try:
        mark("torch")
        if sys.version_info < OLDEST:
            raise RuntimeError("Python {}.{} is older than 3.10".format(*sys.version_info))
        package = type(sys)("_nandoctor")
        package.__path__ = [os.environ["NANDOCTOR_HOME"]]
        sys.modules["_nandoctor"] = package
        __import__("_nandoctor.recording.arm", fromlist=["arm"]).arm()
    except Exception as error:
        reason = "could not start recording: {}: {}".format(type(error).__name__, error)  # noqa: UP032
        mark("failed", reason)
        if sys.stderr is not None:
            sys.stderr.write("nandoctor: " + " ".join(reason.split()) + "\n")


def mark(name, text=""):
    # type: (str, str) -> None
    """Tell the waiting parent how far this process came, for its words when no training was seen."""
    try:
        path = os.path.join(os.environ["NANDOCTOR_MARKS"], name)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, text.encode("utf-8", "replace"))
        os.close(descriptor)
    except (KeyError, OSError):
        pass


def step_aside():
    # type: () -> Any
    """Take the inject folder out of this process; the variable PYTHONPATH keeps it for grandchildren."""
    folder = os.path.dirname(__file__)
    sys.path[:] = [entry for entry in sys.path if entry != folder]
    sys.path_importer_cache.pop(folder, None)
    return sys.modules.pop("sitecustomize", None)


this = step_aside()  # held: Python 2 empties a module that nothing refers to
if "NANDOCTOR_HOME" in os.environ:
    mark("python")
    if "torch" in sys.modules:  # a .pth file brought it
        start()
    elif sys.version_info >= (3, 8):  # noqa: UP036 - there has never been a torch of our range for older ones
        sys.meta_path.insert(0, TorchFinder())

# The sitecustomize that this file hides, if there is one. Not guarded: its errors, and the ImportError when
# there is none, reach Python's site module as they do without nandoctor.
import sitecustomize  # type: ignore  # noqa: E402, F401
