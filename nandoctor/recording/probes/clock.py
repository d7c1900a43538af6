"""The step clock when the optimizer's probe has failed: steps are still counted, and what waits is still written."""

from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

from ..run import Run


def install(run: Run) -> None:
    """After the optimizer's own probe, so that a step at which that one fails is counted once."""
    recorder = run.recorder

    def after_step(*_: Any) -> None:
        if "optimizer" in recorder.guard.failed:
            run.clipped, run.foreign, run.checked_gradients = False, None, True
            recorder.step_ends()

    register_optimizer_step_post_hook(recorder.guard("clock", after_step))
