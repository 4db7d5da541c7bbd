"""A pretrained causal language model of Hugging Face's transformers as a generator (extra ``lm``)."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from selfloop.core.config import FilePath, Frozen, matching
from selfloop.core.errors import ConfigError, DataError, listed, quoted, said, to_install
from selfloop.core.samples import State
from selfloop.core.sequences import before, scored
from selfloop.core.streams import Streams
from selfloop.core.tokens import EDGE
from selfloop.data.reading.tokenizer_files import read_tokenizer_file
from selfloop.generators.base import GENERATORS
from selfloop.generators.network import Net
from selfloop.generators.text import TextModel, Writer
from selfloop.learning.optimizer import Adam
from selfloop.learning.training import EMA, fresh, fresh_size


class LoRA(Frozen):
    """Low-rank adaptation (Hu et al. 2022) of all linear layers but the last.

    Attributes:
        rank: of what is added to a layer's matrix.
        alpha: what is added is multiplied by alpha over the rank.
    """

    rank: int = Field(default=8, ge=1, le=10**4)
    alpha: PositiveFloat = 16.0


@dataclass(frozen=True)
class Model:
    """A model as it was read.

    Attributes:
        module: the network.
        trained: the names of the parameters that are trained.
        vocabulary: how many tokens it knows.
        end: the number that its end of text has; 0 and it change places in the data.
        cache: what it calls the keys and values of what it has read, which differs by the library's version.
    """

    module: nn.Module
    trained: tuple[str, ...]
    vocabulary: int
    end: int
    cache: str


@GENERATORS.register
class Transformers(TextModel):
    """Any causal language model in a local folder, retrained whole or by adapters; nothing is fetched or executed.

    The data must have the model's own tokens: ``data.tokenizer_path`` is its folder. What it begins a row with is its
    end-of-text token. Nothing is dropped in training. With ``lora`` the state holds the adapters alone.

    Attributes:
        path: the folder, with ``config.json`` and weights in safetensors, or with a GGUF file.
        gguf_file: the name of the latter, whose weights are turned into float32.
        lora: what is trained instead of all weights.
    """

    name: Literal["transformers"] = "transformers"
    path: FilePath
    gguf_file: Annotated[str, matching(r"[^/\\]+\.gguf", "the name of a file in path, as model.gguf")] | None = None
    lora: LoRA | None = None
    batch_size: PositiveInt = 8
    optimizer: Adam = Adam(learning_rate=5e-5, clip=1.0)
    ema: EMA | None = None

    @property
    def starts_from(self) -> str | None:  # type: ignore[override]
        """The file of weights.

        Raises:
            DataError: the folder holds none that are read.
        """
        self._refuse_folder(Path(self.path), f"model {quoted(self.path, 300)}")
        return str(self._weights)

    @property
    def _weights(self) -> Path:
        names = [self.gguf_file] if self.gguf_file else ["model.safetensors", "model.safetensors.index.json"]
        found = [Path(self.path) / name for name in names]
        return next((each for each in found if each.is_file()), found[0])

    @functools.cached_property
    def _model(self) -> Model:
        """The model, read once.

        Raises:
            ConfigError: a library is not installed.
            DataError: the folder holds no model that can be read.
        """
        library, folder, source = _library("transformers"), Path(self.path), f"model {quoted(self.path, 300)}"
        self._refuse_folder(folder, source)
        library.utils.logging.disable_progress_bar()
        more = {"gguf_file": self.gguf_file} if self.gguf_file else {"use_safetensors": True}
        with torch.random.fork_rng(), _quiet(library):
            try:
                module, loaded = library.AutoModelForCausalLM.from_pretrained(
                    str(folder),
                    local_files_only=True,
                    trust_remote_code=False,
                    dtype=torch.float32,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # they are refused below, by name
                    **more,
                )
            except Exception as error:  # whatever transformers stumbles over
                raise DataError(f"{source} cannot be read: {said(error)}") from error
            if others := sorted(loaded["mismatched_keys"]):
                (name, there, wanted), also = others[0], f"; {len(others) - 1} more differ" if others[1:] else ""
                raise DataError(
                    f"{source}: {self._weights.name} has {quoted(name)} of shape {tuple(there)}, and config.json is of "
                    f"a model where it is {tuple(wanted)}{also}"
                )
            if lacking := sorted(loaded["missing_keys"]):  # which would begin with random numbers
                raise DataError(f"{source} lacks the weights {listed(lacking)}")
            if strange := sorted(loaded["unexpected_keys"]):
                raise DataError(f"{source}: config.json is of a model without the weights {listed(strange)}")
            wrong = (name for name, leaf in module.named_parameters() if not torch.isfinite(leaf).all())
            if (name := next(wrong, None)) is not None:
                raise DataError(f"{source} has weights that are not finite, {quoted(name)} the first")
            cache = "cache" if "cache" in inspect.signature(module.forward).parameters else "past_key_values"
            vocabulary, end = int(module.config.get_text_config().vocab_size), module.config.eos_token_id
            if self.lora is not None:
                peft = _library("peft")
                settings = peft.LoraConfig(
                    r=self.lora.rank, lora_alpha=self.lora.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
                )
                module = peft.get_peft_model(module, settings)
        module.eval()
        if (folder / "tokenizer.json").is_file():
            own = read_tokenizer_file(str(folder))
            vocabulary, end = own.size, getattr(own, "end", None)
        end = end[0] if isinstance(end, list) else end
        if end is None:
            raise DataError(f"{source} has no end-of-text token (eos_token), with which rows begin and end")
        trained = tuple(name for name, leaf in module.named_parameters() if self.lora is None or leaf.requires_grad)
        return Model(module, trained, vocabulary, int(end), cache)

    def _refuse_folder(self, folder: Path, source: str) -> None:
        """Refuse a folder of which something would have to be executed, or in which there are no weights.

        Raises:
            DataError: so it is.
        """
        if not folder.is_dir():
            raise DataError(f"{source} does not exist: name the folder of a causal language model")
        weights = self._weights
        if not weights.is_file():
            pickles = sorted(each.name for each in folder.iterdir() if each.suffix in (".bin", ".pt", ".pth", ".ckpt"))
            if pickles and self.gguf_file is None:
                raise DataError(
                    f"{source} has {quoted(pickles[0])} alone, a pickle, of which none is read: save it anew"
                )
            raise DataError(f"{source} has no {weights.name}")
        if weights.suffix == ".json":
            _refuse_index(weights, source)
        config = folder / "config.json"
        try:
            written = json.loads(config.read_text()) if config.is_file() else {}
        except (OSError, ValueError) as error:
            raise DataError(f"{source}: its config.json cannot be read: {quoted(error)}") from error
        if not isinstance(written, dict) or "auto_map" in written:
            raise DataError(f"{source} brings code of its own (auto_map in config.json), which is never executed")
        if self.gguf_file is None and not written:
            raise DataError(f"{source} has no config.json")

    def architecture(self, event: Sequence[int]) -> Model:
        """Return the model, if rows are of its tokens.

        Raises:
            ConfigError: the data have another vocabulary, or longer rows than it takes.
        """
        model, (length, v) = self._model, event
        if v != model.vocabulary:
            advice = "set data.tokenizer_path to the model's own tokenizer"
            raise ConfigError(
                f"generator transformers: the model has {model.vocabulary} tokens, the data {v}: {advice}"
            )
        most = getattr(model.module.config, "max_position_embeddings", None)
        if most is not None and length > most:
            raise ConfigError(f"generator transformers: the model takes {most} tokens: lower data.block from {length}")
        return model

    def network(self, params: State, event: Sequence[int], dropout: torch.Generator | None = None) -> Net:
        """Return one arm's network, and what is not trained of it on the same device."""
        net = super().network(params, event, dropout)
        net.architecture.module.to(net.device)
        return net

    @property
    def evaluate(self) -> Callable[..., Tensor]:
        """The network, as what maps rows to their log probabilities."""
        return _log_prob

    def state_size(self, event: Sequence[int]) -> int:
        """Return the bytes of what is trained and of what Adam keeps of it."""
        params = dict(self.architecture(event).module.named_parameters())
        return fresh_size(sum(params[name].numel() for name in self._model.trained), self.ema is not None)

    def shared_size(self, event: Sequence[int]) -> int:
        """Return the bytes of the model as it was read, which is kept beside the states."""
        module = self.architecture(event).module
        return sum(leaf.numel() * leaf.element_size() for leaf in (*module.parameters(), *module.buffers()))

    def untrained(self, event: Sequence[int], streams: Streams) -> State:
        """Return the pretrained weights, or adapters that add nothing yet (Hu et al. 2022, Section 4.1)."""
        model, params, r = self.architecture(event), {}, len(streams.seeds)
        leaves = dict(model.module.named_parameters())
        for name in model.trained:
            leaf = leaves[name].detach().cpu()
            if self.lora is None:
                params[name] = leaf.float().expand(r, *leaf.shape).clone()
            elif "lora_A" in name:
                params[name] = (2 * streams.uniform(f"init/{name}", leaf.shape) - 1) / math.sqrt(leaf.shape[1])
            else:
                params[name] = torch.zeros(r, *leaf.shape)
        return fresh(params, ema=self.ema is not None)

    def write(self, net: Net, rows: int) -> tuple[Writer, Callable[[Tensor], None]]:
        """Return the network beside the keys and values of what it has read."""
        one, cache = replace(net, evaluate=_following), _library("transformers").DynamicCache()
        keep: Callable[[Tensor], None] = lambda on: cache.batch_select_indices(torch.nonzero(on).squeeze(1))  # noqa: E731
        return lambda tokens: one(tokens.unsqueeze(0), cache=cache)[0], keep


def _refuse_index(index: Path, source: str) -> None:
    """Refuse an index of weights that names anything but files of safetensors beside it.

    Raises:
        DataError: so it is.
    """
    try:
        named = set(json.loads(index.read_text())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{source}: {index.name} cannot be read: {quoted(error)}") from error
    for name in sorted(map(str, named)):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise DataError(f"{source}: {index.name} names {quoted(name)}, which is no safetensors file of the folder")


@contextlib.contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Keep what transformers says while it reads off the terminal: its report, and bars that cannot be turned off."""
    loudness = library.logging.get_verbosity()
    library.logging.set_verbosity_error()
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        library.logging.set_verbosity(loudness)


def _library(name: Literal["transformers", "peft"]) -> Any:
    """Return a library.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        if name == "peft":
            import peft

            return peft
        import transformers
    except ImportError as error:
        raise ConfigError(to_install("generator transformers", name, "lm")) from error
    return transformers


def _own(model: Model, x: Tensor) -> Tensor:
    """Return tokens by the model's own numbers, or those by ours."""
    return torch.where(x == EDGE, model.end, torch.where(x == model.end, EDGE, x))


def _called(params: State, model: Model, x: Tensor, **told: Any) -> Tensor:
    """Return the model's logits (B, T, V) after tokens x (B, T) of ours, by its own numbers."""
    one = {name: leaf.squeeze(0) for name, leaf in params.items()}
    logits: Tensor = torch.func.functional_call(model.module, one, (_own(model, x),), told).logits
    return logits[..., : model.vocabulary]  # matrices may have rows of tokens that there are not


def _log_prob(params: State, model: Model, x: Tensor, dropout: object = None) -> Tensor:
    """Return the log probabilities of rows x (1, B, L) in nats, (1, B)."""
    used = scored(x[0])
    rows = x[0, :, : int(used.sum(1).max())].long()
    used = used[:, : rows.shape[1]]
    logits = _called(params, model, before(rows), use_cache=False)[used]
    each = -F.cross_entropy(logits.float(), _own(model, rows[used]), reduction="none")
    return torch.zeros(used.shape, device=x.device).masked_scatter(used, each).sum(1).unsqueeze(0)


def _following(params: State, model: Model, x: Tensor, cache: Any, dropout: object = None) -> Tensor:
    """Return the logits (1, B, V) of the token after the next ones x (1, B, T) of rows in a cache, by our numbers."""
    told = {model.cache: cache, "use_cache": True, "logits_to_keep": 1}
    logits = _called(params, model, x[0], **told)[:, -1]
    return logits[:, _own(model, torch.arange(model.vocabulary, device=x.device))].unsqueeze(0)
