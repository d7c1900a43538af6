"""Keeps a forked copy of the training from touching anything that it shares with the training.

Copy-on-write isolates memory that belongs to the process alone. Shared with the parent are: open files and their
offsets, pipes and sockets, memory mapped for sharing (batches of DataLoader workers, locks, Values), signals of the
terminal, and the file system. Linux only.
"""

import ctypes
import fcntl
import gc
import mmap
import os
import random
import signal
import stat
import sys
import threading
from collections.abc import Callable
from typing import Any

import torch

READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
PR_SET_PDEATHSIG = 1
MAX_SHARED = 1 << 30  # bytes of shared memory that are copied; beyond it the copy would take longer than its use
QUIET_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTSTP", "SIGTTOU", "SIGPIPE")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
ACTS = frozenset({
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown",
    "os.utime", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.kill", "os.killpg",
    "subprocess.Popen", "pty.spawn", "socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg",
    "sqlite3.connect", "signal.pthread_kill", "shutil.move", "shutil.rmtree", "shutil.copyfile",
})  # fmt: skip  # audit events of what reaches beyond a process


def unfit() -> str | None:
    """Why this process cannot be forked safely while it trains, in words; None if it can."""
    if not sys.platform.startswith("linux"):
        return "it needs Linux"
    if threading.current_thread() is not threading.main_thread():
        return "the training runs in a thread that is not the main one"
    uses_cuda: Callable[[], bool] = torch.cuda.is_initialized
    if uses_cuda():
        return "a process that uses CUDA cannot be forked"
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return "the other processes of a distributed training would wait for the copy"
    if _users_own(signal.getsignal(signal.SIGCHLD)):
        return "the program handles SIGCHLD itself"
    if not hasattr(torch.autograd, "_engine_run_backward"):
        return "this torch calls its autograd engine in another way"
    return None


def _users_own(handler: Any) -> bool:
    """The loader's own handler of SIGCHLD looks at its workers alone."""
    return callable(handler) and not str(getattr(handler, "__module__", "")).startswith("torch.")


def too_little_memory() -> bool:
    """A copy shares its pages until one of the two writes: weights, optimizer state and activations are had twice."""
    with open("/proc/self/statm", "rb") as file:
        resident = int(file.read().split()[1]) * mmap.PAGESIZE
    with open("/proc/meminfo", "rb") as file:
        available = next(int(line.split()[1]) * 1024 for line in file if line.startswith(b"MemAvailable"))
    return available < 2 * resident


def fork() -> int:
    """os.fork without the warning that Python 3.12 gives where there are threads (tqdm has one): -W error raises it."""
    filters = sys.modules["warnings"].filters if "warnings" in sys.modules else []
    entry = ("ignore", None, DeprecationWarning, None, 0)
    filters.insert(0, entry)  # without _filters_mutated: nothing that the user was warned of is forgotten
    try:
        return os.fork()
    finally:
        filters.remove(entry)


# --- in the copy ---------------------------------------------------------------------------------------------
def apart(keep: tuple[int, ...]) -> None:
    """Cut this process off from its parent, but for the descriptors in `keep`."""
    gc.disable()  # a collection would run finalizers of the user's objects
    end_with_parent()
    os.setpgid(0, 0)  # Ctrl-C of the terminal is the training's
    signal.set_wakeup_fd(-1)
    for name in QUIET_SIGNALS:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    for name in ("SIGALRM", "SIGCHLD"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    private_memory()
    private_files(keep)
    torch.set_num_threads(1)  # the threads of OpenMP were not forked


def end_with_parent() -> None:
    """Not inherited by a further fork."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end_in(seconds: float) -> None:
    """The kernel ends this process then, also where it hangs in a lock that another thread held at the fork."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def private_files(keep: tuple[int, ...]) -> None:
    """Files that are only read get an offset of their own, everything else that is open becomes /dev/null."""
    null = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor in keep or descriptor == null:
            continue
        try:
            kind, access = os.fstat(descriptor).st_mode, fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
            read_only = access == os.O_RDONLY
            if read_only and stat.S_ISREG(kind):
                fresh = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
                os.lseek(fresh, os.lseek(descriptor, 0, os.SEEK_CUR), os.SEEK_SET)
                os.dup2(fresh, descriptor)
                os.close(fresh)
            elif not (read_only and (stat.S_ISDIR(kind) or (stat.S_ISCHR(kind) and not os.isatty(descriptor)))):
                os.dup2(null, descriptor)
        except OSError:
            if descriptor > 2:
                _close(descriptor)  # listdir's own, or one that cannot be opened again
    for descriptor in {0, 1, 2} - set(keep):
        os.dup2(null, descriptor)


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        pass


def private_memory() -> None:
    """Every writable shared mapping is replaced by a private copy at the same address. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    )  # fmt: skip
    shared = []
    with open("/proc/self/maps", "rb") as maps:
        for line in maps:
            fields = line.split(None, 5)
            device = fields[5].startswith(b"/dev/") if len(fields) > 5 else False
            memory = not device or fields[5].startswith((b"/dev/shm/", b"/dev/zero"))
            if fields[1].startswith(b"rw") and fields[1].endswith(b"s") and memory:
                start, _, stop = fields[0].partition(b"-")
                shared.append((int(start, 16), int(stop, 16) - int(start, 16)))
    if sum(size for _, size in shared) > MAX_SHARED:
        raise OSError("the program shares too much memory")
    for address, size in shared:
        held = ctypes.string_at(address, size)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10  # MAP_FIXED
        if libc.mmap(address, size, READ_WRITE, flags, -1, 0) != address:
            raise OSError("shared memory could not be made private")
        ctypes.memmove(address, held, size)


def forbid(leave: Callable[[str], None]) -> None:
    """From here on, `leave` is called instead of a write to the file system, a new process or a connection."""
    sys.dont_write_bytecode = True

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = args
            writes = isinstance(mode, str) and any(letter in mode for letter in "wax+")
            if (writes or (isinstance(flags, int) and flags & WRITES)) and path != os.devnull:
                leave("it opens a file to write")
        elif event in ACTS:
            leave(f"it calls {event}")

    def save(*_: Any, **__: Any) -> None:  # writes in C++, unseen by Python's audit
        leave("it calls torch.save")

    vars(torch)["save"] = vars(torch.serialization)["save"] = save
    sys.addaudithook(audit)


def random_state() -> Any:
    """Python gives `random` a new seed in every forked process."""
    return random.getstate()


def same_random(state: Any) -> None:
    random.setstate(state)


def end(pid: int) -> None:
    """Kill a copy and wait for it."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass  # the program has waited for it itself
