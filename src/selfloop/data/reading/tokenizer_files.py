"""A tokenizer out of a file, or of the folder of a model; nothing in either is executed."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from selfloop.core.errors import ConfigError, DataError, quoted, said, to_install
from selfloop.core.tokens import Subwords

_FILE, _ABOUT = "tokenizer.json", ("tokenizer_config.json", "special_tokens_map.json")
_GGUF = ".gguf"
_LARGEST = 2**27  # bytes


def read_tokenizer_file(path: str) -> Subwords:
    """Read a ``tokenizer.json`` as the library ``tokenizers`` writes it, the one in the folder of a model, or a GGUF's.

    The end-of-text token of a model is what the files beside it call ``eos_token``, or the GGUF file itself does.

    Raises:
        DataError: there is no such file, or it is damaged.
        ConfigError: the library is not installed.
    """
    source, given = f"tokenizer {quoted(path, 300)}", Path(path)
    if not given.exists():
        raise DataError(f"{source} does not exist: set data.tokenizer_path to a {_FILE}, or to the folder of a model")
    file = given / _FILE if given.is_dir() else given
    if not file.is_file():
        inside = next((each.name for each in sorted(given.iterdir()) if each.suffix == _GGUF), None)
        how = "" if inside is None else f": name its {quoted(inside)}, which may hold one"
        raise DataError(f"{source} has no {_FILE}{how}")
    written, end = _of_gguf(file, source) if file.suffix == _GGUF else _of_json(file, source)
    try:
        own = Subwords(written)
        number = own.number(end or "")  # which reads it, whatever its end is
    except ValueError as error:
        raise DataError(f"{source}: {error}") from error
    if end is not None and number is None:
        raise DataError(f"{source} has no token {quoted(end)}, which the files beside it call eos_token")
    return Subwords(own.json, None if end is None else number)


def _of_json(file: Path, source: str) -> tuple[str, str | None]:
    """Return a tokenizer as the library writes it, and its end-of-text token."""
    written = _json(file, source)
    about = [_json(each, source) for name in _ABOUT if (each := file.parent / name).is_file()]
    ends = (_content(each.get("eos_token")) for each in about)
    return json.dumps(written, ensure_ascii=False), next((end for end in ends if end is not None), None)


def _of_gguf(file: Path, source: str) -> tuple[str, str | None]:
    """Return the same of a GGUF file, which transformers turns into such a tokenizer.

    Raises:
        DataError: it holds none.
        ConfigError: the library is not installed.
    """
    try:
        importlib.import_module("gguf")  # which transformers asks for later, in other words
        from transformers import AutoTokenizer
    except ImportError as error:
        lost = error.name if error.name in ("gguf", "transformers") else "transformers"
        raise ConfigError(to_install(source, lost, "lm")) from error
    try:
        own = AutoTokenizer.from_pretrained(
            str(file.parent), gguf_file=file.name, local_files_only=True, trust_remote_code=False
        )
        return own.backend_tokenizer.to_str(), own.eos_token
    except Exception as error:  # whatever transformers stumbles over
        raise DataError(f"{source} holds no tokenizer that can be read: {said(error)}") from error


def _content(token: Any) -> str | None:
    """Return what a token is, which may be given with how it is matched."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _json(file: Path, source: str) -> dict[str, Any]:
    try:
        if file.stat().st_size > _LARGEST:
            raise DataError(f"{source}: {file.name} is of more than {_LARGEST:,} bytes, as no tokenizer is")
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or quoted(error)}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: {file.name} is no JSON") from error
    if not isinstance(found, dict):
        raise DataError(f"{source}: {file.name} is no JSON object")
    return found
