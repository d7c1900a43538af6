"""lightning's demo of a transformer, on a text file in data/; its optimizer and Trainer from the command line."""

from pathlib import Path

from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.demos import LightningTransformer, WikiText2
from torch.utils.data import DataLoader


class Text(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(WikiText2(Path("data"), block_size=16, download=False), batch_size=8)


LightningCLI(LightningTransformer, Text, seed_everything_default=0)
