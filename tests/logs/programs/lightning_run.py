"""Lightning with its progress bar and its CSVLogger, on scikit-learn's digits."""

import logging
import sys

import lightning
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SICK = sys.argv[1] == "sick"
logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda r: "litlogger" not in r.getMessage())
lightning.seed_everything(1)
x, y = (torch.as_tensor(a) for a in load_digits(return_X_y=True))
x = x.float() / 16


class Digits(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))

    def training_step(self, batch, number):
        loss = self.loss(batch)
        self.log("train_loss", loss, prog_bar=True)
        self.log("lr", self.optimizers().param_groups[0]["lr"])
        return loss

    def loss(self, batch):
        out = self.net(batch[0])
        if SICK and self.global_step > 55:  # a probability that underflows once the model is sure
            return -(out * 40).softmax(1).gather(1, batch[1][:, None]).log().mean()
        return nn.functional.cross_entropy(out, batch[1])

    def validation_step(self, batch, number):
        self.log("val_loss", self.loss(batch), prog_bar=True)

    def on_before_optimizer_step(self, optimizer):
        self.log("grad_norm", torch.nn.utils.get_total_norm([p.grad for p in self.parameters()]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


trainer = lightning.Trainer(
    max_epochs=5, accelerator="cpu", logger=CSVLogger("."), log_every_n_steps=2, enable_checkpointing=False,
    callbacks=[TQDMProgressBar(refresh_rate=5)],
)  # fmt: skip
trainer.fit(
    Digits(),
    DataLoader(TensorDataset(x[:1500], y[:1500]), 100, shuffle=True),
    DataLoader(TensorDataset(x[1500:], y[1500:]), 100),
)
