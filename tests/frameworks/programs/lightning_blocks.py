import json
import logging
import sys
import warnings

import lightning
import torch
from lightning.fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nandoctor

warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
x = torch.rand(96, 8)
y = x.sum(1, keepdim=True)
bad = x.clone()
bad[5, 3] = float("nan")


class Regression(lightning.LightningModule):
    def __init__(self, lr=0.01, raises=False):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        self.lr, self.raises = lr, raises

    def loss(self, batch):
        return nn.functional.mse_loss(self.net(batch[0].to(self.dtype)), batch[1].to(self.dtype))

    def training_step(self, batch, number):
        loss = self.loss(batch)
        if self.raises and number == 4:
            raise KeyError("no such label")
        return loss

    def validation_step(self, batch, number):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.lr)


def fit(name, model, validation=x, callbacks=(), **arguments):
    lightning.seed_everything(0, verbose=False)
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, callbacks=[*callbacks],
        enable_progress_bar=False, enable_model_summary=False, **arguments,
    )
    batches = DataLoader(TensorDataset(x, y), 8), DataLoader(TensorDataset(validation, y), 16)
    if callbacks:
        return trainer.fit(model, *batches)
    with nandoctor.record(f"{name}.parquet", quiet=True):
        trainer.fit(model, *batches)


fit("mixed", Regression(), precision="bf16-mixed")
fit("half", Regression(), precision="16-true")
fit("value", Regression(), gradient_clip_val=0.01, gradient_clip_algorithm="value")
fit("validation", Regression(), validation=bad)

plain = Regression()
fit("plain", plain, callbacks=[lightning.pytorch.Callback()])
watched = Regression()
callback = nandoctor.LightningCallback("callback.parquet", quiet=True)
fit("callback", watched, callbacks=[callback])
same = all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))

raised = nandoctor.LightningCallback("raised.parquet", quiet=True)
try:
    fit("raised", Regression(raises=True), callbacks=[raised])
except KeyError as error:
    said = str(error)

torch.manual_seed(0)
fabric = Fabric(accelerator="cpu", devices=1)
fabric.launch()
net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
made, optimizer = fabric.setup(net, torch.optim.SGD(net.parameters(), lr=0.01))
loader = fabric.setup_dataloaders(DataLoader(TensorDataset(x, y), 8))
with nandoctor.record("fabric.parquet", quiet=True):
    for inputs, wanted in loader:
        optimizer.zero_grad()
        fabric.backward(nn.functional.mse_loss(made(inputs), wanted))
        fabric.clip_gradients(made, optimizer, max_norm=1.0)
        optimizer.step()

json.dump({"same": same, "callback": callback.path, "said": said}, sys.stdout)
