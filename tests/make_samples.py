"""Records one script for each cause, and a healthy one, into sample_logs/: `python -m tests.make_samples`."""

import sys
from pathlib import Path

from tests.harness import healed, labels, run_recorded

SAMPLES = {
    "lr-too-high": "lr_cnn_guard_skips",
    "exploding-gradients": "explode_gnn_more_hops",
    "fp16-overflow": "fp16_squared_relu_blocks",
    "bad-input-data": "data_nan_pixel_workers",
    "batchnorm-tiny-batch": "bn_by_hand_one_row",
    "masked-softmax": "mask_empty_sentence",
    "unsafe-op": "unsafe_distance_backward",
    "bad-initialization": "init_far_too_large",
    "healthy": "healthy_deep_relu_hot",
}
LARGEST = 200 * 1024  # bytes; nine of them lie in the repository


def main() -> int:
    folder = Path(__file__).parent.parent / "sample_logs"
    known = labels("scripts")
    for cause, name in SAMPLES.items():
        target = folder / f"{cause}.parquet"
        waiting = target.with_suffix(".new")
        run = run_recorded(healed(known[name], ()), waiting)
        if run.trace is None:
            print(f"{cause}: no trace was written. {run.said}", file=sys.stderr)
            return 1
        size = waiting.stat().st_size
        if size > LARGEST:
            print(f"{cause}: {size} bytes are more than {LARGEST}", file=sys.stderr)
            return 1
        waiting.replace(target)
        print(f"{target.name} {size} bytes, from {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
