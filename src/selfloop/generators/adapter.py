"""A user's model as the loop sees it: its tensors, what it is handed and told, and what it must give back.

An event is a vector (d,) or an image uint8 (C, H, W). A model with ``state_dict`` and ``load_state_dict`` has a state,
and is handed vectors as float32 tensors on its device; all others, NumPy's float64. Images are uint8 tensors to both.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from selfloop.core.errors import FOREIGN, ConfigError, SelfloopError, kind_in_words, quoted, said
from selfloop.core.samples import State
from selfloop.generators.factories import one_line, signature
from selfloop.learning.training import BUFFERS

FAILURES = (ValueError, ArithmeticError, RuntimeError)
"""What a model raises that cannot be fitted or sampled: an error of the settings on real data, divergence later."""

MODEL = "model."  # before the names of a model's own tensors, which else might be those of our notes


METHODS = {"fit": "X", "sample": "n"}
"""What a model must have, and what is given to each."""

WEIGHT = "sample_weight"
"""The argument by which a ``fit`` learns what each row counts, as scikit-learn calls it."""

CATEGORIES = "categories"
"""The argument by which a ``fit`` learns which coordinates are the levels of a category."""


def of_the_machine(error: BaseException) -> bool:
    """Whether a failure says nothing about the model: memory that ran out, code that is not there."""
    kinds = (torch.OutOfMemoryError, NotImplementedError, RecursionError)
    return isinstance(error, kinds) or "allocate memory" in str(error) or "CUDA error" in str(error)


def lacks(method: str) -> str:
    """Return what is said of a model without one of its methods, after its name."""
    return f"has no method {method}: a model needs fit(X) and sample(n)"


@dataclass(frozen=True)
class Adapter:
    """One model of the user's.

    Attributes:
        name: by which messages call it.
        model: the object.
    """

    name: str
    model: Any

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        """Say in one line what the model's own code raises that is no failure to fit or sample, but a fault of it.

        Raises:
            ConfigError: with its error.
        """
        try:
            yield
        except (*FAILURES, SelfloopError):
            raise
        except FOREIGN as error:
            raise self.refusal(f"{what} failed with {said(error)}") from error

    def refusal(self, why: str) -> ConfigError:
        """Return the error that says, in one line, what a model does wrong."""
        return ConfigError(f"generator.estimator {self.name}: {why}")

    @property
    def stateful(self) -> bool:
        """Whether the model's tensors can be read and put back."""
        return all(callable(getattr(self.model, method, None)) for method in ("state_dict", "load_state_dict"))

    @property
    def density(self) -> Callable[..., Any] | None:
        """What maps points to their log density, where there is one."""
        found = (getattr(self.model, method, None) for method in ("log_prob", "score_samples"))
        return next(filter(callable, found), None)

    def offers(self) -> tuple[str, ...]:
        """Return what metrics may ask of the model: "density", "parameters".

        Raises:
            ConfigError: it has no ``fit(X)`` or no ``sample(n)``, or a state that is not made of tensors.
        """
        for method, given in METHODS.items():
            call = getattr(self.model, method, None)
            if not callable(call):
                raise self.refusal(f"{type(self.model).__qualname__} {lacks(method)}")
            self._refuse_more_arguments(method, given, call)
        # A model that makes its layers when it is fitted has no tensors yet.
        counted = self.stateful and (not (leaves := self.leaves()) or any(k.startswith(MODEL) for k in leaves))
        return ("density",) * (self.density is not None) + ("parameters",) * counted

    def _refuse_more_arguments(self, method: str, given: str, call: Callable[..., Any]) -> None:
        try:
            found = inspect.signature(call)
        except (ValueError, TypeError):
            return  # some written in C do not say
        try:
            found.bind(None, **self._told(call, 0))
        except TypeError as error:
            raise self.refusal(f"{method} must be callable as {method}({given}): {one_line(error)}") from error

    @property
    def device(self) -> torch.device:
        """Of the model's attribute ``device``, else of its first tensor."""
        named = getattr(self.model, "device", None)
        if isinstance(named, str | torch.device):
            return torch.device(named)
        tensors = self._tensors().values() if self.stateful else ()
        return next((tensor.device for tensor in tensors), torch.device("cpu"))

    def _tensors(self) -> dict[str, Tensor]:
        """Return the model's own tensors, by their names in order.

        Raises:
            ConfigError: ``state_dict()`` is not a flat dict of dense tensors.
        """
        with self._guarded("state_dict()"):
            found = self.model.state_dict()
        if not isinstance(found, Mapping):
            raise self.refusal(f"state_dict() must return a dict of tensors, not {type(found).__name__}")
        for key, value in found.items():
            if not isinstance(key, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
                what = value.layout if isinstance(value, Tensor) else type(value).__name__
                raise self.refusal(
                    f"state_dict() has {quoted(what)} under {quoted(key)}: it must be a flat dict of names and dense "
                    "tensors"
                )
        return dict(sorted(found.items()))

    def leaves(self) -> State:
        """Return copies of the model's tensors on the CPU, leading with R = 1; none of those not yet made.

        Numbers that are fitted begin with "model.", all others, a Module's buffers and integers, with "buffers.".
        """
        tensors = {key: tensor for key, tensor in self._tensors().items() if not is_lazy(tensor)}
        fitted = dict(self.model.named_parameters()) if isinstance(self.model, nn.Module) else tensors
        leaves = {}
        for key, tensor in tensors.items():
            prefix = MODEL if key in fitted and tensor.is_floating_point() else f"{BUFFERS}{MODEL}"
            leaves[f"{prefix}{key}"] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format).unsqueeze(0)
        return leaves

    def load(self, state: State) -> None:
        """Put copies of one arm's tensors, R = 1, into the model, where there are any.

        Raises:
            ConfigError: the model does not take them.
        """
        given = {k.removeprefix(BUFFERS): leaf for k, leaf in state.items()}
        given = {k.removeprefix(MODEL): leaf for k, leaf in sorted(given.items()) if k.startswith(MODEL)}
        if not given:
            return
        fresh, device = self._tensors(), self.device
        tensors: dict[str, Tensor] = {key: tensor for key, tensor in fresh.items() if is_lazy(tensor)}
        for key, leaf in given.items():
            tensors[key] = leaf[0].to(device, copy=True)
            if key in fresh and fresh[key].requires_grad:  # of an object that keeps what it is given
                tensors[key].requires_grad_()
        try:
            self.model.load_state_dict(tensors)
        except Exception as error:  # what an object's own method raises is open
            raise self.refusal(
                f"load_state_dict does not take what state_dict gave ({one_line(error)}): a model that was just made "
                "must have, or make, tensors of the same names and shapes"
            ) from error

    def _told(self, call: Callable[..., Any], seed: int) -> dict[str, Any]:
        """Return what a method takes of what tells it what to draw."""
        known = [name for name, p in signature(call).items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        told: dict[str, Any] = {name: seed for name in ("seed", "random_state") if name in known}
        if "generator" in known:
            told["generator"] = torch.Generator(self.device).manual_seed(seed)
        return told

    def _draw_by(self, seed: int) -> None:
        if hasattr(self.model, "random_state"):
            self.model.random_state = seed

    def _handed(self, x: Tensor) -> Any:
        """Return a copy of rows (N, *event) as the model takes them."""
        if x.dtype == torch.uint8:
            return x.to(self.device, copy=True)
        if self.stateful:
            return x.to(self.device, torch.float32, copy=True)
        return x.to(torch.float64).numpy().copy()

    def fit(self, x: Tensor, seed: int, weight: Tensor | None = None, categories: tuple[range, ...] = ()) -> None:
        """Fit the model to rows (N, *event), which count ``weight`` (N,) where it takes such.

        Of vectors it is told the coordinates of each category, as :class:`Samples` has them, if it takes these.
        """
        with self._guarded("fit"), torch.inference_mode(False), torch.enable_grad():
            self._draw_by(seed)
            told = self._told(self.model.fit, seed)
            if weight is not None:
                told[WEIGHT] = self._handed(weight)
            if CATEGORIES in signature(self.model.fit):
                told[CATEGORIES] = categories
            self.model.fit(self._handed(x), **told)

    @torch.no_grad()
    def sample(self, n: int, event: Sequence[int], seed: int) -> Tensor:
        """Draw (n, *event) samples, float64 or uint8 on the CPU.

        Raises:
            ConfigError: they are no array of numbers, of another shape, or no uint8 where they are images.
        """
        with self._guarded("sample"):
            self._draw_by(seed)
            self._evaluate()
            found = self.model.sample(n, **self._told(self.model.sample, seed))
        rows = self._array(found[0] if isinstance(found, tuple) and found else found, "sample")
        if tuple(rows.shape) != (n, *event):
            raise self.refusal(f"sample({n}) returned shape {tuple(rows.shape)}, and not {(n, *event)}")
        if len(event) == 1:
            return rows.to(torch.float64)
        if rows.dtype != torch.uint8:
            kind = str(rows.dtype).removeprefix("torch.")
            raise self.refusal(f"sample returned images of {kind}: they must be uint8, levels 0 to 255")
        return rows

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log density of rows (N, *event), (N,) float64 on the CPU.

        Raises:
            ConfigError: the model has none, or it returned something else.
        """
        if self.density is None:
            raise self.refusal("it has no log_prob and no score_samples, and so no likelihood")
        self._evaluate()
        values = self._array(self.density(self._handed(x)), "its log density")
        if tuple(values.shape) != (len(x),):
            raise self.refusal(f"its log density has shape {tuple(values.shape)}, and not {(len(x),)}")
        return values.to(torch.float64)

    def _evaluate(self) -> None:
        if isinstance(self.model, nn.Module):
            self.model.eval()

    def _array(self, found: Any, what: str) -> Tensor:
        """Return what a model gave as a tensor of real numbers on the CPU.

        Raises:
            ConfigError: it is something else.
        """
        if isinstance(found, Tensor):
            tensor = found.detach().cpu()
        else:
            try:
                array = np.asarray(found)
            except ValueError as error:
                raise self.refusal(f"{what} returned a {type(found).__name__} that is no array") from error
            if array.dtype.kind not in "biuf":
                words = kind_in_words(array.dtype)
                kind = words if isinstance(found, np.ndarray) else f"{type(found).__name__} of {words}"
                kind = "nothing (None)" if found is None else kind
                raise self.refusal(f"{what} returned {kind}: it must be an array or a tensor of real numbers")
            # Of NumPy's many number types torch knows these for certain.
            kept = array.dtype if array.dtype == np.uint8 else np.float64 if array.dtype.kind == "f" else np.int64
            tensor = torch.from_numpy(np.array(array, dtype=kept))
        if tensor.is_complex() or tensor.layout != torch.strided:
            raise self.refusal(
                f"{what} returned a tensor of {tensor.dtype}, {tensor.layout}: it must be dense and real"
            )
        return tensor
