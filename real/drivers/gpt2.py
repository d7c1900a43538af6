"""transformers' Trainer on its own GPT-2 with random weights. What can be changed is its configuration."""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, HfArgumentParser, Trainer, TrainingArguments

sizes = dict(vocab_size=64, n_positions=16, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
own = [word for word in sys.argv[1:] if word.startswith("--config.")]
for word in own:
    name, value = word.removeprefix("--config.").split("=")
    sizes[name] = float(value)


class Counting(Dataset):
    def __len__(self):
        return 256

    def __getitem__(self, place):
        ids = (torch.arange(16) + place) % 64
        return {"input_ids": ids, "labels": ids}


parser = HfArgumentParser(TrainingArguments)
(arguments,) = parser.parse_args_into_dataclasses([word for word in sys.argv[1:] if word not in own])
torch.manual_seed(0)
Trainer(GPT2LMHeadModel(GPT2Config(**sizes)), arguments, train_dataset=Counting()).train()
