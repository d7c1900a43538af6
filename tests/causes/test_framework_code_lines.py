"""Code lines in the words of a framework, where its own switch is another one than torch's."""

import ast
from dataclasses import replace

import pytest

from nandoctor.causes.remedies import code_lines
from tests.causes.patients import HEALTHY

LIGHTNING = dict(lightning=True)
MANUAL = dict(lightning=True, manual=True)
HF = dict(hf_trainer=True, accelerate=True)
ACCELERATE = dict(accelerate=True)


def run_with(**style):
    return replace(HEALTHY, style=replace(HEALTHY.style, **style))


@pytest.mark.parametrize("style, wanted", [
    (LIGHTNING, "Trainer(..., gradient_clip_val=1.0)"),
    (MANUAL, "self.clip_gradients(optimizer, 1.0, 'norm')"),  # its Trainer refuses gradient_clip_val
    (HF, "TrainingArguments(..., max_grad_norm=1.0)"),
    (ACCELERATE, "accelerator.clip_grad_norm_("),
    ({}, "torch.nn.utils.clip_grad_norm_("),
])  # fmt: skip
def test_clipping_is_switched_on_where_the_framework_does_it(style, wanted):
    code = code_lines.clip(run_with(**style), 1.0)
    ast.parse(code)
    assert wanted in code


@pytest.mark.parametrize("style, wanted", [
    (LIGHTNING, "Trainer(..., precision='16-mixed')"),
    (HF, "TrainingArguments(..., fp16=True)"),
    (ACCELERATE, "Accelerator(mixed_precision='fp16')"),
    ({}, "model = model.float()"),
])  # fmt: skip
def test_weights_are_kept_in_float32_where_the_framework_does_it(style, wanted):
    code = code_lines.master_weights(run_with(**style))
    ast.parse(code)
    assert wanted in code
