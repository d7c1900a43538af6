"""Opinions: one file per cause. Each judges the evidence alone; several may be right."""

from .amp_misuse import CAUSE as AMP_MISUSE
from .bad_initialization import CAUSE as BAD_INITIALIZATION
from .bad_input_data import CAUSE as BAD_INPUT_DATA
from .bad_labels import CAUSE as BAD_LABELS
from .batchnorm_tiny_batch import CAUSE as BATCHNORM_TINY_BATCH
from .cause import Cause
from .corrupt_weights import CAUSE as CORRUPT_WEIGHTS
from .data_outlier import CAUSE as DATA_OUTLIER
from .exploding_gradients import CAUSE as EXPLODING_GRADIENTS
from .fp16_overflow import CAUSE as FP16_OVERFLOW
from .lr_too_high import CAUSE as LR_TOO_HIGH
from .masked_softmax import CAUSE as MASKED_SOFTMAX
from .unsafe_op import CAUSE as UNSAFE_OP

CAUSES: tuple[Cause, ...] = (  # most specific first: the order of two that are equally sure
    BAD_LABELS,
    BAD_INPUT_DATA,
    CORRUPT_WEIGHTS,
    AMP_MISUSE,
    BATCHNORM_TINY_BATCH,
    MASKED_SOFTMAX,
    BAD_INITIALIZATION,
    FP16_OVERFLOW,
    UNSAFE_OP,
    DATA_OUTLIER,
    EXPLODING_GRADIENTS,
    LR_TOO_HIGH,
)
