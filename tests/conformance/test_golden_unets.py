"""The U-Net against EDM's DDPM++, torchcfm's guided diffusion and ddpm-torch: outputs, gradients, blocks and names."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from recorded import NETWORK, OF, Network, check, files, networks, number, some
from torch import Tensor

from selfloop.learning.nets import names, presets
from selfloop.learning.nets.architecture import Step, UNet
from selfloop.learning.nets.blocks import attention, embed, take
from selfloop.learning.nets.names import Original, table, to_original
from selfloop.learning.nets.unet import evaluate
from selfloop.learning.samplers import dopri5, euler

DOPRI5 = 1e-3


def full_size(golden, family: str) -> Iterator[tuple[UNet, Original, dict[str, Any]]]:
    for name in files(golden, family, r"\w+_fullsize_params\.json"):
        for described in json.loads(golden._checked(family, name)[1]).values():
            yield (*OF[family](described["config"]), described)


def count(unet: UNet) -> int:
    return sum(math.prod(shape) for shape in unet.shapes.values())


@pytest.mark.parametrize("family", OF)
def test_full_size_parameters(golden, family):
    """Names, shapes and their order are the original's, and so is their number."""
    for unet, original, described in full_size(golden, family):
        entries = {entry["name"]: tuple(entry["shape"]) for entry in described["entries"]}
        buffers = [entry["name"] for entry in described["entries"] if entry["kind"] == "buffer"]
        parameters = [(name, shape) for name, shape in entries.items() if name not in buffers]
        assert [(name, leaf.shape) for name, leaf in table(original, unet).items()] == parameters
        assert count(unet) == described["param_count"]
        if "param_count_without_augment" in described:
            assert count(UNet(**(unet.model_dump() | {"augment": 0}))) == described["param_count_without_augment"]
        ours = {name: torch.empty(1, *shape, device="meta") for name, shape in unet.shapes.items()}
        assert {name: tuple(leaf.shape[1:]) for name, leaf in to_original(original, unet, ours).items()} == entries
        x = torch.empty(1, 2, unet.image_channels, 32, 32, device="meta")
        assert evaluate(ours, unet, x, torch.empty(1, 2, device="meta")).shape == x.shape


def test_counts_of_the_facts(golden):
    """The networks that the facts count, whichever of them are recorded in full."""
    facts = golden.facts()
    edm = {"img_channels": 3, "augment_dim": 9}
    given = re.search(r"--cres=([\d,]+)", facts["what_the_paper_repo_runs"]["edm_ffhq"]["train"])
    assert given
    ours = {
        ("edm", "param_count_cifar_uncond_ddpmpp"): presets.ddpmpp(img_resolution=32, channel_mult=[2, 2, 2], **edm),
        ("edm", "param_count_ffhq64_uncond_ddpmpp"): presets.ddpmpp(
            img_resolution=64, channel_mult=[int(word) for word in given[1].split(",")], **edm
        ),
        ("torchcfm", "param_count_cifar"): presets.guided(
            dim=[3, 32, 32], num_res_blocks=2, num_channels=128, channel_mult=[1, 2, 2, 2], num_heads=4,
            num_head_channels=64, attention_resolutions="16", dropout=0.1,
        ),
        ("ddpm_torch", "param_count_cifar"): presets.ddpm(
            in_channels=3, out_channels=3, hid_channels=128, ch_multipliers=[1, 2, 2, 2], num_res_blocks=2,
            apply_attn=[False, True, False, False], drop_rate=0.1,
        ),
    }  # fmt: skip
    counted = [(unet, facts[family][key]) for (family, key), unet in ours.items() if key in facts[family]]
    assert counted
    for unet, recorded in counted:
        assert count(unet) == recorded


@pytest.mark.parametrize("family", OF)
def test_names_there_and_back(golden, family):
    for network in networks(golden, family):
        theirs = network.record.parameters()
        assert {name: leaf.shape[1:] for name, leaf in network.params.items()} == network.unet.shapes
        assert count(network.unet) == network.record.scalars["param_count"]
        back = to_original(network.original, network.unet, network.params)
        assert back.keys() == theirs.keys()
        assert all(torch.equal(back[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("family", ["torchcfm", "ddpm"])
def test_outputs(golden, family):
    for network in networks(golden, family):
        record = network.record
        check(network(record["x"], record["t"]), record["out"])
        if "out_scalar_t" in record.tensors:
            t = torch.tensor(number(record, "out_scalar_t", r"tensor (\d+(?:\.\d+)?)"))
            check(network(record["x"], t), record["out_scalar_t"])


def test_outputs_of_edm(golden):
    for network in networks(golden, "edm"):
        record = network.record
        check(network(record["F_x_in"], record["F_noise_labels"]), record["F_out"])
        check(network(record["F_x_in"], record["F_noise_labels_vp"]), record["F_out_vp"])


@pytest.mark.parametrize("family", ["torchcfm", "ddpm"])
def test_gradients(golden, family):
    found = [network for network in networks(golden, family) if "grad_norms" in network.record.tensors]
    for network in some(found, "gradients"):
        record = network.record
        ours = {name: leaf.clone().requires_grad_() for name, leaf in network.params.items()}
        out = evaluate(ours, network.unet, record["x"].unsqueeze(0), record["t"].unsqueeze(0))[0]
        loss = F.mse_loss(out, record["target"])
        assert float(loss.detach()) == pytest.approx(record.scalars["loss"], rel=NETWORK)
        slopes = dict(zip(ours, torch.autograd.grad(loss, list(ours.values())), strict=True))
        leaves = table(network.original, network.unet)
        norms = record["grad_norms"]
        for (theirs, leaf), norm in zip(leaves.items(), norms, strict=True):
            # What a normalisation cancels has a gradient of rounding errors.
            difference = abs(float(slopes[leaf.name].norm()) - float(norm))
            assert difference <= NETWORK * float(norm) + 1e-7 * float(norms.max()), theirs


def flows(golden, pattern: str) -> Iterator[tuple[Network, Tensor, re.Match[str]]]:
    """Yield the networks and end states of recorded flows whose names match, with the match."""
    found = [
        (network, network.record[key], match)
        for network in networks(golden, "torchcfm")
        for key in network.record.tensors
        if (match := re.fullmatch(pattern, key))
    ]
    return iter(some(found, pattern))


def velocity(network: Network) -> Callable[[Tensor, Tensor], Tensor]:
    params = network.params
    return lambda x, t: evaluate(params, network.unet, x, t)


def test_euler(golden):
    for network, end, match in flows(golden, r"ode\.euler_(linspace_0_1_)?(\d+)"):
        steps = int(match[2]) - bool(match[1])  # linspace counts points
        check(euler(velocity(network), network.record["ode.x0"].unsqueeze(0), steps)[0], end)


def test_dopri5(golden):
    for network, exact, _ in flows(golden, r"ode\.dopri5_tol\S+_f64state"):
        for _, end, match in flows(golden, r"ode\.dopri5_tol(\d+e-\d+)"):
            tolerance = float(match[1])
            ours = dopri5(velocity(network), network.record["ode.x0"].unsqueeze(0), tolerance, tolerance)[0]
            for theirs in (exact, end):
                assert float((ours.double() - theirs.double()).abs().max()) <= DOPRI5


def unit(record, prefix: str, inside: dict[str, str], step: Step, only: str = "") -> dict[str, Tensor]:
    """Return the parameters of a recorded block whose layers' names with us begin with ``only``, as the step's."""
    recorded = {key: value for key, value in record.tensors.items() if key.startswith(f"{prefix}.sd.")}
    found = {
        f"{step.name}.{ours}.{kind}": recorded.pop(f"{prefix}.sd.{theirs}.{kind}").float()
        for ours, theirs in inside.items()
        if ours.startswith(only)
        for kind in ("weight", "bias")
        if f"{prefix}.sd.{theirs}.{kind}" in recorded
    }
    assert all(key.endswith("resample_filter") for key in recorded), recorded.keys()
    return found


def test_blocks_of_edm(golden):
    record = golden.record("edm", "edm_units")
    for prefix, config in record.config.items():
        step = Step(
            "down",
            0,
            0,
            config["in_channels"],
            config["out_channels"],
            attention=config.get("attention", False),
            resample="down" if config.get("down") else "up" if config.get("up") else None,
        )
        assert presets.DDPMPP.groups(step.inputs) == config["num_groups_norm0"]
        params = unit(record, prefix, dict(names.edm(32).inside), step)
        check(
            take(presets.DDPMPP, params, step, record[f"{prefix}.in0"], record[f"{prefix}.in1"]),
            record[f"{prefix}.out"],
        )


def test_times_of_edm(golden):
    record = golden.record("edm", "edm_units")
    width = record["posemb.swapped"].shape[1]
    check(embed(record["posemb.in"], width, "power"), record["posemb.swapped"])


def with_units(golden) -> list[Any]:
    found = [network.record for network in networks(golden, "ddpm") if "t_emb_in" in network.record.tensors]
    return some(found, "times and blocks")


def test_times_of_ddpm(golden):
    for record in with_units(golden):
        for key in ("t_emb_even", "t_emb_odd"):
            check(embed(record["t_emb_in"], record[key].shape[1], "exponential"), record[key])


def test_blocks_of_ddpm(golden):
    inside = dict(names.DDPM_TORCH.inside)
    for record in with_units(golden):
        x, out = record["resblock.x"], record["resblock.out"]
        step = Step("down", 0, 0, x.shape[1], out.shape[1])
        params = unit(record, "resblock", {k: v for k, v in inside.items() if "." not in k}, step)
        check(take(presets.DDPM, params, step, x, F.silu(record["resblock.emb"])), out)
        step = Step("down", 0, 0, record["attn.x"].shape[1], record["attn.x"].shape[1])
        params = unit(record, "attn", inside, step, only="attention.")
        added = attention(presets.DDPM, params, f"{step.name}.attention", record["attn.x"])
        check(record["attn.x"] + added, record["attn.out"])
