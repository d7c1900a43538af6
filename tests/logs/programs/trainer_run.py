"""Hugging Face's Trainer on sequences of digits, with its own tiny model; it prints a dict every few steps.

sick: a step size that is too large for a squared error. stuck: units that died in the first steps.
"""

import sys

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import PretrainedConfig, PreTrainedModel, Trainer, TrainingArguments, set_seed

SICK, STUCK = sys.argv[1] == "sick", sys.argv[1] == "stuck"
set_seed(0)


class Sums(Dataset):
    """Ten digits; is their sum above 45?"""

    def __init__(self, size):
        self.x = torch.randint(0, 10, (size, 10))
        self.y = (self.x.sum(1) > 45).long()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, place):
        return {"x": self.x[place], "labels": self.y[place]}


class Tiny(PreTrainedModel):
    config_class = PretrainedConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = nn.Embedding(10, 16)
        self.hidden = nn.Linear(160, 64)
        self.head = nn.Linear(64, 2)
        self.post_init()

    def forward(self, x, labels=None):
        hidden = self.hidden(self.embed(x).flatten(1))
        out = self.head(hidden if SICK else torch.relu(hidden))
        if STUCK:
            out = out.exp()  # a positive score; nothing bounds it
        if SICK:
            return {"loss": (out[:, 0] - x.sum(1)).square().mean(), "logits": out}
        return {"loss": nn.functional.cross_entropy(out, labels), "logits": out}


arguments = TrainingArguments(
    output_dir="out", num_train_epochs=6, per_device_train_batch_size=32,
    learning_rate=0.01 if SICK else 3.0 if STUCK else 2e-3,
    logging_steps=5, eval_strategy="epoch", save_strategy="epoch", report_to=[],
    max_grad_norm=1.0 if sys.argv[1] == "healthy" else 1e9,
    disable_tqdm=True, use_cpu=True, optim="adamw_torch" if sys.argv[1] == "healthy" else "sgd", seed=0,
)  # fmt: skip
trainer = Trainer(Tiny(PretrainedConfig()), arguments, train_dataset=Sums(640), eval_dataset=Sums(128))
trainer.train()
trainer.save_state()
