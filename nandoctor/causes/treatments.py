"""Names of the active-mode treatments that a remedy may refer to."""

ADAPTIVE_CLIPPING = "adaptive-clipping"
NONFINITE_GRADIENTS = "nonfinite-gradients"
NONFINITE_WEIGHTS = "nonfinite-weights"
LOSS_CAP = "loss-cap"
LEARNING_RATE = "learning-rate"
WARM_UP = "warm-up"
AMP_ORDER = "amp-order"
ATTENTION_LOGITS = "attention-logits"
BATCHNORM = "batchnorm"
DATA = "data"
OPTIMIZER = "optimizer"
ROLLBACK = "rollback"
ACCUMULATION = "accumulation"
OPERATIONS = "operations"
INITIALIZATION = "initialization"

ALL = (
    ADAPTIVE_CLIPPING, NONFINITE_GRADIENTS, NONFINITE_WEIGHTS, LOSS_CAP, LEARNING_RATE, WARM_UP, AMP_ORDER,
    ATTENTION_LOGITS, BATCHNORM, DATA, OPTIMIZER, ROLLBACK, ACCUMULATION, OPERATIONS, INITIALIZATION,
)  # fmt: skip
