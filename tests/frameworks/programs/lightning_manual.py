import importlib
import logging
import warnings

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

PACKAGE, SICK = "pytorch_lightning", False
L = importlib.import_module(PACKAGE)
warnings.filterwarnings("ignore")
logging.getLogger(f"{PACKAGE}.pytorch" if PACKAGE == "lightning" else PACKAGE).setLevel(logging.ERROR)
L.seed_everything(0)
noise = torch.randn(320, 4)
if SICK:
    noise[9 * 16 + 5] = 0


class Sized(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, z):
        z = self.weight * z
        length = z.pow(2).sum(1, keepdim=True).sqrt()
        return torch.cat([z, length], 1)


class Points(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(Sized(), nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 2))
        self.critic = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
        self.judged = nn.BCEWithLogitsLoss()

    def training_step(self, batch, number):
        of_generator, of_critic = self.optimizers()
        real, made = batch[1], self.generator(batch[0])
        right, wrong = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        loss = self.judged(self.critic(real), right) + self.judged(self.critic(made.detach()), wrong)
        of_critic.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(of_critic, gradient_clip_val=1.0, gradient_clip_algorithm="norm")
        of_critic.step()
        fooled = self.judged(self.critic(made), right)
        of_generator.zero_grad()
        self.manual_backward(fooled)
        of_generator.step()
        self.log_dict({"critic": loss, "generator": fooled})

    def configure_optimizers(self):
        one = torch.optim.Adam(self.generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
        return one, torch.optim.Adam(self.critic.parameters(), lr=1e-3, betas=(0.5, 0.999))


trainer = L.Trainer(
    max_epochs=2, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False,
)
model = Points()
trainer.fit(model, DataLoader(TensorDataset(noise, torch.randn(320, 2) * 0.5 + 1), 16))
print({name: float(value) for name, value in trainer.callback_metrics.items()})
