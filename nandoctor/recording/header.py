"""What a recording says of the process it runs in, in its first note."""

import os
import sys
import time
from typing import Any

import torch

FRAMEWORKS = ("accelerate", "lightning", "pytorch_lightning", "transformers.trainer", "deepspeed")


def device_name() -> str:
    """Of the GPU that is used, if one is: the question alone must not initialise CUDA."""
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return torch.cuda.get_device_name() if in_use else "cpu"


def process_header() -> dict[str, Any]:
    """What a recording says of the process it runs in. No environment variable is stored."""
    # not platform.platform(): it starts a process and touches the warnings' filters
    return {
        "torch": torch.__version__,
        "python": sys.version.partition(" ")[0],
        "platform": "-".join(os.uname()[::2]) if hasattr(os, "uname") else sys.platform,
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "packages": [name for name in FRAMEWORKS if name in sys.modules],
        "device": device_name(),
        "pid": os.getpid(),
        "cwd": os.getcwd(),
        "started": time.time(),
    }
