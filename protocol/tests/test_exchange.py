"""The exchange as it should go, and every way in which somebody may get between."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
from protocol_world import (
    BOOT_ID,
    CERTIFICATE,
    LAST_CHECK,
    LIFETIME,
    NOW,
    RESULTS,
    TYPES,
    Agent,
    Script,
    Stage,
    World,
    audit_head,
    challenge,
    decisions,
    evidence_body,
    refusal,
    release,
)
from securecloud_protocol import messages as wire
from securecloud_protocol import suite
from securecloud_protocol.agent import Enrolment, Exchange, read_server_identity
from securecloud_protocol.envelope import Envelope, PeerError, decode_request, encode, encode_error
from securecloud_protocol.errors import ErrorCode
from securecloud_protocol.server import ACK_LIFETIME, WAIT_LIFETIME, Responder
from securecloud_protocol.transcript import fingerprint, hello_digest, hello_info

TO_AGENT = ("server", "enrolled", "challenge", "release", "receipt", "kept", "wake")
TO_SERVER = ("enrol", "hello", "evidence", "ack", "wait")


@pytest.fixture(scope="module")
def second(world: World) -> Stage:
    """Another exchange of the same agent with the same server."""
    return Stage.play(world)


@pytest.fixture(scope="module")
def elsewhere() -> World:
    """Another server that knows the same agents."""
    return World("5e7e0000-0000-4000-8000-000000000002", "second server")


# As it should go


def test_both_sides_learn_what_the_other_said(world: World) -> None:
    responder, agent = world.responder, world.exchange()
    hello = responder.open_hello(agent.hello((), BOOT_ID, NOW, 5), world.lookup)
    assert (hello.hello.agent_id, hello.hello.devices) == (world.agent.agent_id, ())
    devices = ("data", "logs")
    facts = (wire.FactRequest("packages", ("bash",)),)
    core = agent.challenge(
        responder.challenge(hello, devices, facts, bytes(32), NOW, LIFETIME), CERTIFICATE
    )
    assert (core.devices, core.facts, core.lifetime) == (devices, facts, LIFETIME)
    opened = responder.open_evidence(agent.evidence(evidence_body()), world.lookup, NOW)
    assert opened.body == evidence_body()
    assert (opened.agent_id, opened.session_id) == (world.agent.agent_id, core.session_id)
    assert (opened.state.seen_audit_size, opened.state.agent_time) == (5, NOW)
    assert opened.transcript == agent.transcript
    body = agent.release(release(world, opened))
    assert (body.decisions, body.check_interval) == (decisions(), 300)
    acknowledged = responder.open_ack(agent.ack(RESULTS), NOW)
    assert acknowledged.ack.results == RESULTS
    assert (acknowledged.agent_id, acknowledged.ack.session_id) == (
        world.agent.agent_id,
        core.session_id,
    )
    agent.receipt(responder.receipt(acknowledged))


@pytest.mark.parametrize("check", [True, False])
def test_who_waits_is_known_by_its_last_exchange_and_told_whether_to_check(
    stage: Stage, check: bool
) -> None:
    waiting = copy.copy(stage.agents["receipt"]).waiting
    opened = stage.world.responder.open_wait(waiting.wait(), NOW)
    assert (opened.agent_id, opened.last_check) == (stage.world.agent.agent_id, LAST_CHECK)
    assert waiting.wake(stage.world.responder.wake(opened, check=check)) is check


def test_the_same_wait_is_good_again_at_any_node(stage: Stage) -> None:
    for _ in range(2):
        Responder(stage.world.keys, ()).open_wait(stage.messages["wait"], NOW)


def test_the_number_of_the_last_check_comes_back_with_the_evidence(stage: Stage) -> None:
    opened = stage.world.responder.open_evidence(
        stage.messages["evidence"], stage.world.lookup, NOW
    )
    assert opened.state.last_check == LAST_CHECK


def test_there_is_nothing_to_wait_with_before_the_release(stage: Stage) -> None:
    for state in ("challenge", "evidence", "release"):
        with pytest.raises(RuntimeError, match="before the release"):
            _ = copy.copy(stage.agents[state]).waiting


def test_enrolment_binds_the_name_to_the_key(world: World) -> None:
    identity = read_server_identity(world.responder.identity_message(), world.responder.fingerprint)
    enrolment = Enrolment(identity, world.agent.key)
    opened = world.responder.open_enrol(enrolment.request("web1", world.token))
    assert opened.secret == world.token.secret
    assert (opened.request.agent_name, opened.request.token_id) == ("web1", "t0k3n")
    assert opened.request.identity_key == world.agent.public
    answer = world.responder.enrolled(opened, world.agent.agent_id)
    assert enrolment.confirm(answer).agent_id == world.agent.agent_id


def test_a_server_may_be_seen_under_an_old_and_a_new_certificate(world: World) -> None:
    rotating = Responder(world.keys, (b"new certificate", CERTIFICATE))
    stage = Stage.play(world)
    opened = rotating.open_evidence(stage.messages["evidence"], world.lookup, NOW)
    assert opened.transcript == stage.agents["receipt"].transcript


def test_any_node_with_the_same_keys_may_answer(stage: Stage) -> None:
    node = Responder(stage.world.keys, (CERTIFICATE,))
    opened = node.open_evidence(stage.messages["evidence"], stage.world.lookup, NOW)
    assert opened.body == evidence_body()
    node.open_ack(stage.messages["ack"], NOW)


# Replay


def test_a_replayed_hello_gets_a_session_of_its_own(stage: Stage) -> None:
    cores = [challenge(stage.world, stage.messages["hello"]) for _ in range(2)]
    assert cores[0] != cores[1]
    waiting = stage.agents["challenge"]
    sessions = {copy.copy(waiting).challenge(each, CERTIFICATE).session_id for each in cores}
    assert len(sessions) == 2


def test_replayed_evidence_has_the_same_session_so_that_a_unique_insert_catches_it(
    stage: Stage,
) -> None:
    opened = [
        stage.world.responder.open_evidence(
            stage.messages["evidence"], stage.world.lookup, NOW + late
        )
        for late in (0, 1)
    ]
    assert opened[0].session_id == opened[1].session_id


def test_fresh_evidence_for_a_used_challenge_has_the_same_session(stage: Stage) -> None:
    again = copy.copy(stage.agents["evidence"]).evidence(
        replace(evidence_body(), facts={"host_name": wire.Fact("web2", "claimed", None)})
    )
    assert again != stage.messages["evidence"]
    opened = stage.world.responder.open_evidence(again, stage.world.lookup, NOW)
    first = stage.world.responder.open_evidence(stage.messages["evidence"], stage.world.lookup, NOW)
    assert opened.session_id == first.session_id


def test_a_replayed_ack_has_the_same_session(stage: Stage) -> None:
    opened = [stage.world.responder.open_ack(stage.messages["ack"], NOW) for _ in range(2)]
    assert opened[0].ack.session_id == opened[1].ack.session_id


def test_a_replayed_enrolment_presents_the_same_token(stage: Stage) -> None:
    opened = [stage.world.responder.open_enrol(stage.messages["enrol"]) for _ in range(2)]
    assert opened[0].request.token_id == opened[1].request.token_id
    assert opened[0].payload == opened[1].payload


@pytest.mark.parametrize("kind", ["challenge", "release", "receipt"])
def test_an_agent_takes_each_reply_once(stage: Stage, kind: str) -> None:
    agent = copy.copy(stage.agents[kind])
    take: Callable[[], object] = {
        "challenge": lambda: agent.challenge(stage.messages["challenge"], CERTIFICATE),
        "release": lambda: agent.release(stage.messages["release"]),
        "receipt": lambda: agent.receipt(stage.messages["receipt"]),
    }[kind]
    take()
    with pytest.raises(RuntimeError, match="out of turn"):
        take()


# Order


def _calls(stage: Stage, agent: Exchange) -> dict[str, Callable[[], object]]:
    return {
        "hello": lambda: agent.hello((), BOOT_ID, NOW),
        "challenge": lambda: agent.challenge(stage.messages["challenge"], CERTIFICATE),
        "evidence": lambda: agent.evidence(evidence_body()),
        "release": lambda: agent.release(stage.messages["release"]),
        "ack": lambda: agent.ack(RESULTS),
        "receipt": lambda: agent.receipt(stage.messages["receipt"]),
    }


@pytest.mark.parametrize(
    "waits_for", ["hello", "challenge", "evidence", "release", "ack", "receipt"]
)
def test_a_call_out_of_turn_raises_and_changes_nothing(stage: Stage, waits_for: str) -> None:
    agent = stage.world.exchange() if waits_for == "hello" else copy.copy(stage.agents[waits_for])
    calls = _calls(stage, agent)
    for name, call in calls.items():
        if name != waits_for:
            with pytest.raises(RuntimeError, match=f"waits for {waits_for}"):
                call()
    calls[waits_for]()


@pytest.mark.parametrize("kind", ["challenge", "release", "receipt"])
def test_a_refused_reply_ends_the_exchange(stage: Stage, kind: str) -> None:
    agent = copy.copy(stage.agents[kind])
    frame = decode_request(stage.messages[kind], kind)
    forged = encode(replace(frame, mac=bytes(32)))
    take: Callable[[bytes], object] = {
        "challenge": lambda data: agent.challenge(data, CERTIFICATE),
        "release": agent.release,
        "receipt": agent.receipt,
    }[kind]
    assert refusal(lambda: take(forged)) is ErrorCode.NOT_AUTHENTICATED
    for call in _calls(stage, agent).values():
        with pytest.raises(RuntimeError, match="over"):
            call()


def test_there_is_no_transcript_before_the_challenge(world: World) -> None:
    with pytest.raises(RuntimeError, match="challenge"):
        _ = world.exchange().transcript


def test_confirm_before_request_raises(world: World) -> None:
    with pytest.raises(RuntimeError, match="before request"):
        Enrolment(world.identity, world.agent.key).confirm(b"")


@pytest.mark.parametrize("endpoint", TYPES)
@pytest.mark.parametrize("kind", TYPES)
def test_each_endpoint_takes_its_own_type_only(stage: Stage, endpoint: str, kind: str) -> None:
    if endpoint == kind:
        stage.deliver(endpoint, stage.messages[kind])
    else:
        verdict = refusal(lambda: stage.deliver(endpoint, stage.messages[kind]))
        assert verdict is ErrorCode.UNEXPECTED_TYPE


@pytest.mark.parametrize("kind", TO_SERVER)
def test_a_stranger_cannot_choose_the_error_of_the_server(stage: Stage, kind: str) -> None:
    frame = encode_error(ErrorCode.INTERNAL)
    assert refusal(lambda: stage.deliver(kind, frame)) is ErrorCode.UNEXPECTED_TYPE


@pytest.mark.parametrize("kind", TO_AGENT)
def test_an_agent_reports_the_error_of_the_server(stage: Stage, kind: str) -> None:
    with pytest.raises(PeerError) as caught:
        stage.deliver(kind, encode_error(ErrorCode.STALE))
    assert caught.value.code is ErrorCode.STALE


# Two sessions, two agents, two servers


@pytest.mark.parametrize("kind", ["challenge", "release", "receipt", "kept", "wake", "enrolled"])
def test_a_reply_of_another_session_is_refused(stage: Stage, second: Stage, kind: str) -> None:
    verdict = refusal(lambda: stage.deliver(kind, second.messages[kind]))
    assert verdict is ErrorCode.NOT_AUTHENTICATED


@pytest.mark.parametrize("part", ["core", "token", "body"])
def test_evidence_with_a_part_of_another_session_is_refused(
    stage: Stage, second: Stage, part: str
) -> None:
    ours: wire.Evidence = wire.decode(wire.EVIDENCE, stage.payload("evidence"))
    theirs: wire.Evidence = wire.decode(wire.EVIDENCE, second.payload("evidence"))
    mixed = replace(ours, **{part: getattr(theirs, part)})
    forged = stage.seal("evidence", wire.encode(wire.EVIDENCE, mixed))
    verdict = refusal(lambda: stage.deliver("evidence", forged))
    assert verdict is ErrorCode.NOT_AUTHENTICATED


@pytest.mark.parametrize("seal", ["mac", "sig"])
@pytest.mark.parametrize("kind", TYPES)
def test_a_seal_of_another_session_is_refused(
    stage: Stage, second: Stage, kind: str, seal: str
) -> None:
    ours = decode_request(stage.messages[kind], kind)
    theirs = decode_request(second.messages[kind], kind)
    mixed = replace(ours, **{seal: getattr(theirs, seal)})
    if getattr(ours, seal) and mixed != ours:
        verdict = refusal(lambda: stage.deliver(kind, encode(mixed)))
        assert verdict is ErrorCode.NOT_AUTHENTICATED


def test_an_ack_with_the_token_of_another_session_is_refused(stage: Stage, second: Stage) -> None:
    ours: wire.Ack = wire.decode(wire.ACK, stage.payload("ack"))
    theirs: wire.Ack = wire.decode(wire.ACK, second.payload("ack"))
    forged = stage.seal("ack", wire.encode(wire.ACK, replace(ours, ack_token=theirs.ack_token)))
    assert refusal(lambda: stage.deliver("ack", forged)) is ErrorCode.NOT_AUTHENTICATED


def test_an_ack_that_names_another_session_is_refused(stage: Stage) -> None:
    ours: wire.Ack = wire.decode(wire.ACK, stage.payload("ack"))
    forged = stage.seal("ack", wire.encode(wire.ACK, replace(ours, session_id=bytes(16))))
    assert refusal(lambda: stage.deliver("ack", forged)) is ErrorCode.NOT_AUTHENTICATED


def test_one_token_does_not_pass_for_the_other(stage: Stage) -> None:
    ack: wire.Ack = wire.decode(wire.ACK, stage.payload("ack"))
    token = wire.decode(wire.EVIDENCE, stage.payload("evidence")).token
    forged = stage.seal("ack", wire.encode(wire.ACK, replace(ack, ack_token=token)))
    assert refusal(lambda: stage.deliver("ack", forged)) is ErrorCode.NOT_AUTHENTICATED


@pytest.mark.parametrize("kind", ["enrol", "hello", "evidence"])
def test_a_message_that_another_agent_signed_is_refused(stage: Stage, kind: str) -> None:
    world = copy.copy(stage.world)
    world.agent = stage.world.other
    forged = replace(stage, world=world).seal(kind, stage.payload(kind))
    assert refusal(lambda: stage.deliver(kind, forged)) is ErrorCode.NOT_AUTHENTICATED


def test_another_agent_cannot_put_its_name_on_a_hello(stage: Stage) -> None:
    other = stage.world.other
    hello: wire.Hello = wire.decode(wire.HELLO, stage.payload("hello"))
    payload = wire.encode(wire.HELLO, replace(hello, agent_id=other.agent_id))
    sig = suite.sign(other.key, "hello signature", payload)
    forged = encode(Envelope("hello", payload, sig=sig))
    assert refusal(lambda: stage.deliver("hello", forged)) is ErrorCode.NOT_AUTHENTICATED


def test_another_agent_cannot_enrol_with_a_token_it_saw(stage: Stage) -> None:
    other = stage.world.other
    enrol: wire.Enrol = wire.decode(wire.ENROL, stage.payload("enrol"))
    payload = wire.encode(wire.ENROL, replace(enrol, identity_key=other.public))
    sig = suite.sign(other.key, "enrol signature", payload)
    forged = encode(Envelope("enrol", payload, sig=sig))
    assert refusal(lambda: stage.deliver("enrol", forged)) is ErrorCode.NOT_AUTHENTICATED


@pytest.mark.parametrize("kind", TO_SERVER)
def test_another_server_refuses_what_was_not_meant_for_it(
    stage: Stage, elsewhere: World, kind: str
) -> None:
    moved = replace(stage, world=elsewhere)
    verdict = refusal(lambda: moved.deliver(kind, stage.messages[kind]))
    assert verdict is ErrorCode.NOT_AUTHENTICATED


def test_another_server_cannot_answer(stage: Stage, elsewhere: World) -> None:
    theirs = Stage.play(elsewhere)
    for kind in TO_AGENT:
        verdict = refusal(lambda kind=kind: stage.deliver(kind, theirs.messages[kind]))
        assert verdict is ErrorCode.NOT_AUTHENTICATED


def test_a_server_with_the_same_kem_key_but_another_id_is_another_server(stage: Stage) -> None:
    twin = World("5e7e0000-0000-4000-8000-000000000003")
    assert twin.keys.kem_seed == stage.world.keys.kem_seed
    moved = replace(stage, world=twin)
    for kind in ("enrol", "hello"):
        verdict = refusal(lambda kind=kind: moved.deliver(kind, stage.messages[kind]))
        assert verdict is ErrorCode.NOT_AUTHENTICATED


# Somebody in the middle of TLS


def test_evidence_over_another_certificate_is_refused(world: World) -> None:
    agent = world.exchange()
    hello = agent.hello((), BOOT_ID, NOW)
    agent.challenge(challenge(world, hello), b"certificate of somebody in the middle")
    evidence = agent.evidence(evidence_body())
    verdict = refusal(lambda: world.responder.open_evidence(evidence, world.lookup, NOW))
    assert verdict is ErrorCode.NOT_AUTHENTICATED


def test_a_server_without_certificates_opens_no_evidence(stage: Stage) -> None:
    blind = Responder(stage.world.keys, ())
    verdict = refusal(
        lambda: blind.open_evidence(stage.messages["evidence"], stage.world.lookup, NOW)
    )
    assert verdict is ErrorCode.NOT_AUTHENTICATED


# Agents that nobody knows


def forged_signature() -> bytes:
    """R is the neutral point and S zero: valid under a key of small order, one time in four."""
    return (1).to_bytes(32, "little") + bytes(32)


def test_nobody_signs_for_an_unknown_agent(world: World) -> None:
    stranger = Agent("a9e00000-0000-4000-8000-00000000dead", "stranger")
    for _ in range(16):
        hello = world.exchange(stranger).hello((), BOOT_ID, NOW)
        frame = decode_request(hello, "hello")
        for message in (hello, encode(replace(frame, sig=forged_signature()))):
            verdict = refusal(lambda m=message: world.responder.open_hello(m, world.lookup))
            assert verdict is ErrorCode.NOT_AUTHENTICATED


def test_an_agent_retired_between_hello_and_evidence_is_refused(stage: Stage) -> None:
    evidence = stage.messages["evidence"]
    for gone in (None, b""):
        verdict = refusal(
            lambda gone=gone: stage.world.responder.open_evidence(evidence, lambda _: gone, NOW)
        )
        assert verdict is ErrorCode.NOT_AUTHENTICATED


def test_a_key_for_which_anyone_can_sign_does_not_enrol(stage: Stage) -> None:
    enrol: wire.Enrol = wire.decode(wire.ENROL, stage.payload("enrol"))
    for number in range(16):
        weak = replace(enrol, identity_key=bytes(32), nonce=bytes([number]) * 32)
        payload = wire.encode(wire.ENROL, weak)
        message = encode(Envelope("enrol", payload, sig=forged_signature()))
        verdict = refusal(lambda m=message: stage.deliver("enrol", m))
        assert verdict is ErrorCode.NOT_AUTHENTICATED


# Time


@pytest.mark.parametrize("late", [-5, 0, LIFETIME])
def test_evidence_in_time(stage: Stage, late: int) -> None:
    stage.world.responder.open_evidence(stage.messages["evidence"], stage.world.lookup, NOW + late)


@pytest.mark.parametrize("late", [LIFETIME + 1, 86400, -6, -86400])
def test_evidence_too_late_or_from_before_the_clock_went_back(stage: Stage, late: int) -> None:
    verdict = refusal(
        lambda: stage.world.responder.open_evidence(
            stage.messages["evidence"], stage.world.lookup, NOW + late
        )
    )
    assert verdict is ErrorCode.EXPIRED


@pytest.mark.parametrize(("late", "refused"), [(ACK_LIFETIME, False), (ACK_LIFETIME + 1, True)])
def test_an_ack_has_an_hour(stage: Stage, late: int, refused: bool) -> None:
    ack = stage.messages["ack"]
    if refused:
        verdict = refusal(lambda: stage.world.responder.open_ack(ack, NOW + late))
        assert verdict is ErrorCode.EXPIRED
    else:
        stage.world.responder.open_ack(ack, NOW + late)


def test_an_ack_from_before_the_clock_went_back_is_expired(stage: Stage) -> None:
    verdict = refusal(lambda: stage.world.responder.open_ack(stage.messages["ack"], NOW - 6))
    assert verdict is ErrorCode.EXPIRED


@pytest.mark.parametrize(("late", "refused"), [(WAIT_LIFETIME, False), (WAIT_LIFETIME + 1, True)])
def test_an_agent_waits_for_two_days_at_most(stage: Stage, late: int, refused: bool) -> None:
    wait = stage.messages["wait"]
    if refused:
        verdict = refusal(lambda: stage.world.responder.open_wait(wait, NOW + late))
        assert verdict is ErrorCode.EXPIRED
    else:
        stage.world.responder.open_wait(wait, NOW + late)


def test_an_agent_cannot_give_itself_more_time(stage: Stage) -> None:
    sent: wire.Evidence = wire.decode(wire.EVIDENCE, stage.payload("evidence"))
    core: wire.ChallengeCore = wire.decode(wire.CHALLENGE_CORE, sent.core)
    longer = wire.encode(wire.CHALLENGE_CORE, replace(core, lifetime=300))
    payload = wire.encode(wire.EVIDENCE, replace(sent, core=longer))
    forged = stage.seal("evidence", payload)
    assert refusal(lambda: stage.deliver("evidence", forged)) is ErrorCode.NOT_AUTHENTICATED


# What belongs together


def _evidence(stage: Stage, body: wire.EvidenceBody) -> bytes:
    return stage.seal_evidence_body(wire.encode(wire.EVIDENCE_BODY, body))


def test_evidence_of_another_boot_is_refused(stage: Stage) -> None:
    other = replace(evidence_body(), boot_id="b0070000-0000-4000-8000-000000000002")
    forged = _evidence(stage, other)
    assert refusal(lambda: stage.deliver("evidence", forged)) is ErrorCode.NOT_AUTHENTICATED


@pytest.mark.parametrize("devices", [(), ("data",), ("data", "logs", "home"), ("data", "home")])
def test_claims_are_for_the_devices_of_the_challenge(
    stage: Stage, devices: tuple[str, ...]
) -> None:
    claims = tuple(wire.DeviceClaim(name, "key", None) for name in devices)
    body = replace(evidence_body(), devices=claims)
    forged = _evidence(stage, body)
    assert refusal(lambda: stage.deliver("evidence", forged)) is ErrorCode.MALFORMED
    with pytest.raises(ValueError, match="claims"):
        copy.copy(stage.agents["evidence"]).evidence(body)


def test_a_challenge_names_no_device_that_was_not_asked_for(stage: Stage) -> None:
    core: wire.ChallengeCore = wire.decode(wire.CHALLENGE_CORE, stage.core())
    more = wire.encode(wire.CHALLENGE_CORE, replace(core, devices=("data", "home")))
    forged = stage.seal_core(more)
    assert refusal(lambda: stage.deliver("challenge", forged)) is ErrorCode.MALFORMED


def _release(stage: Stage, **changes: object) -> bytes:
    body: wire.ReleaseBody = wire.decode(wire.RELEASE_BODY, stage.release_body())
    return stage.seal_release_body(wire.encode(wire.RELEASE_BODY, replace(body, **changes)))


def test_a_release_for_another_session_is_refused(stage: Stage) -> None:
    forged = _release(stage, session_id=bytes(16))
    assert refusal(lambda: stage.deliver("release", forged)) is ErrorCode.NOT_AUTHENTICATED


def test_a_release_decides_on_each_device_of_the_challenge(stage: Stage) -> None:
    data, logs = decisions()
    for wrong in ((), (data,), (data, replace(logs, device="home"))):
        forged = _release(stage, decisions=wrong)
        verdict = refusal(lambda forged=forged: stage.deliver("release", forged))
        assert verdict is ErrorCode.MALFORMED


def test_a_release_grants_what_was_claimed(stage: Stage) -> None:
    data, logs = decisions()
    for wrong in (
        (data, replace(data, device="logs")),
        (replace(logs, device="data"), logs),
    ):
        forged = _release(stage, decisions=wrong)
        verdict = refusal(lambda forged=forged: stage.deliver("release", forged))
        assert verdict is ErrorCode.MALFORMED


def test_a_renewal_has_a_key_only_where_it_may_be_kept(world: World) -> None:
    granted, _ = decisions()
    kept = replace(granted, offline=wire.Offline(3600, 1, (7,)))
    checked = replace(kept, code="checked", key=None)
    body = replace(
        evidence_body(),
        devices=(
            wire.DeviceClaim("data", "renew", bytes(32)),
            wire.DeviceClaim("logs", "renew", bytes(32)),
        ),
    )
    for data in (kept, checked, replace(checked, offline=None)):
        said = (data, replace(checked, device="logs"))
        assert Stage.play(world, Script(body=body, decisions=said))
    successor = wire.Successor((granted.key_version or 0) + 1, bytes(range(64)))
    replaced = replace(granted, successor=successor)
    assert Stage.play(
        world, Script(body=body, decisions=(replaced, replace(checked, device="logs")))
    )
    said = (granted, replace(checked, device="logs"))
    verdict = refusal(lambda: Stage.play(world, Script(body=body, decisions=said)))
    assert verdict is ErrorCode.MALFORMED


def test_an_audit_head_that_the_server_did_not_sign_is_refused(stage: Stage) -> None:
    head = audit_head(stage.world.responder)
    for wrong in (replace(head, size=8), replace(head, root=bytes(32)), replace(head, time=1)):
        forged = _release(stage, audit=wrong)
        verdict = refusal(lambda forged=forged: stage.deliver("release", forged))
        assert verdict is ErrorCode.NOT_AUTHENTICATED


def test_an_ack_names_devices_of_the_release_only(stage: Stage) -> None:
    foreign = (replace(RESULTS[0], device="home"),)
    ack: wire.Ack = wire.decode(wire.ACK, stage.payload("ack"))
    forged = stage.seal("ack", wire.encode(wire.ACK, replace(ack, results=foreign)))
    assert refusal(lambda: stage.deliver("ack", forged)) is ErrorCode.MALFORMED
    with pytest.raises(ValueError, match="other devices"):
        copy.copy(stage.agents["ack"]).ack(foreign)


def test_a_server_that_forgets_a_device_hears_of_it(stage: Stage) -> None:
    opened = stage.world.responder.open_evidence(
        stage.messages["evidence"], stage.world.lookup, NOW
    )
    head = audit_head(stage.world.responder)
    with pytest.raises(ValueError, match="devices"):
        stage.world.responder.release(opened, decisions()[:1], 300, head, NOW)


def _hello_with_reply_key(stage: Stage, reply_key: bytes) -> tuple[bytes, bytes]:
    """Return a Hello of the true agent with this reply key, and its first secret."""
    world, secret = stage.world, bytes(32)
    hello: wire.Hello = wire.decode(wire.HELLO, stage.payload("hello"))
    hello = replace(hello, reply_key=reply_key)
    sealed = suite.KemPublicKey(world.identity.kem_key).seal(
        secret, hello_info(world.identity.server_id, hello)
    )
    payload = wire.encode(wire.HELLO, replace(hello, sealed_secret=sealed))
    return stage.seal("hello", payload), secret


@pytest.mark.parametrize("weakness", ["mlkem", "x25519"])
def test_a_reply_key_that_is_none_is_refused_before_the_session_is_used(
    stage: Stage, weakness: str
) -> None:
    good = stage.agents["release"]._reply_key.public
    bad = b"\xff" * 1184 + good[1184:] if weakness == "mlkem" else good[:1184] + bytes(32)
    hello, secret = _hello_with_reply_key(stage, bad)
    agent = stage.world.exchange()
    agent._waits_for, agent._asked, agent._secret = "challenge", (), secret
    agent._hello_digest = hello_digest(decode_request(hello, "hello").payload)
    agent.challenge(challenge(stage.world, hello), CERTIFICATE)
    evidence = agent.evidence(evidence_body())
    verdict = refusal(
        lambda: stage.world.responder.open_evidence(evidence, stage.world.lookup, NOW)
    )
    assert verdict is ErrorCode.MALFORMED


def test_an_identity_whose_kem_key_is_none_is_malformed(stage: Stage) -> None:
    identity = replace(stage.world.identity, kem_key=b"\xff" * 1216)
    message = stage.seal("server", wire.encode(wire.SERVER_IDENTITY, identity))
    verdict = refusal(lambda: read_server_identity(message, fingerprint(identity)))
    assert verdict is ErrorCode.MALFORMED


def test_an_identity_under_another_fingerprint_is_refused(stage: Stage) -> None:
    verdict = refusal(lambda: read_server_identity(stage.messages["server"], "A" * 43))
    assert verdict is ErrorCode.NOT_AUTHENTICATED


@pytest.mark.parametrize("member", ["server_id", "agent_name", "nonce"])
def test_an_answer_to_another_enrolment_is_refused(stage: Stage, member: str) -> None:
    enrolled: wire.Enrolled = wire.decode(wire.ENROLLED, stage.payload("enrolled"))
    other = {"server_id": BOOT_ID, "agent_name": "web2", "nonce": bytes(32)}[member]
    payload = wire.encode(wire.ENROLLED, replace(enrolled, **{member: other}))
    forged = stage.seal("enrolled", payload)
    assert refusal(lambda: stage.deliver("enrolled", forged)) is ErrorCode.NOT_AUTHENTICATED
