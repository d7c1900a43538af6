"""transformers' Trainer on its own BERT classifier with random weights, on a CSV file of token ids and labels."""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, HfArgumentParser, Trainer, TrainingArguments

table = np.loadtxt(sys.argv[1], delimiter=",", dtype=np.int64)


class Texts(Dataset):
    def __len__(self):
        return len(table)

    def __getitem__(self, place):
        return {"input_ids": torch.tensor(table[place, 1:]), "labels": torch.tensor(table[place, 0])}


(arguments,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(sys.argv[2:])
torch.manual_seed(0)
sizes = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
model = BertForSequenceClassification(BertConfig(**sizes, num_labels=4))
Trainer(model, arguments, train_dataset=Texts()).train()
