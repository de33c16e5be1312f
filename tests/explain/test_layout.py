"""Pictures with their channels last in memory: faster, and nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from predictor.explain.layout import ChannelsLast


class Spy(nn.Module):
    """Two convolutions; remembers how the pictures lay that it saw."""

    def __init__(self, channels=3):
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Conv2d(channels, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 4, 3)
        self.seen = []

    def forward(self, picture):
        hidden = self.first(picture)
        self.seen.append(hidden.is_contiguous(memory_format=torch.channels_last))
        return self.second(torch.relu(hidden)).mean(dim=(2, 3))


class Viewing(Spy):
    def forward(self, picture):
        return self.first(picture).view(len(picture), -1)[:, :4]


class Peeking(Spy):
    def forward(self, picture):
        return picture.as_strided((len(picture), 4), (picture[0].numel(), 1))


def gradients(model, picture):
    leaf = picture.clone().requires_grad_()
    output = model(leaf)
    return output.detach(), torch.autograd.grad(output[:, 1].sum(), leaf)[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_numbers_stay_and_the_channels_go_last(channels):
    model = Spy(channels).eval()
    picture = torch.rand(5, channels, 12, 10)
    expected = gradients(model, picture)
    model.seen.clear()
    wrapped = ChannelsLast(model)
    for found, wanted in zip(gradients(wrapped, picture), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert model.seen == [False, True, True]
    wrapped(picture)
    assert model.seen[3:] == [True]


@pytest.mark.parametrize("kind", [Viewing, Peeking])
def test_a_model_that_takes_memory_for_granted_is_left_alone(kind):
    model = kind().eval()
    picture = torch.rand(2, 3, 12, 12)
    assert torch.equal(ChannelsLast(model)(picture), model(picture))


def test_what_is_no_picture_goes_through_as_it_is():
    table = torch.rand(4, 6)
    assert ChannelsLast(lambda tensor: tensor)(table) is table


def test_freed_memory_is_kept_unless_the_operator_says_how_much():
    code = "from predictor.explain.memory import keep_freed_memory as keep; print(keep())"

    def ask(**environment):
        run = [sys.executable, "-c", code]
        return subprocess.run(run, env=environment, capture_output=True, text=True, check=True).stdout.strip()

    assert ask(MALLOC_TRIM_THRESHOLD_="131072") == "False"
    if sys.platform == "linux" and "glibc" in " ".join(__import__("platform").libc_ver()):
        assert ask() == "True"
