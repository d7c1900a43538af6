"""lightning's BoringModel with its data, by LightningCLI."""

from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel

LightningCLI(BoringModel, BoringDataModule, seed_everything_default=0)
