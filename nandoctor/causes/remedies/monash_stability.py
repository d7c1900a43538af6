"""[monash-stability]: repair of a time-series model whose data sets differ hugely in range."""

from ...evidence import Evidence
from .. import treatments
from ..cause import Remedy
from ..wording import num

SOURCE = "monash-stability"


def loss_cap(e: Evidence) -> Remedy:
    return Remedy(
        "Cap the loss",
        "a batch whose loss exceeds 1e6 does not move the weights",
        SOURCE,
        treatments.LOSS_CAP,
        "if loss.item() > 1e6: optimizer.zero_grad(); continue",
    )


def nan_guard(e: Evidence) -> Remedy:
    return Remedy(
        "Guard outputs, loss and gradients",
        "output NaN/Inf: warn and skip the batch; loss NaN/Inf: skip; any gradient NaN: skip the update",
        SOURCE,
        treatments.NONFINITE_GRADIENTS,
        "if not (torch.isfinite(output).all() and torch.isfinite(loss)): continue",
    )


def reduce_on_plateau(e: Evidence) -> Remedy:
    return Remedy(
        "Let the schedule react",
        "ReduceLROnPlateau(mode='min', factor=0.5, patience=5)",
        SOURCE,
        treatments.LEARNING_RATE,
        "torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode='min', factor=0.5, patience=5)",
    )


def adamw(e: Evidence) -> Remedy:
    return Remedy(
        "Regularise and keep eps",
        "AdamW, weight_decay 1e-4, eps 1e-8",
        SOURCE,
        treatments.OPTIMIZER,
        "torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-4, eps=1e-8)",
    )


def lower_lr(e: Evidence) -> Remedy:
    lr = e.optimizer.lr if e.optimizer else None
    change = f"lr {num(lr)} -> {num(lr / 5)}, then {num(lr / 10)}" if lr else "lr to a fifth, then a tenth"
    return Remedy(
        "Lower the learning rate in its steps",
        f"{change} (the document: 5e-5 -> 1e-5 -> 5e-6)",
        SOURCE,
        treatments.LEARNING_RATE,
    )


def normalise(e: Evidence) -> Remedy:
    data = e.data
    name = data.first_tensor if data and data.first_tensor else "x"
    seen = f" (values up to {num(data.first_absmax)} now)" if data and data.first_absmax else ""
    return Remedy(
        "Normalise each data set",
        f"{name} to mean 0 and standard deviation 1{seen}; remove outliers, filter more strictly",
        SOURCE,
        treatments.DATA,
        "x = (x - mean) / std.clamp_min(1e-6)  # mean and std of the training set",
    )


def validate_data(e: Evidence) -> Remedy:
    return Remedy(
        "Validate the data when it is loaded",
        "leave out a series that holds Inf; warn of a maximum above 1e10",
        SOURCE,
        treatments.DATA,
        "series = [s for s in series if torch.isfinite(s).all()]",
    )


def smaller_batch(e: Evidence) -> Remedy:
    return Remedy("A smaller batch", "batch size 16 or 8 (nan-guide says larger: try that first)", SOURCE)
