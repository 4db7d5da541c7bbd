"""Features by the networks of the package torch-fidelity."""

from __future__ import annotations

from typing import Any, Literal

from selfloop.core.errors import DataError, to_install
from selfloop.features.base import FEATURES, Call, Network


@FEATURES.register
class TorchFidelity(Network):
    """A network of the package torch-fidelity, which fetches its own weights (extra ``images``).

    Attributes:
        network: "inception-v3-compat" (2048 features, the FID's) or "dinov2-vit-b-14" (768 features).
        device: where it runs.
    """

    name: Literal["torch_fidelity"] = "torch_fidelity"
    network: Literal["inception-v3-compat", "dinov2-vit-b-14"] = "inception-v3-compat"

    def key(self) -> str:
        """Return the network's name and the package's version."""
        return f"torch_fidelity {_fidelity().__version__} {self.network}"

    def _load(self) -> Call:
        package = _fidelity()
        layer = "2048" if self.network.startswith("inception") else "dinov2"
        extractor = package.registry.FEATURE_EXTRACTORS_REGISTRY[self.network]
        try:
            module = extractor(self.network, [layer]).to(self.device).eval()
        except OSError as error:  # URLError among them
            raise DataError(
                f"features torch_fidelity: the weights of {self.network} cannot be fetched: {error}"
            ) from error
        return lambda x: module(x.expand(-1, 3, -1, -1))[0]


def _fidelity() -> Any:
    try:
        import torch_fidelity
        import torch_fidelity.registry
    except ImportError as error:
        raise DataError(to_install("features torch_fidelity", "torch-fidelity", "images")) from error
    return torch_fidelity
