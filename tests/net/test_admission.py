"""Whose signatures are taken, and how much is remembered of them."""

import pytest

from libernet.blocks.errors import FormatError
from libernet.net.exchange import admission
from libernet.net.exchange.admission import SKEW_SECONDS, AcceptanceRules, Admission
from libernet.net.exchange.signing import Signer
from libernet.net.identity import NodeIdentity
from tests.support.exchange import HELLO, HELLO_ID
from tests.support.exchange_server import HOST

NOW = 1_800_000_000
HELLO_PATH = f"/sha256/{HELLO_ID}"
RECIPIENT = NodeIdentity(b"r" * 32).public_key
FRIEND = NodeIdentity(b"f" * 32)
STRANGER = NodeIdentity(b"s" * 32)


def test_memory_of_what_was_signed_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_NONCES", 100)
    now = NOW
    keeps = Admission(AcceptanceRules(any_node=True), RECIPIENT, lambda: now)

    def admit(identity: NodeIdentity) -> admission.Visitor:
        made = Signer(identity, lambda: now).sign("PUT", HELLO_PATH, HELLO, RECIPIENT)
        visitor = admission.Visitor(HOST, str(made))
        keeps.admit(visitor, "PUT", HELLO_PATH)
        return visitor

    friends = admit(FRIEND)
    first = admit(STRANGER)
    for _ in range(250):
        now += 1
        admit(STRANGER)
        assert sum(len(each.nonces) for each in keeps._senders.values()) <= 100
        if now - NOW == 60:
            with pytest.raises(admission.Refused, match="made already"):
                keeps.admit(friends, "PUT", HELLO_PATH)
    with pytest.raises(admission.Refused):
        keeps.admit(first, "PUT", HELLO_PATH)


def test_a_flood_of_new_keys_is_refused_and_shuts_nobody_else_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "MAX_SENDERS", 20)
    monkeypatch.setattr(admission, "MAX_SENDERS_PER_REGION", 10)
    now = NOW
    rules = AcceptanceRules(nodes=frozenset({FRIEND.public_key}), any_node=True)
    keeps = Admission(rules, RECIPIENT, lambda: now)

    def admit(identity: NodeIdentity, address: str = "8.8.0.1") -> None:
        made = Signer(identity, lambda: now).sign("PUT", HELLO_PATH, HELLO, RECIPIENT)
        keeps.admit(admission.Visitor(address, str(made)), "PUT", HELLO_PATH)

    keys = [NodeIdentity(bytes([number]) * 32) for number in range(30)]
    for number, key in enumerate(keys[:10]):
        admit(key, f"8.8.{number}.1")
    for full in range(2):
        with pytest.raises(admission.Refused, match="too many nodes"):
            admit(keys[20])
        admit(FRIEND)
        admit(keys[0])  # puts already
        if full:
            with pytest.raises(admission.Refused, match="too many nodes"):
                admit(STRANGER, "7.7.0.1")
        else:
            for key in keys[10:20]:
                admit(key, "9.9.0.1")
    now += 2 * SKEW_SECONDS + 1
    admit(STRANGER)


@pytest.mark.parametrize(
    ("keys", "networks"),
    [(["everybody"], []), (["AB" * 32], []), ([], ["example.org"]), ([], ["10.0.0.0/33"])],
)
def test_rules_that_make_no_sense_are_refused(keys: list[str], networks: list[str]) -> None:
    with pytest.raises(FormatError, match="accept_"):
        AcceptanceRules.parse(keys, networks)
