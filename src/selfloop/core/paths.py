"""Paths as users write them, and what of the user's cache directory stands for what lies elsewhere."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path, PurePath
from urllib.parse import unquote

from platformdirs import user_cache_path

from selfloop.core.errors import ELSEWHERE, ConfigError, is_text, quoted

_URL = re.compile(r"[A-Za-z][\w+.-]+(::[A-Za-z][\w+.-]*)*://")
_SECRET = re.compile(r"://[^/@]*:[^/@]*@")  # a user's name and password
_CREDENTIAL = re.compile(
    r"signature|credential|secret|passw|token$|access[-_.]?key|api[-_.]?key|^(key|sig|sas|pwd|auth)$",
    re.I,
)  # what a query's parameter is called by which a store knows the user: of S3, Google, Azure, CloudFront, services
_WAS_URL = re.compile(r"[A-Za-z][\w+.-]+:/")  # what pathlib makes of one


def is_path(word: str) -> bool:
    """Whether a word that is the name of nothing was meant for a file: with a folder in it, or an ending."""
    return bool(Path(word).suffix) or any(mark and mark in word for mark in (os.sep, os.altsep))


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the URL of something elsewhere, as ``s3://bucket/run``."""
    return isinstance(path, str) and _URL.match(path) is not None


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with the home directory for a leading ``~``; that of a user who is not known stays as it is.

    Raises:
        ConfigError: there is nothing to go by, as of a variable of the shell that is not set; or it is a URL.
    """
    if path == "":
        raise ConfigError("the name of a file or folder is empty: give one, as . for this folder")
    if is_url(path):
        raise ConfigError(f"{quoted(path, 300)} is a URL: run directories and data may lie elsewhere, this may not")
    if isinstance(path, PurePath) and _WAS_URL.match(path.as_posix()):
        raise ConfigError(f"{quoted(path, 300)} is what pathlib makes of a URL, which it shortens: give it as text")
    return Path(os.path.expanduser(path))


def here(path: str | os.PathLike[str]) -> Path:
    """Return the path of a run directory or of data on this machine.

    For a URL that is the place of the user's cache directory that is kept for it; nothing is looked at or fetched.
    Messages name the URL in place of it from now on.

    Raises:
        ConfigError: as of :func:`expanded`; or the URL holds what nobody else may know.
    """
    if not is_url(path):
        return expanded(path)
    url = str(path).rstrip("/")
    if _SECRET.search(url):
        raise ConfigError(
            f"{quoted(_SECRET.sub('://…@', url), 300)} holds a password, which would be kept with the run: "
            "give it to the store by the environment or ~/.config/fsspec"
        )
    if not is_text(url):
        raise ConfigError(f"{quoted(path, 300)} is no text: half of a surrogate pair is in it")
    address, mark, query = re.match(r"([^?#]*)([?#]?)(.*)", url, re.DOTALL).groups()  # type: ignore[union-attr]
    for name in re.findall(r"(?:^|[?&;#])([^=&;#?]*)=", query):
        if _CREDENTIAL.search(unquote(name)):
            raise ConfigError(
                f"{quoted(f'{address}{mark}…', 300)} holds a credential ({quoted(unquote(name))}), which would be kept "
                "with the run: leave it out, and give keys to the store by the environment or ~/.config/fsspec; or "
                "fetch the file, and give its path"
            )
    if "://" not in url:  # but for the slashes that were taken off
        raise ConfigError(f"{quoted(path, 300)} names no folder and no file: write it as s3://bucket/run")
    first = next(part for part in url.split("::") if "://" in part)  # of a chain, as zip://a.csv::s3://b/c.zip
    name = re.sub(r"[?#].*", "", first.partition("://")[2]).rstrip("/").rpartition("/")[2]
    if name in ("", ".", ".."):  # whatever it names there, here it would be another folder
        name = "root"
    local = cache().absolute() / "remote" / hashlib.sha256(url.encode()).hexdigest()[:16] / name
    ELSEWHERE[str(local)] = url
    return local


def url_of(path: Path) -> str | None:
    """Return the URL that a path of the cache directory was given for by :func:`here`, None of any other path."""
    return ELSEWHERE.get(str(path))


def cache() -> Path:
    """Return where selfloop keeps what it can have again: ``SELFLOOP_CACHE``, or the user's cache directory."""
    given = os.environ.get("SELFLOOP_CACHE")
    return expanded(given) if given else user_cache_path("selfloop")
