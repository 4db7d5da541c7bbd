"""The U-Net's copies, gradients, initial weights, attention, dropout, names and refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from selfloop.core.streams import Streams
from selfloop.learning.nets import names, presets
from selfloop.learning.nets.architecture import Step, Style, UNet, layers_of
from selfloop.learning.nets.blocks import attention, take
from selfloop.learning.nets.names import Original, from_original, table, to_original
from selfloop.learning.nets.unet import Params, evaluate, init, padded, whole

SEEDS = (0, 5)
SIZE = 8

pytestmark = pytest.mark.usefixtures("as_in_a_worker")


def ddpmpp(**changes: Any) -> UNet:
    small = {
        "img_resolution": SIZE,
        "img_channels": 3,
        "label_dim": 4,
        "augment_dim": 2,
        "model_channels": 8,
        "channel_mult": (1, 2),
        "num_blocks": 1,
        "attn_resolutions": (4,),
    }
    return presets.ddpmpp(**(small | changes))


def guided(**changes: Any) -> UNet:
    small = {
        "dim": (3, SIZE, SIZE),
        "num_channels": 64,
        "num_res_blocks": 1,
        "channel_mult": (1, 2),
        "attention_resolutions": "4",
        "num_head_channels": 32,
    }
    return presets.guided(**(small | changes))


def ddpm(**changes: Any) -> UNet:
    small = {
        "in_channels": 3,
        "out_channels": 3,
        "hid_channels": 64,
        "ch_multipliers": (1, 2),
        "num_res_blocks": 1,
        "apply_attn": (True, False),
    }
    return presets.ddpm(**(small | changes))


CASES: dict[str, tuple[UNet, Original]] = {
    "ddpmpp": (ddpmpp(), names.edm(SIZE)),
    "ddpmpp without labels": (ddpmpp(label_dim=0, augment_dim=0), names.edm(SIZE)),
    "guided": (guided(), names.TORCHCFM),
    "guided with adaptive scale": (guided(use_scale_shift_norm=True, use_new_attention_order=True), names.TORCHCFM),
    "guided with resampling blocks": (guided(resblock_updown=True), names.TORCHCFM),
    "ddpm": (ddpm(), names.DDPM_TORCH),
}
EACH = pytest.mark.parametrize("name", CASES)


def perturbed(params: Params, streams: Streams) -> Params:
    """Move every leaf, so that no branch is silent, no bias 0 and no norm's weight 1."""
    return {k: v + 0.1 * streams.normal(f"move/{k}", v.shape[1:]) for k, v in params.items()}


def make(unet: UNet, seeds: tuple[int, ...] = SEEDS, n: int = 3) -> tuple[Params, dict[str, Tensor]]:
    """Return moved parameters and inputs, each copy's from its own seed."""
    streams = Streams(seeds=seeds)
    inputs = {"x": streams.normal("x", (n, unet.image_channels, SIZE, SIZE)), "t": streams.uniform("t", (n,))}
    if unet.labels:
        inputs["labels"] = streams.uniform("labels", (n, unet.labels))
    if unet.augment:
        inputs["augment"] = streams.normal("augment", (n, unet.augment))
    return perturbed(init(streams, unet), streams), inputs


def gradients(unet: UNet, params: Params, inputs: dict[str, Tensor]) -> Params:
    leaves = {k: v.clone().requires_grad_() for k, v in params.items()}
    loss = evaluate(leaves, unet, **inputs).square().mean((1, 2, 3, 4)).sum()
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


@EACH
def test_every_parameter_matters(name):
    unet, _ = CASES[name]
    params, inputs = make(unet)
    for key, slope in gradients(unet, params, inputs).items():
        assert torch.isfinite(slope).all(), key
        assert (slope.flatten(1).norm(dim=1) > 1e-6).all(), key


@pytest.mark.slow
@EACH
def test_a_stack_gives_the_bits_of_its_copies(name):
    unet, _ = CASES[name]
    params, inputs = make(unet)
    out, slopes = evaluate(params, unet, **inputs), gradients(unet, params, inputs)
    for r, seed in enumerate(SEEDS):
        alone, its = make(unet, (seed,))
        assert all(torch.equal(alone[k][0], v[r]) for k, v in params.items())
        assert torch.equal(evaluate(alone, unet, **its)[0], out[r])
        for k, slope in gradients(unet, alone, its).items():
            assert torch.equal(slope[0], slopes[k][r]), k


@EACH
def test_a_nan_stays_in_its_copy(name):
    unet, _ = CASES[name]
    params, inputs = make(unet)
    spoilt = {k: torch.cat([v[:1], torch.full_like(v[1:], torch.nan)]) for k, v in params.items()}
    ill = evaluate(spoilt, unet, **inputs)
    assert torch.equal(ill[0], evaluate(params, unet, **inputs)[0])
    assert ill[1].isnan().all()


@EACH
def test_single_precision_suffices(name):
    unet, _ = CASES[name]
    params, inputs = make(unet)
    exact = evaluate({k: v.double() for k, v in params.items()}, unet, **{k: v.double() for k, v in inputs.items()})
    assert exact.dtype == torch.float64
    error = (evaluate(params, unet, **inputs) - exact).abs().max()
    assert float(error) <= 1e-5 * float(exact.abs().max())


@EACH
def test_a_copy_may_share_its_time(name):
    unet, _ = CASES[name]
    params, inputs = make(unet)
    one = inputs | {"t": inputs["t"][:, :1]}
    each = inputs | {"t": inputs["t"][:, :1].repeat(1, 3)}
    torch.testing.assert_close(evaluate(params, unet, **one), evaluate(params, unet, **each), rtol=1e-4, atol=1e-5)


def test_labels_and_augmentation_are_heard():
    unet, _ = CASES["ddpmpp"]
    params, inputs = make(unet)
    out = evaluate(params, unet, **inputs)
    for key in ("labels", "augment"):
        without = inputs | {key: None}
        assert not torch.allclose(evaluate(params, unet, **without), out)
        zero = inputs | {key: torch.zeros_like(inputs[key])}
        torch.testing.assert_close(evaluate(params, unet, **zero), evaluate(params, unet, **without))


def bound(weight: Tensor, init: str) -> float:
    """Return the bound of a layer's uniform weights, by the formulas of Glorot & Bengio and of PyTorch's default."""
    fan_in = math.prod(weight.shape[2:])
    fan_out = fan_in // weight.shape[2] * weight.shape[1]
    return math.sqrt(6 / (fan_in + fan_out)) if init == "xavier" else 1 / math.sqrt(fan_in)


@pytest.mark.parametrize(
    ("name", "kind", "last", "qkv"),
    [("ddpmpp", "xavier", 1e-5, math.sqrt(0.2)), ("guided", "kaiming", 0.0, 1.0), ("ddpm", "xavier", 1e-5, 1.0)],
)
def test_initial_values(name, kind, last, qkv):
    params = init(Streams(seeds=SEEDS), CASES[name][0])
    for key, value in params.items():
        layer, leaf = key.rsplit(".", 1)
        short = layer.rsplit(".", 1)[-1]
        gain = last if layer.endswith(("conv2", "attention.out", "out.conv")) else qkv if short == "qkv" else 1.0
        if "norm" in short:
            assert (value == float(leaf == "weight")).all(), key
        elif gain == 0 or (leaf == "bias" and kind == "xavier"):
            assert (value == 0).all(), key
        else:
            most = gain * bound(params[f"{layer}.weight"], kind)
            assert float(value.abs().max()) <= most, key
            if value.numel() > 1000:
                assert float(value.std()) == pytest.approx(most / math.sqrt(3), rel=0.05), key
                assert abs(float(value.mean())) <= 0.1 * most, key
    assert not torch.equal(params["stem.weight"][0], params["stem.weight"][1])


def test_a_new_network_of_torchcfm_returns_zeros():
    unet = guided()
    inputs = make(unet)[1]
    assert (evaluate(init(Streams(seeds=SEEDS), unet), unet, **inputs) == 0).all()


def qkv_rows(order: str, heads: int, channels: int) -> list[list[int]]:
    """Return the rows of the first layer's weight that make the queries, keys and values of each head in turn."""
    width = channels // heads
    at = {
        "interleaved": lambda part, head, c: (head * width + c) * 3 + part,
        "by head": lambda part, head, c: (head * 3 + part) * width + c,
        "blocks": lambda part, head, c: (part * heads + head) * width + c,
    }[order]
    return [[at(part, head, c) for head in range(heads) for c in range(width)] for part in range(3)]


@pytest.mark.parametrize("order", ["interleaved", "by head", "blocks"])
@pytest.mark.parametrize("heads", [1, 4])
def test_attention_is_softmax_of_scaled_products(order, heads):
    c, width = 16, 16 // heads
    streams = Streams(seeds=(0,))
    shapes = {"norm": (c,), "qkv": (3 * c, c, 1, 1), "out": (c, c, 1, 1)}
    params = {f"a.{k}.weight": streams.normal(f"{k}.weight", s)[0] for k, s in shapes.items()}
    params |= {f"a.{k}.bias": streams.normal(f"{k}.bias", s[:1])[0] for k, s in shapes.items()}
    x = streams.normal("x", (2, c, 3, 5))[0]

    normal = torch.nn.functional.group_norm(x, 4, params["a.norm.weight"], params["a.norm.bias"], 1e-6).flatten(2)
    rows = qkv_rows(order, heads, c)
    weight, bias = params["a.qkv.weight"][:, :, 0, 0], params["a.qkv.bias"]
    q, k, v = ((weight[r] @ normal + bias[r, None]).unflatten(1, (heads, width)) for r in rows)
    scores = torch.einsum("bhcq,bhck->bhqk", q, k) / math.sqrt(width)
    mixed = torch.einsum("bhqk,bhck->bhcq", scores.softmax(-1), v).flatten(1, 2)
    expected = params["a.out.weight"][:, :, 0, 0] @ mixed + params["a.out.bias"][:, None]

    style = Style(group_channels=4, heads=heads, qkv=order)
    torch.testing.assert_close(attention(style, params, "a", x), expected.view_as(x), rtol=1e-4, atol=1e-5)


def test_where_attention_sits():
    def attending(unet: UNet) -> list[str]:
        return [step.name for step in unet.steps if step.attention]

    assert attending(ddpmpp(num_blocks=2)) == ["down.1.0", "down.1.1", "middle.1.0", "up.1.2"]
    assert attending(ddpmpp(attn_resolutions=())) == ["middle.1.0"]
    assert attending(guided()) == ["down.1.0", "middle.1.0", "up.1.0", "up.1.1"]
    assert attending(guided(attention_resolutions="8,4")) == [
        s.name for s in guided().steps if not s.resample and s.name != "middle.1.1"
    ]
    assert attending(ddpm()) == ["down.0.0", "middle.1.0", "up.0.0", "up.0.1"]
    assert attending(ddpm(apply_attn=False)) == ["middle.1.0"]


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_dropout_is_drawn_from_what_is_passed_in():
    unet = guided(dropout=0.5)
    params, inputs = make(unet)
    out = evaluate(params, unet, **inputs)
    assert torch.equal(out, evaluate(params, guided(), **inputs))
    before = torch.get_rng_state()
    dropped = evaluate(params, unet, **inputs, dropout=generators(1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.allclose(dropped, out)
    assert torch.equal(dropped, evaluate(params, unet, **inputs, dropout=generators(1, 2)))
    alone, its = make(unet, SEEDS[1:])
    assert torch.equal(evaluate(alone, unet, **its, dropout=generators(2))[0], dropped[1])


def test_dropout_drops_its_share_and_keeps_the_mean():
    style, step = Style(group_channels=4, dropout=0.25), Step("down", 0, 0, 8, 8)
    layers = layers_of(style, step, 4)
    params = {f"{step.name}.{k}.weight": torch.zeros(layer.shape) for k, layer in layers.items()}
    params |= {f"{step.name}.{k}.bias": torch.zeros(layer.shape[0]) for k, layer in layers.items()}
    # All units before the last convolution become SiLU(1), and that convolution hands them on.
    params[f"{step.name}.norm2.bias"] += 1
    params[f"{step.name}.conv2.weight"][:, :, 1, 1] = torch.eye(8)
    (generator,) = generators(3)
    out = take(style, params, step, torch.zeros(50, 8, 8, 8), torch.zeros(50, 4), generator)
    dropped = out == 0
    assert float(dropped.float().mean()) == pytest.approx(0.25, abs=0.01)
    torch.testing.assert_close(out[~dropped], torch.full_like(out[~dropped], 1 / (1 + math.exp(-1)) / 0.75))


@EACH
def test_names_there_and_back(name):
    unet, original = CASES[name]
    params, _ = make(unet)
    theirs = to_original(original, unet, params)
    back = from_original(original, unet, theirs)
    assert back.keys() == params.keys()
    assert all(torch.equal(back[k], v) for k, v in params.items())
    assert sum(k.endswith("resample_filter") for k in theirs) == (4 if name.startswith("ddpmpp") else 0)


@EACH
def test_names_are_strict(name):
    unet, original = CASES[name]
    theirs = to_original(original, unet, make(unet)[0])
    some = next(iter(table(original, unet)))
    with pytest.raises(ValueError, match=r"^stranger\.weight is not a parameter of this network$"):
        from_original(original, unet, theirs | {"stranger.weight": theirs[some]})
    with pytest.raises(ValueError, match=rf"^the parameter {some} is missing$"):
        from_original(original, unet, {k: v for k, v in theirs.items() if k != some})
    with pytest.raises(ValueError, match=rf"^{some} has shape .* is expected$"):
        from_original(original, unet, theirs | {some: theirs[some].unsqueeze(1)})
    with pytest.raises(ValueError, match=r"^the parameter stem\.weight is missing$"):
        to_original(original, unet, {k: v for k, v in make(unet)[0].items() if k != "stem.weight"})


def test_an_original_without_such_a_network_is_refused():
    with pytest.raises(ValueError, match=r"^the original has no name for our parameter embed\.augment\.weight$"):
        table(names.TORCHCFM, ddpmpp())
    with pytest.raises(ValueError, match=r"^the original has no name for our parameter down\.0\.1\.conv\.bias$"):
        table(names.edm(SIZE), ddpm())


def test_another_filter_is_refused():
    unet, original = CASES["ddpmpp"]
    theirs = to_original(original, unet, make(unet)[0])
    name = next(k for k in theirs if k.endswith("resample_filter"))
    with pytest.raises(ValueError, match=rf"^{name} is not the filter"):
        from_original(original, unet, theirs | {name: theirs[name] * 2})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 33}, "channels is 33: half of the embedding are sines and half cosines"),
        ({"attention": (4,)}, "attention names level 4, and the coarsest is 3"),
        ({"channels": 48}, "down.0.0.norm1 cannot normalise 48 channels in 32 groups of one size"),
        ({"style": Style(group_channels=256)}, "down.0.0.norm1 cannot normalise 128 channels in 0 groups of one size"),
        ({"style": Style(heads=3)}, "down.1.0 cannot split 256 channels into heads of one size"),
        ({"style": Style(head_channels=96)}, "down.1.0 cannot split 256 channels into heads of one size"),
        ({"style": Style(head_channels=512)}, "down.1.0 cannot split 256 channels into heads of one size"),
    ],
)
def test_odd_settings_are_refused(settings, message):
    with pytest.raises(ValidationError) as refused:
        UNet(**settings)
    (error,) = refused.value.errors()
    assert error["msg"] == f"Value error, {message}"


@pytest.mark.parametrize(
    "settings", [{"dropout": 1.0}, {"multipliers": ()}, {"blocks": 0}, {"depth": 2}, {"channels": 2}, {"labels": -1}]
)
def test_impossible_values_are_refused(settings):
    with pytest.raises(ValidationError):
        UNet(**settings)


@pytest.mark.parametrize("other", [{"embedding_type": "fourier"}, {"resample_filter": [1, 3, 3, 1]}, {"channels": 8}])
def test_another_architecture_of_edm_is_refused(other):
    with pytest.raises(ValueError, match=r"^\w+=.* is not a setting of DDPM\+\+$"):
        ddpmpp(**other)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("x", torch.zeros(1, 2, 1, 8, 8), r"images have 1 channels, and the network reads 3"),
        ("t", torch.zeros(2), r"times have shape \(2,\), and there are 1 copies of 2 images"),
        ("t", torch.zeros(2, 2), r"times have shape \(2, 2\), and there are 1 copies of 2 images"),
        ("labels", torch.zeros(1, 2, 3), r"labels have shape \(1, 2, 3\), and the network takes 4 numbers of an image"),
        ("augment", torch.zeros(1, 2), r"augment have shape \(1, 2\), and the network takes 2 numbers of an image"),
    ],
)
def test_odd_inputs_are_refused(key, value, message):
    unet, _ = CASES["ddpmpp"]
    params, inputs = make(unet, (0,), n=2)
    with pytest.raises(ValueError, match=f"^{message}$"):
        evaluate(params, unet, **(inputs | {key: value}))


@pytest.mark.parametrize(("height", "width"), [(9, 8), (8, 7), (1, 1), (5, 11)])
@pytest.mark.parametrize("case", list(CASES))
def test_sides_that_cannot_be_halved_are_made_up_with_zeros_and_cut_again(case, height, width):
    unet, _ = CASES[case]
    params, inputs = make(unet, (0,), n=2)
    x = torch.randn(1, 2, unet.image_channels, height, width, generator=torch.Generator().manual_seed(0))
    found = evaluate(params, unet, **(inputs | {"x": x}))
    assert found.shape == (1, 2, unet.out_channels, height, width)
    larger = torch.zeros(1, 2, unet.image_channels, whole(height, 3), whole(width, 3))
    larger[..., :height, :width] = x
    if (whole(height, len(unet.multipliers) - 1), whole(width, len(unet.multipliers) - 1)) == larger.shape[3:]:
        assert torch.equal(found, evaluate(params, unet, **(inputs | {"x": larger}))[..., :height, :width])


def test_sides_that_can_be_halved_are_left_alone():
    x = torch.zeros(1, 2, 3, 8, 16)
    assert padded(x, 3) is x
    assert [whole(side, 3) for side in (1, 8, 9, 28)] == [8, 8, 16, 32]
