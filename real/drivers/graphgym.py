"""torch-geometric's GraphGym, as in its graphgym/main.py, on a data set that it makes; the rest is in the YAML."""

import logging

import torch
from torch_geometric import seed_everything
from torch_geometric.datasets import FakeDataset
from torch_geometric.graphgym.cmd_args import parse_args
from torch_geometric.graphgym.config import cfg, dump_cfg, load_cfg, set_out_dir, set_run_dir
from torch_geometric.graphgym.logger import set_printing
from torch_geometric.graphgym.model_builder import create_model
from torch_geometric.graphgym.register import register_loader
from torch_geometric.graphgym.train import GraphGymDataModule, train
from torch_geometric.transforms import RandomNodeSplit


@register_loader("fake")
def fake(format, name, folder):
    if format == "fake":
        torch.manual_seed(0)
        made = FakeDataset(num_graphs=1, avg_num_nodes=300, num_channels=8, num_classes=3, task="node")
        made._data = RandomNodeSplit(num_val=30, num_test=30)(made._data)
        return made


arguments = parse_args()
load_cfg(cfg, arguments)
set_out_dir(cfg.out_dir, arguments.cfg_file)
dump_cfg(cfg)
set_run_dir(cfg.out_dir)
set_printing()
seed_everything(cfg.seed)
data = GraphGymDataModule()
model = create_model()
logging.info(model)
train(model, data, logger=False)
