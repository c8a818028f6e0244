"""Addresses of shards behave as the paths that readers of shards know, and cost nothing before they are used."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from mmssl.data.storage import RemoteSettings, Url
from mmssl.data.storage.cache_folder import cache_folder
from mmssl.errors import UserError


def test_an_address_has_the_parts_of_a_path():
    url = Url("https://user:word@host:8443/films/train%20one-000000.tar?sig=abc")
    assert (url.name, url.stem, url.suffix, url.scheme) == (
        "train one-000000.tar",
        "train one-000000",
        ".tar",
        "https",
    )
    assert url.with_suffix(".idx").address == "https://user:word@host:8443/films/train%20one-000000.idx?sig=abc"
    assert url.with_name("_info.json").address == "https://user:word@host:8443/films/_info.json?sig=abc"
    assert url.parent.address == "https://user:word@host:8443/films?sig=abc"
    assert str(url) == "https://host:8443/films/train%20one-000000.tar"
    assert Url("s3://bucket/a%20b.tar").name == "a%20b.tar"


def test_addresses_are_equal_by_what_they_name_and_travel_with_their_settings():
    about = RemoteSettings(timeout=3.0, cache=Path("somewhere"), options={"anon": True})
    one, two = Url("s3://bucket/a.tar", about), Url("s3://bucket/a.tar")
    assert one == two
    assert len({one, two}) == 1
    assert one < Url("s3://bucket/b.tar")
    again = pickle.loads(pickle.dumps(one))
    assert (again, again.settings) == (one, about)
    with pytest.raises(AttributeError):
        one.address = "s3://bucket/b.tar"


@pytest.mark.parametrize(
    ("name", "value"), [("timeout", 0), ("tries", 0), ("budget_seconds", -1.0), ("cache_bytes", 0)]
)
def test_settings_without_sense_are_named(name, value):
    with pytest.raises(UserError, match=rf"remote\.{name} must be positive, got {value}"):
        RemoteSettings(**{name: value})


def test_the_cache_folder_is_what_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("MMSSL_CACHE", raising=False)
    assert cache_folder() == tmp_path / "xdg" / "mmssl"
    monkeypatch.setenv("MMSSL_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("MMSSL_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "mmssl"


def test_nothing_of_the_network_is_imported_before_it_is_used():
    code = "import json, sys, mmssl.data.storage, mmssl.data.worker; print(json.dumps(sorted(sys.modules)))"
    modules = set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))
    assert not modules & {"torch", "fsspec", "aiohttp", "s3fs", "botocore", "asyncio", "http.client", "ssl"}
