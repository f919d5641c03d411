"""The head contract: what is missing is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from panokit.errors import ArgumentError, HeadError
from panokit_converters.contract import check_contract
from panokit_converters.interface import HEADS
from tests.toys.network import ToyNetwork

SIZE = (64, 32)


class Changed(nn.Module):
    """The toy network with its heads changed by a function."""

    def __init__(self, change: Callable[[dict[str, Tensor]], Any]) -> None:
        super().__init__()
        self.toy, self.change = ToyNetwork(), change

    def forward(self, image: Tensor) -> Any:
        return self.change(self.toy(image))


def test_a_good_module() -> None:
    contract = check_contract(ToyNetwork().eval(), SIZE, 4)
    assert (contract.size_wh, contract.stride, contract.names) == (SIZE, 4, HEADS)
    assert contract.shape("semantic") == (4, 8, 16)
    assert contract.shape("offset") == (2, 8, 16)


@pytest.mark.parametrize(
    ("change", "head", "message"),
    [
        pytest.param(lambda h: tuple(h.values()), "semantic", "got a tuple", id="tuple"),
        pytest.param(
            lambda h: {k: v for k, v in h.items() if k != "center"}, "center",
            r"is missing; the module returns \['offset', 'semantic'\]", id="missing",
        ),
        pytest.param(
            lambda h: {**h, "offset": h["offset"][:, :1]}, "offset", r"got \(2, 1, 8, 16\)",
            id="channels",
        ),
        pytest.param(
            lambda h: {**h, "center": h["center"][..., ::2]}, "center", "expected shape", id="size"
        ),
        pytest.param(
            lambda h: {**h, "semantic": h["semantic"][..., :15]}, "semantic", "whole fraction",
            id="stride",
        ),
        pytest.param(
            lambda h: {**h, "center": h["center"][:, 0]}, "center", r"a tensor \[N,C,h,w\]",
            id="rank",
        ),
        pytest.param(
            lambda h: {**h, "offset": h["offset"].half()}, "offset", "expected float32", id="dtype"
        ),
        pytest.param(
            lambda h: {**h, "semantic": h["semantic"] / 0}, "semantic", "finite", id="infinity"
        ),
        pytest.param(
            lambda h: {**h, "center": h["center"] - h["center"].mean(0, keepdim=True)}, "center",
            "other images of the batch", id="batch",
        ),
    ],
)  # fmt: skip
def test_a_broken_promise_is_named(change: Any, head: str, message: str) -> None:
    with pytest.raises(HeadError, match=message) as caught:
        check_contract(Changed(change).eval(), SIZE)
    assert caught.value.head == head


def test_wrong_number_of_classes() -> None:
    with pytest.raises(HeadError, match=r"expected shape \(2, 5, 8, 16\)"):
        check_contract(ToyNetwork().eval(), SIZE, 5)


def test_train_mode_is_refused() -> None:
    with pytest.raises(ArgumentError, match="in train mode"):
        check_contract(ToyNetwork(), SIZE)


def test_a_module_that_cannot_take_the_image() -> None:
    with pytest.raises(ArgumentError, match=r"images of shape \(2, 3, 32, 64\)"):
        check_contract(nn.Conv2d(1, 1, 1).eval(), SIZE)


def test_the_check_leaves_random_numbers_alone() -> None:
    module = ToyNetwork().eval()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    check_contract(module, SIZE)
    assert torch.equal(torch.rand(1), expected)
