"""The U-Nets of EDM, torchcfm and ddpm-torch as settings of ours.

Each preset takes the settings of its original by the original's own names, so that a recorded configuration can be
passed on as it is; what our network cannot do, or an original's setting that is not among them, is refused. The size of
normalisation groups is ours to change: in a network narrower than its original, groups of single channels lose what a
block is told of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfloop.learning.nets.architecture import Style, UNet

DDPMPP = Style(
    group_channels=4,
    qkv="interleaved",
    skip_scale=0.5**0.5,
    resample="block",
    qkv_gain=0.2**0.5,
)
GUIDED = Style(eps=1e-5, qkv="by head", resample="conv", project_resampled=False, init="kaiming", output_gain=0.0)
DDPM = Style()

_FIXED: dict[str, Any] = {
    "model_type": "SongUNet",
    "embedding_type": "positional",
    "encoder_type": "standard",
    "decoder_type": "standard",
    "channel_mult_noise": 1,
    "resample_filter": [1, 1],
}


def ddpmpp(
    *,
    img_resolution: int,
    img_channels: int,
    label_dim: int = 0,
    augment_dim: int = 0,
    model_channels: int = 128,
    channel_mult: Sequence[int] = (1, 2, 2, 2),
    channel_mult_emb: int = 4,
    num_blocks: int = 4,
    attn_resolutions: Sequence[int] = (16,),
    dropout: float = 0.1,
    group_channels: int | None = None,
    **architecture: Any,
) -> UNet:
    """Return DDPM++ as EDM builds it (Song et al. 2021; Karras et al. 2022).

    Args:
        img_resolution: height and width of the images.
        img_channels: of the images.
        label_dim: classes, 0 for an unconditional network.
        augment_dim: numbers that describe an augmentation.
        model_channels: that the multipliers multiply.
        channel_mult: multiplier of each level.
        channel_mult_emb: multiplier of the embedding's width.
        num_blocks: residual blocks of a level.
        attn_resolutions: heights of the levels that attend.
        dropout: probability of dropping a unit.
        group_channels: the fewest channels of a normalisation's group; None is the original's.
        architecture: what tells DDPM++ from EDM's other networks; only DDPM++'s values are taken.

    Raises:
        ValueError: ``architecture`` is not that of DDPM++.
    """
    for name, value in architecture.items():
        if name not in _FIXED or value != _FIXED[name]:
            raise ValueError(f"{name}={value!r} is not a setting of DDPM++")
    return UNet(
        image_channels=img_channels,
        out_channels=img_channels,
        channels=model_channels,
        multipliers=tuple(channel_mult),
        blocks=num_blocks,
        attention=tuple(level for level in range(len(channel_mult)) if img_resolution >> level in attn_resolutions),
        last_attends=True,
        embedding=channel_mult_emb * model_channels,
        frequencies="power",
        labels=label_dim,
        augment=augment_dim,
        style=_with(DDPMPP, group_channels, dropout=dropout),
    )


def guided(
    *,
    dim: Sequence[int],
    num_channels: int,
    num_res_blocks: int,
    channel_mult: Sequence[int] = (1, 2, 2, 2),
    attention_resolutions: str = "16",
    num_heads: int = 1,
    num_head_channels: int = -1,
    use_scale_shift_norm: bool = False,
    dropout: float = 0.0,
    resblock_updown: bool = False,
    use_new_attention_order: bool = False,
    group_channels: int | None = None,
) -> UNet:
    """Return guided diffusion's U-Net as torchcfm's ``UNetModelWrapper`` builds it (Dhariwal & Nichol 2021).

    Args:
        dim: (C, H, W) of the images.
        num_channels: that the multipliers multiply.
        num_res_blocks: residual blocks of a level.
        channel_mult: multiplier of each level; the default is torchcfm's for 32×32 images.
        attention_resolutions: heights of the levels that attend, separated by commas; "" for none.
        num_heads: of attention.
        num_head_channels: channels of a head; −1 leaves it to ``num_heads``.
        use_scale_shift_norm: whether the embedding scales and shifts after the norm.
        dropout: probability of dropping a unit.
        resblock_updown: whether residual blocks change the resolution.
        use_new_attention_order: whether queries, keys and values are cut before the heads.
        group_channels: the fewest channels of a normalisation's group; None is the original's.
    """
    factors = {dim[2] // int(height) for height in attention_resolutions.split(",") if height}
    style = _with(
        GUIDED,
        group_channels,
        adaptive_scale=use_scale_shift_norm,
        heads=num_heads,
        head_channels=None if num_head_channels == -1 else num_head_channels,
        qkv="blocks" if use_new_attention_order else GUIDED.qkv,
        resample="block" if resblock_updown else GUIDED.resample,
        dropout=dropout,
    )
    return UNet(
        image_channels=dim[0],
        out_channels=dim[0],
        channels=num_channels,
        multipliers=tuple(channel_mult),
        blocks=num_res_blocks,
        attention=tuple(level for level in range(len(channel_mult)) if 2**level in factors),
        embedding=4 * num_channels,
        frequencies="cosines",
        wide_stem=True,
        style=style,
    )


def ddpm(
    *,
    in_channels: int,
    hid_channels: int,
    out_channels: int,
    ch_multipliers: Sequence[int],
    num_res_blocks: int,
    apply_attn: Sequence[bool] | bool,
    time_embedding_dim: int | None = None,
    drop_rate: float = 0.0,
    group_channels: int | None = None,
) -> UNet:
    """Return DDPM's U-Net as ddpm-torch builds it (Ho et al. 2020, App. B).

    Args:
        in_channels: of the images.
        hid_channels: that the multipliers multiply.
        out_channels: of the output.
        ch_multipliers: of each level.
        num_res_blocks: residual blocks of a level.
        apply_attn: whether each level attends, or all do.
        time_embedding_dim: width of the embedding; by default 4 times ``hid_channels``.
        drop_rate: probability of dropping a unit.
        group_channels: the fewest channels of a normalisation's group; None is the original's.
    """
    levels = range(len(ch_multipliers))
    attends = [apply_attn] * len(levels) if isinstance(apply_attn, bool) else apply_attn
    return UNet(
        image_channels=in_channels,
        out_channels=out_channels,
        channels=hid_channels,
        multipliers=tuple(ch_multipliers),
        blocks=num_res_blocks,
        attention=tuple(level for level, attend in zip(levels, attends, strict=True) if attend),
        embedding=time_embedding_dim or 4 * hid_channels,
        frequencies="exponential",
        style=_with(DDPM, group_channels, dropout=drop_rate),
    )


def _with(style: Style, group_channels: int | None, **changes: Any) -> Style:
    """Return a style with some settings changed, and checked as all are."""
    if group_channels is not None:
        changes["group_channels"] = group_channels
    return Style(**(style.model_dump() | changes))
