import atexit
import faulthandler
import gc
import os
import signal
import sys
import threading
import warnings

atexit.register(print, "registered before torch: runs last")
started = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1
handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
import torch  # noqa: E402
from torch import nn  # noqa: E402

atexit.register(print, "registered after torch: runs first")


def state(moment):
    threads = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1
    descriptors = [n for n in range(3, 256) if os.path.exists(f"/proc/self/fd/{n}")]
    print(
        moment, threads - started, len(threading.enumerate()), descriptors, torch.get_num_threads(), gc.get_threshold(),
        len(gc.callbacks), gc.isenabled(), faulthandler.is_enabled(), sys.getrecursionlimit(), sys.excepthook is mine,
        threading.excepthook is theirs, sys.gettrace() is not None, sys.getprofile() is None, len(warnings.filters),
        [number for number, handler in handlers.items() if signal.getsignal(number) is not handler], sys.argv,
        [entry for entry in sys.path if "inject" in entry], type(sys.stdout).__name__, os.umask(os.umask(0)),
        torch.is_grad_enabled(), torch._C._len_torch_dispatch_stack(), torch._C._len_torch_function_stack(),
    )  # fmt: skip


def mine(kind, error, link):
    print("excepthook", kind.__name__, error)


def theirs(args):
    print("threading", args.exc_type.__name__)


sys.excepthook, threading.excepthook = mine, theirs
handlers[signal.SIGUSR1] = lambda number, frame: print("SIGUSR1")
signal.signal(signal.SIGUSR1, handlers[signal.SIGUSR1])
events = []


def tracer(frame, event, arg):
    if frame.f_code.co_filename == __file__:
        events.append((event, frame.f_lineno))
        return tracer


def step(net, optimizer):
    optimizer.zero_grad()
    loss = net(torch.randn(4, 8)).pow(2).mean()
    loss.backward()
    optimizer.step()
    return loss.item()


torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
state("before")
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
sys.settrace(tracer)
for number in range(4):
    print(step(net, optimizer))
state("within")
sys.settrace(None)
print(len(events), events[:12])
os.kill(os.getpid(), signal.SIGUSR1)
bad = threading.Thread(target=lambda: 1 / 0)
bad.start()
bad.join()
with warnings.catch_warnings():
    warnings.simplefilter("error")  # from Python 3.12 on, os.fork warns where threads run
    sys.stdout.flush()
    pid = os.fork()
if pid == 0:
    print(step(net, optimizer), flush=True)
    os._exit(3)
print(os.waitpid(pid, 0)[1])
descriptor = os.open(os.devnull, os.O_RDONLY)
print(descriptor)
state("after")
sys.stderr = None
raise SystemExit(0)
