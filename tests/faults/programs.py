"""Trainings to which something happens. Each completed step adds one byte to the file `progress`."""

TRAINING = """
import os, sys, threading, time, torch
BEFORE
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
progress = os.open("progress", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for step in range(STEPS):
    optimizer.zero_grad()
    net(torch.randn(4, 8)).pow(2).mean().backward()
    optimizer.step()
    os.write(progress, b".")
    AT
AFTER
print("the end")
"""

LOADER = """
import os, signal, torch
from torch.utils.data import DataLoader, Dataset
class Data(Dataset):
    def __len__(self):
        return STEPS
    def __getitem__(self, place):
        if place == MOMENT:
            HAPPENS
        return torch.ones(8)
torch.manual_seed(0)
net = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
progress = os.open("progress", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for batch in DataLoader(Data(), batch_size=1, num_workers=1):
    optimizer.zero_grad()
    net(batch).pow(2).mean().backward()
    optimizer.step()
    os.write(progress, b".")
"""

MANY_MODULES = """
import os, torch
torch.manual_seed(0)
net = torch.nn.Sequential(*[torch.nn.Linear(2, 2) for _ in range(COUNT)])
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
progress = os.open("progress", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for step in range(STEPS):
    optimizer.zero_grad()
    net(torch.randn(4, 2)).pow(2).mean().backward()
    optimizer.step()
    os.write(progress, b".")
"""

STEPS_ALONE = """
import os, torch
weight = torch.nn.Parameter(torch.zeros(1))
optimizer = torch.optim.SGD([weight], lr=1e-6)
weight.grad = torch.ones(1)
progress = os.open("progress", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for step in range(STEPS):
    optimizer.step()
    os.write(progress, b".")
"""

CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
static int (*real)(clockid_t, struct timespec *);
static long shift(void) {  /* the wall clock jumps by up to a year, in both directions, many times a second */
    struct timespec now; real(CLOCK_MONOTONIC, &now);
    unsigned long seed = now.tv_sec * 37 + now.tv_nsec / 20000000;
    return (long)(seed * 2654435761u % 63072000u) - 31536000;
}
static void find(void) { if (!real) real = dlsym(RTLD_NEXT, "clock_gettime"); }
int clock_gettime(clockid_t which, struct timespec *out) {
    find(); int code = real(which, out);
    if (which == CLOCK_REALTIME) out->tv_sec += shift();
    return code;
}
time_t time(time_t *out) {
    struct timespec now; clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *out, void *zone) {
    struct timespec now; clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec; out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


def training(steps: int = 1_000_000, at: str = "pass", before: str = "", after: str = "") -> str:
    """`at` is one line, run at the end of each step; `before` and `after` are lines."""
    source = TRAINING.replace("STEPS", str(steps)).replace("BEFORE", before).replace("AFTER", after)
    return source.replace("    AT\n", f"    {at}\n")
