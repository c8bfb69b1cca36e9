from __future__ import annotations

from hashlib import sha256

import pytest

from app.domain.access import ApiKey, Keys

HEX = sha256(b"of-b").hexdigest()
KEYS = Keys([ApiKey.read(text) for text in ("a:of-a", f"b:sha256:{HEX}", "a:also:of-a")])


@pytest.mark.parametrize(
    ("key", "tenant"),
    [
        (b"of-a", "a"),
        (b"also:of-a", "a"),
        (b"of-b", "b"),
        (HEX.encode(), None),
        (f"sha256:{HEX}".encode(), None),
        (b"of-", None),
        (b"of-a ", None),
        (b"OF-A", None),
        (b"", None),
        ("öf-a".encode(), None),
        (b"\xff\x00", None),
        (b"x" * 10_000, None),
    ],
)
def test_a_key_leads_to_its_tenant_and_anything_else_to_nobody(
    key: bytes, tenant: str | None
) -> None:
    assert KEYS.tenant_of(key) == tenant


class Watched(ApiKey):
    """A key that counts how often its digest is looked at."""

    looks = 0

    def __getattribute__(self, name: str) -> object:
        if name == "digest":
            Watched.looks += 1
        return super().__getattribute__(name)


class Digest(bytes):
    """Bytes that must not be compared by the operator, which stops at the first difference."""

    __hash__ = bytes.__hash__

    def __eq__(self, other: object) -> bool:
        pytest.fail("this tells how many bytes were right")


def test_every_digest_is_looked_at_in_constant_time_whichever_fits() -> None:
    keys = Keys(Watched(each, Digest(sha256(each.encode()).digest())) for each in "abc")
    for key, tenant in ((b"a", "a"), (b"c", "c"), (b"wrong", None)):
        before = Watched.looks
        assert keys.tenant_of(key) == tenant
        assert Watched.looks == before + 3


def test_a_digest_may_be_written_in_capitals() -> None:
    assert ApiKey.read(f"b:sha256:{HEX.upper()}") == ApiKey.read("b:of-b")


@pytest.mark.parametrize(
    "text",
    [
        *("s3cret", ":s3cret", "a:", "a b:s3cret", "ä:s3cret", f"{'a' * 65}:s3cret", "a:s3cret é"),
        *("a:s3cret\x7f", "a:sha256:s3cret", f"a:sha256:{HEX}0", "a:sha256:"),
        f"a:sha256:{HEX[1:]}g",
        f"a:sha256:{sha256(b'').hexdigest()}",
    ],
)
def test_what_is_no_key_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="should be tenant:key") as caught:
        ApiKey.read(text)
    assert "s3cret" not in str(caught.value)


def test_a_key_does_not_show_itself() -> None:
    assert repr(ApiKey.read("a:s3cret")) == "ApiKey(tenant='a')"


def test_who_is_a_tenant_is_known_and_without_keys_nobody_is() -> None:
    assert "a" in KEYS
    assert "c" not in KEYS
    assert KEYS
    assert not Keys()
