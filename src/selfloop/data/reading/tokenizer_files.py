"""A tokenizer out of a file, or of the folder of a model; nothing in either is executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from selfloop.core.errors import DataError, quoted
from selfloop.core.tokens import Subwords

_FILE, _ABOUT = "tokenizer.json", ("tokenizer_config.json", "special_tokens_map.json")
_LARGEST = 2**27  # bytes


def read_tokenizer_file(path: str) -> Subwords:
    """Read a ``tokenizer.json`` as the library ``tokenizers`` writes it, or the one in the folder of a model.

    The end-of-text token of a model is what the files beside it call ``eos_token``.

    Raises:
        DataError: there is no such file, or it is damaged.
        ConfigError: the library is not installed.
    """
    source, given = f"tokenizer {quoted(path, 300)}", Path(path)
    if not given.exists():
        raise DataError(f"{source} does not exist: set data.tokenizer_path to a {_FILE}, or to the folder of a model")
    file = given / _FILE if given.is_dir() else given
    if not file.is_file():
        raise DataError(f"{source} has no {_FILE}")
    written = _json(file, source)
    about = [_json(each, source) for name in _ABOUT if (each := file.parent / name).is_file()]
    ends = [end for each in about if (end := _content(each.get("eos_token"))) is not None]
    try:
        own = Subwords(json.dumps(written, ensure_ascii=False))
        number = own.number(ends[0]) if ends else None
    except ValueError as error:
        raise DataError(f"{source}: {error}") from error
    if ends and number is None:
        raise DataError(f"{source} has no token {quoted(ends[0])}, which the files beside it call eos_token")
    return Subwords(own.json, number)


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
