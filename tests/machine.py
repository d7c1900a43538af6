"""The machine that a table was measured on, in words; no path and no name of it."""

import os
import platform
from importlib.metadata import version
from pathlib import Path


def machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = Path("/proc/cpuinfo")
    models = [line for line in cpu.read_text().splitlines() if line.startswith("model name")] if cpu.exists() else []
    model = models[0].partition(":")[2].strip() if models else platform.machine()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "pyarrow", "pandas", "matplotlib"))
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    return f"{cores} cores ({model}), {system}, Python {platform.python_version()}, {packages}"
