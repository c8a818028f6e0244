"""What a bare machine may lack: such tests skip and are listed at the end, or fail where MMSSL_REQUIRE names them."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from types import ModuleType

import pytest

NOT_SEEN = " not seen here: "  # between the name and the reason of such a skip


def require(name: str, seen: bool, why: str) -> None:
    """Skip (and list) the calling test when `name` is not seen here; fail if MMSSL_REQUIRE asks for it."""
    if seen:
        return
    if name in os.environ.get("MMSSL_REQUIRE", "").split(","):
        pytest.fail(f"MMSSL_REQUIRE names {name}, which is not here: {why}")
    pytest.skip(f"{name}{NOT_SEEN}{why}")


def chromium() -> str:
    """Path of a headless Chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    require("chromium", False, "install Chromium (Debian package chromium) to open the pages in a real browser")
    raise AssertionError


def real_data() -> Path:
    """Folder of real clips, named by MMSSL_REAL_DATA."""
    folder = os.environ.get("MMSSL_REAL_DATA", "")
    require("real-data", bool(folder) and Path(folder).is_dir(), "set MMSSL_REAL_DATA to the folder of real clips")
    return Path(folder)


def torchcodec() -> ModuleType:
    """The module torchcodec, which needs FFmpeg's shared libraries."""
    try:
        return importlib.import_module("torchcodec")
    except Exception as error:  # it raises RuntimeError where it finds no FFmpeg
        why = "install torchcodec and FFmpeg's shared libraries (Debian package ffmpeg)"
        require("torchcodec", False, f"{why}: {type(error).__name__}")
        raise AssertionError from error


def decord() -> ModuleType:
    """The module decord, which has no wheels for some machines."""
    try:
        return importlib.import_module("decord")
    except Exception as error:
        require("decord", False, f"install decord (wheels for Linux on x86-64 and Windows): {type(error).__name__}")
        raise AssertionError from error


def timm() -> ModuleType:
    """The module timm."""
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        require("timm", False, "install timm to test its models as encoders: pip install timm")
        raise AssertionError from error


def s3() -> type:
    """The class of moto's threaded S3 server; s3fs is needed to read from it."""
    try:
        importlib.import_module("s3fs")
        server: type = importlib.import_module("moto.server").ThreadedMotoServer
    except ImportError as error:
        require("s3", False, f"install s3fs and moto[server] to test object stores: {error}")
        raise AssertionError from error
    return server
