"""What autograd's node classes are: public name, order of their inputs, and what they can do to a finite value.

A node `FooBackward0` saves `_saved_self`, `_saved_other`, `_saved_result`, ... under the names of the operation's
arguments; INPUTS says which of its edges each argument is (default: edge 0 is `self` or `input`).
"""

import re
from typing import Any

# node class without "Backward<n>" -> names of its differentiable arguments, in the order of next_functions
INPUTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("Mul", "Div", "Add", "Sub", "Rsub", "Atan2", "Maximum", "Minimum", "Fmax", "Fmin", "Fmod", "Remainder",
         "Where", "Hypot", "Xlogy", "Dist", "Cdist", "Lerp", "Logaddexp", "Logaddexp2", "Copysign"),
        ("self", "other"),
    ),
    "Pow": ("self", "exponent"), "Cdist": ("x1", "x2"), "Lerp": ("self", "end", "weight"),
    "Addmm": ("self", "mat1", "mat2"), "Mm": ("self", "mat2"), "Bmm": ("self", "mat2"), "Mv": ("self", "vec"),
    "Dot": ("self", "tensor"), "Baddbmm": ("self", "batch1", "batch2"), "Addmv": ("self", "mat", "vec"),
    "Addbmm": ("self", "batch1", "batch2"), "Ger": ("self", "vec2"), "Addr": ("self", "vec1", "vec2"),
    "Linear": ("input", "weight", "bias"), "MkldnnLinear": ("self", "weight", "bias"),
    "Convolution": ("input", "weight", "bias"), "MkldnnConvolution": ("self", "weight", "bias"),
    "ConvolutionOverrideable": ("input", "weight", "bias"), "ThnnConv2D": ("self", "weight", "bias"),
    "NativeBatchNorm": ("input", "weight", "bias"), "CudnnBatchNorm": ("input", "weight", "bias"),
    "NativeLayerNorm": ("input", "weight", "bias"), "NativeGroupNorm": ("input", "weight", "bias"),
    "FusedRmsNorm": ("input", "weight"),
    "MseLoss": ("self", "target"), "SmoothL1Loss": ("self", "target"), "HuberLoss": ("self", "target"),
    "BinaryCrossEntropy": ("self", "target"), "BinaryCrossEntropyWithLogits": ("self", "target"),
    "SoftMarginLoss": ("self", "target"), "Addcmul": ("self", "tensor1", "tensor2"),
    "Addcdiv": ("self", "tensor1", "tensor2"), "Prelu": ("self", "weight"), "PreluKernel": ("self", "weight"),
    "ScaledDotProductFlashAttentionForCpu": ("query", "key", "value"),
    "ScaledDotProductEfficientAttention": ("query", "key", "value", "attn_bias"),
    "ScaledDotProductFlashAttention": ("query", "key", "value"),
    "ScaledDotProductFusedAttentionOverrideable": ("query", "key", "value"),
    "Embedding": ("weight",), "EmbeddingBag": ("weight",), "GridSampler2D": ("input", "grid"),
    "IndexPut": ("self", "values"), "ScatterAdd": ("self", "src"), "Scatter": ("self", "src"),
    "IndexAdd": ("self", "source"), "IndexCopy": ("self", "source"), "ScatterReduce": ("self", "src"),
    "MaskedScatter": ("self", "source"), "IndexReduce": ("self", "source"), "MaskedFill": ("self", "value"),
    "LinalgSolveEx": ("A", "B"), "SlogdetBackward": ("A",), "LinalgVectorNorm": ("self",),
}  # fmt: skip

# never make a non-finite value of finite ones: a bad output means a bad input
CARRIERS = frozenset(
    """View Reshape ReshapeAlias UnsafeView T Transpose Permute Expand ExpandAs Squeeze Unsqueeze Slice Select Split
    SplitWithSizes UnsafeSplit Chunk Unbind Unfold Flatten Unflatten Detach Alias Clone Contiguous Cat Stack
    Index IndexSelect Gather Take TakeAlongDim Repeat RepeatInterleave Roll Flip Rot90 Diagonal DiagEmbed Tril
    Triu MaskedSelect Narrow AsStrided Movedim Swapaxes Neg Abs Relu Relu6 Threshold LeakyRelu Elu Celu Selu
    Gelu Silu Mish Softplus LogSigmoid Tanh Sigmoid Hardtanh Hardsigmoid Hardswish HardtanhBackward Clamp
    ClampMin ClampMax Maximum Minimum Fmax Fmin Max Min Amax Amin Aminmax Sort Topk Kthvalue Median Sin Cos Atan
    Asinh Erf Erfc Sign Round Floor Ceil Trunc Sgn NativeDropout Dropout FusedDropout MaxPool1D MaxPool2D
    MaxPool2DWithIndices MaxPool3D AdaptiveMaxPool2D UpsampleNearest1D UpsampleNearest2D UpsampleBilinear2D Pad
    ConstantPadNd ReflectionPad2D ReplicationPad2D Embedding IndexPut IndexCopy Scatter MaskedScatter Where
    MaskedFill Fill CopyBackwards Copy CopySlices Real Imag ViewAsReal ViewAsComplex AdaptiveAvgPool2D AvgPool2D
    Mean1 NanToNum Atan2 Hypot PixelShuffle Cummax Cummin""".split()
)
# make a non-finite value of finite ones by overflow only
LINEAR = frozenset("Add Sub Rsub Mean Sum Cumsum Lerp Baddbmm Mul ToCopy Addcmul AddBackward".split())
# make NaN of an all -inf row, or of +inf; of finite values never
SOFTMAXES = frozenset("Softmax LogSoftmax SafeSoftmax Logsumexp ScaledDotProductFlashAttentionForCpu".split())
# the same as public functions: may put -inf into what they return, of finite operands
MASKS = frozenset("masked_fill where tril triu fill setitem add sub mul baddbmm index_put scatter".split())
# put a deliberate -inf into their output: mask constants, additive masks
MASKERS = frozenset("MaskedFill Where Add Sub Fill IndexPut Scatter Clamp Triu Tril CopySlices Baddbmm Addbmm".split())

_stems: dict[str, tuple[str, str]] = {}
_NAME = re.compile(r"^(.*?)Backward(\d*)(?:_.*)?$")

# node class (without Backward) -> public torch name, where it is not the snake case of the class
ALIASES: dict[str, str] = {
    "Addmm": "linear", "Mm": "matmul", "Bmm": "bmm", "Mv": "mv", "Convolution": "conv", "MkldnnConvolution": "conv",
    "NativeBatchNorm": "batch_norm", "CudnnBatchNorm": "batch_norm", "NativeLayerNorm": "layer_norm",
    "NativeGroupNorm": "group_norm", "FusedRmsNorm": "rms_norm", "NllLoss": "nll_loss", "NllLoss2D": "nll_loss",
    "NllLossNd": "nll_loss", "SafeSoftmax": "softmax", "LogSoftmax": "log_softmax", "LinalgVectorNorm": "norm",
    "UnsafeView": "view", "ReshapeAlias": "reshape", "ToCopy": "to", "MseLoss": "mse_loss", "Rsub": "sub",
    "SmoothL1Loss": "smooth_l1_loss", "HuberLoss": "huber_loss", "BinaryCrossEntropy": "binary_cross_entropy",
    "BinaryCrossEntropyWithLogits": "binary_cross_entropy_with_logits", "KlDiv": "kl_div",
    "ScaledDotProductFlashAttentionForCpu": "scaled_dot_product_attention",
    "ScaledDotProductEfficientAttention": "scaled_dot_product_attention",
    "ScaledDotProductFlashAttention": "scaled_dot_product_attention", "NativeDropout": "dropout",
    "LinalgEigh": "eigh", "LinalgSvd": "svd", "LinalgInvEx": "inv", "LinalgDet": "det", "LinalgSlogdet": "slogdet",
    "LinalgCholeskyEx": "cholesky", "LinalgSolveEx": "solve", "LinalgQr": "qr", "MkldnnRnnLayer": "lstm",
    "Dist": "dist", "EuclideanDist": "cdist", "Prelu": "prelu", "PreluKernel": "prelu", "Mean1": "mean",
    "MaxPool2DWithIndices": "max_pool2d", "CopySlices": "copy_",
}  # fmt: skip

# a public function -> the name a person would call it by
FUNCTIONS = {
    "__truediv__": "div", "__rtruediv__": "div", "__itruediv__": "div", "true_divide": "div", "divide": "div",
    "__rdiv__": "div", "__idiv__": "div", "__div__": "div", "div": "div", "__mul__": "mul", "__rmul__": "mul",
    "__imul__": "mul", "multiply": "mul", "__add__": "add", "__radd__": "add", "__iadd__": "add", "__sub__": "sub",
    "__rsub__": "sub", "__isub__": "sub", "subtract": "sub", "rsub": "sub", "__pow__": "pow", "__rpow__": "pow",
    "__ipow__": "pow", "__matmul__": "matmul", "__rmatmul__": "matmul",
    "__imatmul__": "matmul", "__neg__": "neg", "__abs__": "abs", "__getitem__": "getitem",
    "arccos": "acos", "arcsin": "asin", "arccosh": "acosh", "arctanh": "atanh", "linalg_vector_norm": "norm",
    "vector_norm": "norm", "frobenius_norm": "norm", "linalg_norm": "norm", "linalg_eigh": "eigh",
    "linalg_svd": "svd", "linalg_inv": "inv", "linalg_cholesky": "cholesky", "linalg_solve": "solve",
    "linalg_det": "det", "inverse": "inv", "linalg_inv_ex": "inv", "special_xlogy": "xlogy",
    "nll_loss_nd": "nll_loss", "cross_entropy_loss": "cross_entropy", "special_logit": "logit",
    "special_logsumexp": "logsumexp", "_softmax": "softmax", "_log_softmax": "log_softmax",
    "special_expm1": "expm1", "special_log1p": "log1p", "_euclidean_dist": "cdist", "lstm_cell": "lstm_cell",
}  # fmt: skip


def stem(node: Any) -> tuple[str, str]:
    """("Pow", "1") of a PowBackward1 node; the whole class name where it is none of autograd's."""
    name = node.name()
    known = _stems.get(name)
    if known is None:
        match = _NAME.match(name.rpartition("::")[2])
        known = _stems[name] = (match[1], match[2]) if match else (name, "")
    return known


def inputs_of(kind: str) -> tuple[str, ...]:
    return INPUTS.get(kind, ("self",))


def public_name(kind: str) -> str:
    """LogSoftmax -> log_softmax."""
    known = ALIASES.get(kind)
    if known is not None:
        return known
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind).lower().removeprefix("native_")


def public_function(name: str) -> str:
    """The name of a torch function or method as people write it: no underscores, no in-place mark, no overload."""
    known = FUNCTIONS.get(name)
    if known is None and name.endswith("_") and not name.endswith("__"):
        known = FUNCTIONS.get(name[:-1], name[:-1])
    if known is None:
        known = name.strip("_")
    for prefix in ("linalg_", "special_", "fft_"):
        known = known.removeprefix(prefix)
    return known
