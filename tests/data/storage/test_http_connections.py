"""How servers are reached: redirects, proxies, passwords, certificates."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest

from mmssl.data.shards.check import check_shards
from mmssl.data.shards.index import read_index
from mmssl.data.shards.info import describe_shards
from mmssl.data.storage import MissingError, RemoteError, RemoteSettings, Url, http_connections, read_range, status
from tests.corpora import write_corpus
from tests.http_server import Redirect, Server

PATIENT = RemoteSettings(timeout=2.0, tries=2)


@pytest.fixture
def served(tmp_path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a b.tar").write_bytes(b"0123456789")
    return folder


def test_redirects_are_followed_but_not_without_end(served):
    with Server(served) as there, Server(served) as server:
        server.faults = {0: Redirect(f"{there.url}/a%20b.tar?signed=1"), 1: Redirect("/gone.tar")}
        shard = Url(f"{server.url}/a b.tar", PATIENT)
        (served / "a%20b.tar").write_bytes(b"abcdefghij")  # what a server that decodes no path would have
        assert read_range(shard, 2, 3) == b"cde"
        assert there.gets == [("/a%20b.tar?signed=1", "bytes=2-4")]
        with pytest.raises(MissingError):
            read_range(shard, 2, 3)
        server.fault_of = lambda n: Redirect("/a%20b.tar")
        with pytest.raises(RemoteError, match="redirects that lead nowhere"):
            read_range(shard, 2, 3)


def test_the_proxy_of_the_environment_is_asked(served, monkeypatch):
    with Server(served) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with pytest.raises(MissingError):
            status(Url("http://films.invalid/a.tar", PATIENT))
        assert proxy.heads == ["http://films.invalid/a.tar"]
        (served / "c.tar").write_bytes(b"01234")
        assert read_range(Url(f"{proxy.url}/c.tar", PATIENT), 0, 2) == b"01"
        assert proxy.gets == [("/c.tar", "bytes=0-1")], "not through the proxy"


def test_a_password_in_the_address_is_sent_and_never_said(served):
    (served / "c.tar").write_bytes(b"01234")
    with Server(served) as server:
        shard = Url(f"{server.url.replace('://', '://me:se%20cret@')}/c.tar", PATIENT)
        assert read_range(shard, 0, 2) == b"01"
        assert server.authorizations == ["Basic bWU6c2UgY3JldA=="]
        with pytest.raises(MissingError) as caught:
            read_range(shard.with_name("gone.tar"), 0, 2)
        assert "cret" not in str(caught.value)


def test_https_with_a_known_certificate_and_with_another(served, tmp_path, monkeypatch):
    (served / "c.tar").write_bytes(b"01234")
    certificate = write_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with Server(served, tls=tls) as server:
        shard = Url(f"{server.url}/c.tar", PATIENT)
        http_connections._certificates.cache_clear()
        with pytest.raises(RemoteError, match="has no valid certificate"):
            read_range(shard, 0, 2)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        http_connections._certificates.cache_clear()
        assert status(shard)[0] == 5
        assert read_range(shard, 0, 2) == b"01"
        assert read_range(shard, 2, 9) == b"234"
    http_connections._certificates.cache_clear()


def write_certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1 signed by itself, with its key, in one file."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "certificate.pem"
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


def test_remote_shards_are_described_and_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("MMSSL_CACHE", str(tmp_path / "cache"))
    write_corpus(tmp_path / "corpus", [2, 1])
    with Server(tmp_path / "corpus") as server:
        spec = f"{server.url}/train-{{000000..000001}}.tar"
        there, here = describe_shards(spec), describe_shards(str(tmp_path / "corpus"))
        assert (there.clips, there.bytes, there.labels) == (3, here.bytes, here.labels)
        assert check_shards(spec, decode=True).ok
        path = tmp_path / "corpus" / "train-000001.tar"
        path.write_bytes(path.read_bytes()[: read_index(path).samples[0].members["json"][0] + 5])
        (problem,) = check_shards(spec).problems
        assert str(problem.shard) == f"{server.url}/train-000001.tar"
        assert "is cut short within 'clip0002.json'" in problem.message
