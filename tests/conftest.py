"""Every test run is single-threaded: results and timings do not hang on the machine."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
