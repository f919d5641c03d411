"""A converter that stops is a sentence about the user's layer, whatever it raised."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panokit.errors import ArgumentError, ExportError
from panokit_converters.program.blame import explained

SIZE = (64, 32)


class Spectrum(nn.Module):
    """What no converter has a form of."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft2(x).abs()


class Network(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=4, padding=1)
        self.decoder = nn.ModuleDict({"deep": nn.Sequential(nn.ReLU(), layer)})
        self.heads = nn.Conv2d(4, 7, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        y = self.heads(self.decoder["deep"](F.relu(self.stem(image))))
        return {"semantic": y[:, :4], "center": y[:, 4:5], "offset": y[:, 5:]}


class Undecided(nn.Module):
    """Its way depends on the numbers of the image: torch.export cannot list it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x) if bool(torch.cumsum(x, 0).mean() > 0) else x


def refuse(layer: nn.Module, said: Exception, probe: Callable[..., object]) -> str:
    with (
        pytest.raises(ExportError) as caught,
        explained("X", "the tool", Network(layer).eval(), SIZE, probe),
    ):
        raise said
    assert caught.value.__cause__ is said  # --debug shows it
    return str(caught.value)


def fails_with_fft(module: nn.Module, examples: tuple[Tensor, ...]) -> None:
    if examples[0].dtype != torch.complex64 and "fft" in str(getattr(module, "function", "")):
        raise RuntimeError("no")


def takes_all(module: nn.Module, examples: tuple[Tensor, ...]) -> None:
    module(*examples)


@pytest.mark.parametrize(
    "said",
    [
        TypeError("only 0-dimensional arrays can be converted to Python scalars"),
        AttributeError("'str' object has no attribute 'dtype'"),
        AssertionError(),
        KeyError("x"),
        RecursionError("deep"),
        ValueError('failed to legalize: %130 = "mhlo.fft"(%1) {a = dense<1> : tensor<4x>}'),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_any_exception_names_layer_operator_and_way_round(said: Exception) -> None:
    text = refuse(Spectrum(), said, fails_with_fft)
    assert "the operator 'fft_fft2' of the layer 'decoder.deep.1' (Spectrum)" in text
    assert "--formats" in text
    assert "mhlo" not in text
    assert "tensor<" not in text


def test_short_words_of_the_tool_are_passed_on() -> None:
    text = refuse(Spectrum(), ValueError("pads of more than 7 are not for us"), fails_with_fft)
    assert "(Spectrum): pads of more than 7 are not for us; write it" in text
    text = refuse(Spectrum(), NotImplementedError("op 'fft' not implemented."), fails_with_fft)
    assert "it has no form of it" in text


def test_a_layer_that_cannot_be_listed_is_named_with_its_last_call() -> None:
    text = refuse(Undecided(), RuntimeError("data-dependent\nand more"), takes_all)
    assert "of the layer 'decoder.deep.1' (Undecided)" in text
    assert "the operator 'bool'" in text


def test_a_scripted_layer_is_to_be_given_as_it_was() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Conv2d(4, 4, 1)))
    text = refuse(scripted, TypeError("takes 2 positional arguments"), takes_all)
    assert "the layer 'decoder.deep.1'" in text
    assert "before scripting" in text


def test_without_a_culprit_none_is_invented() -> None:
    text = refuse(nn.Tanh(), RuntimeError("strange"), takes_all)
    assert text.startswith("X: the tool cannot convert the module: strange;")


def test_the_line_of_the_users_file_tells_where_no_single_operator_fails() -> None:
    line = inspect.getsourcelines(Spectrum.forward)[1] + 1
    said = ValueError(f'File "{__file__}", line {line}, in forward\nsomething')
    assert "'decoder.deep.1' (Spectrum)" in refuse(Spectrum(), said, takes_all)


def test_the_name_in_the_message_tells_it_too() -> None:
    text = refuse(nn.Softmax(1), ValueError("HLO_SOFTMAX is left"), takes_all)
    assert "the operator 'softmax' of the layer 'decoder.deep.1' (Softmax)" in text


def test_errors_of_ours_pass_as_they_are() -> None:
    with (
        pytest.raises(ArgumentError, match="ours"),
        explained("X", "the tool", Network(nn.Tanh()).eval(), SIZE, takes_all),
    ):
        raise ArgumentError("module", "ours")


class _Branching(nn.Module):
    """Asks its weights, or the picture, which way to go."""

    def __init__(self, by_image: bool) -> None:
        super().__init__()
        self.by_image = by_image
        self.register_buffer("share", torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        asked = x.mean() if self.by_image else self.get_buffer("share")[1]
        return x * 2 if asked > -0.5 else x  # for any picture of 0..255 it is the same


def test_weights_may_decide_and_pictures_may_not() -> None:
    from panokit_converters.program.capture import export_program

    image = (torch.rand(1, 3, 8, 8),)
    program = export_program(_Branching(False).eval(), image)
    torch.testing.assert_close(program.module()(*image), 2 * image[0])
    with pytest.raises(Exception, match="data-dependent"):
        export_program(_Branching(True).eval(), image)
