"""pytorch-forecasting's DeepAR, as in its example ar.py, on a CSV file; the learning rate from the command line."""

import sys
import warnings

import lightning.pytorch as pl
import pandas as pd
from pytorch_forecasting import DeepAR, TimeSeriesDataSet

warnings.simplefilter("ignore")
table = pd.read_csv(sys.argv[1], dtype={"series": str})
data = TimeSeriesDataSet(
    table, time_idx="time", target="value", group_ids=["series"], max_encoder_length=12, max_prediction_length=6,
    time_varying_unknown_reals=["value"],
)  # fmt: skip
pl.seed_everything(0)
model = DeepAR.from_dataset(data, learning_rate=float(sys.argv[2]), hidden_size=16, rnn_layers=1, log_interval=0)
trainer = pl.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, limit_train_batches=40)
trainer.fit(model, data.to_dataloader(train=True, batch_size=16))
