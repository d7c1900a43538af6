import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

import nandoctor

SIZES = dict(vocab_size=64, n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)


class Texts(Dataset):
    """`ignored`: all labels of batch 5. `classes`: one label a text, and not tokens."""

    def __init__(self, ignored=False, classes=False):
        self.ids = torch.randint(1, 64, (128, 12), generator=torch.Generator().manual_seed(1))
        self.labels = self.ids.clone() if not classes else self.ids[:, 0] % 4
        if ignored:
            self.labels[40:48] = -100

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, place):
        return {"input_ids": self.ids[place], "labels": self.labels[place]}


def trainer(model, data, callbacks=(), **arguments):
    made = Trainer(
        model,
        TrainingArguments(
            "out", max_steps=12, per_device_train_batch_size=8, learning_rate=1e-3, logging_steps=2, save_strategy="no",
            report_to=[], disable_tqdm=True, use_cpu=True, train_sampling_strategy="sequential", **arguments,
        ),
        train_dataset=data, callbacks=[*callbacks],
    )
    made.remove_callback(PrinterCallback)
    return made


def gpt(**arguments):
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(**SIZES, **arguments))


def record(name, model, data, **arguments):
    made = trainer(model, data, **arguments)
    with nandoctor.record(f"{name}.parquet", quiet=True):
        made.train()


record("fp16", gpt(), Texts(), fp16=True)
record("accumulated", gpt(), Texts(), gradient_accumulation_steps=4)
torch.manual_seed(0)
sizes = dict(vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
             num_labels=4)  # fmt: skip
bert = BertForSequenceClassification(BertConfig(**sizes))
record("ignored", bert, Texts(ignored=True, classes=True))

plain = gpt()
trainer(plain, Texts()).train()
watched = gpt()
callback = nandoctor.TrainerCallback("callback.parquet", quiet=True)
made = trainer(watched, Texts(), callbacks=[callback])
made.train()
same = all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))
first = callback.path

made.train_dataset.ids[40, 0] = 1000
said = ""
try:
    made.train()
except IndexError as error:
    said = str(error)
json.dump({"same": same, "callback": first, "said": said}, sys.stdout)
