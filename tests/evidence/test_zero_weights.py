"""What starts from zeros: a weight matrix teaches its layer nothing, a bias may well do so."""

import torch

import nandoctor


def recorded(zeroed, folder):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    torch.nn.init.zeros_(net.get_parameter(zeroed))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with nandoctor.record(folder / "run.parquet", quiet=True) as recording:
        for _ in range(5):
            optimizer.zero_grad()
            net(torch.ones(2, 4)).sum().backward()
            optimizer.step()
    return nandoctor.diagnose(recording.path).evidence.weights.zero_layer


def test_a_weight_matrix_of_zeros_is_named(tmp_path):
    assert recorded("0.weight", tmp_path) == "0.weight"


def test_a_bias_of_zeros_is_not(tmp_path):
    assert recorded("0.bias", tmp_path) is None
