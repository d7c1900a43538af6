"""Opinions: one file per cause. Each judges the evidence alone; several may be right."""

from .amp_misuse import CAUSE as AMP_MISUSE
from .bad_initialization import CAUSE as BAD_INITIALIZATION
from .bad_input_data import CAUSE as BAD_INPUT_DATA
from .bad_labels import CAUSE as BAD_LABELS
from .batchnorm_tiny_batch import CAUSE as BATCHNORM_TINY_BATCH
from .cause import Cause
from .corrupt_weights import CAUSE as CORRUPT_WEIGHTS
from .data_outlier import CAUSE as DATA_OUTLIER
from .dead_relu import CAUSE as DEAD_RELU
from .exploding_gradients import CAUSE as EXPLODING_GRADIENTS
from .fp16_overflow import CAUSE as FP16_OVERFLOW
from .fp16_underflow import CAUSE as FP16_UNDERFLOW
from .gradient_accumulation_bug import CAUSE as GRADIENT_ACCUMULATION_BUG
from .hardware_fault import CAUSE as HARDWARE_FAULT
from .loss_oscillation import CAUSE as LOSS_OSCILLATION
from .loss_plateau import CAUSE as LOSS_PLATEAU
from .lr_too_high import CAUSE as LR_TOO_HIGH
from .masked_softmax import CAUSE as MASKED_SOFTMAX
from .optimizer_epsilon import CAUSE as OPTIMIZER_EPSILON
from .unsafe_op import CAUSE as UNSAFE_OP
from .vanishing_gradients import CAUSE as VANISHING_GRADIENTS

CAUSES: tuple[Cause, ...] = (  # most specific first: the order of two that are equally sure
    BAD_LABELS,
    BAD_INPUT_DATA,
    CORRUPT_WEIGHTS,
    HARDWARE_FAULT,
    AMP_MISUSE,
    BATCHNORM_TINY_BATCH,
    MASKED_SOFTMAX,
    BAD_INITIALIZATION,
    FP16_OVERFLOW,
    OPTIMIZER_EPSILON,
    GRADIENT_ACCUMULATION_BUG,
    UNSAFE_OP,
    DATA_OUTLIER,
    EXPLODING_GRADIENTS,
    LR_TOO_HIGH,
    FP16_UNDERFLOW,
    DEAD_RELU,
    VANISHING_GRADIENTS,
    LOSS_OSCILLATION,
    LOSS_PLATEAU,
)
