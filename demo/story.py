"""The story that the demo tells: install, then granted, denied, pending and revoked."""

import json
import time

from demo.ca import ensure_certificates
from demo.machine import Machine, StepFailed


class Narrator:
    """Says what happens before it happens."""

    def __init__(self, *, color: bool) -> None:
        self._bold, self._plain = ("\033[1m", "\033[0m") if color else ("", "")
        self._step = 0
        self._began = time.monotonic()

    def step(self, title: str, why: str = "") -> None:
        """Announce the next step."""
        self._step += 1
        elapsed = time.monotonic() - self._began
        print(f"\n{self._bold}{self._step}. {title}{self._plain}  [{elapsed:.0f} s]")
        if why:
            print(f"   {why}")

    def say(self, text: str) -> None:
        """Say one line."""
        print(f"   {text}")


def tell(machine: Machine, narrator: Narrator) -> int:
    """Tell the whole story; return the exit code."""
    try:
        _install(machine, narrator)
        for ending in (_granted, _denied, _pending, _revoked):
            ending(machine, narrator)
        _unchanged(machine, narrator)
        _audit(machine, narrator)
    except StepFailed as failure:
        print(f"\nThe demo stopped: {failure}")
        return 1
    _what_next(machine, narrator)
    return 0


def _install(machine: Machine, narrator: Narrator) -> None:
    narrator.step(
        "A demo certificate authority", "TLS 1.3 needs a certificate that the agent trusts."
    )
    machine.remember()
    made = ensure_certificates(machine.demo / "tls")
    narrator.say(f"{'made' if made else 'kept'} {machine.demo / 'tls/ca.pem'}")
    narrator.step(
        "ansible-playbook -i inventories/local playbooks/site.yml",
        "Installs and starts server and agent, pushes the policy, registers a LUKS2 volume in a\n"
        "   file, enrols the agent with a one-use token, and asks for the key.",
    )
    machine.play("playbooks/site.yml")


def _unlock(machine: Machine, narrator: Narrator, expected: str, code: int) -> dict[str, str]:
    narrator.say("$ securecloud-agent unlock")
    (device,) = machine.ask([*machine.agent, "unlock"], code)["devices"]
    detail = device.get("detail") or ""
    narrator.say(f"  {device['device']}: {device['outcome']} ({device['code']}) {detail}")
    if device["outcome"] != expected:
        raise StepFailed(f"expected {expected}, got {device['outcome']}: {device}")
    return dict(device)


def _granted(machine: Machine, narrator: Narrator) -> None:
    narrator.step("Granted", "The machine meets its policy: the server releases the key.")
    device = _unlock(machine, narrator, "granted", 0)
    narrator.say(f"  volume {device['volume']}: {device['how']}")


def _denied(machine: Machine, narrator: Narrator) -> None:
    narrator.step(
        "Denied",
        "The module `policy` pushes a rule that forbids something true of this machine.",
    )
    machine.play("demo/playbooks/deny.yml")
    _unlock(machine, narrator, "denied", 4)
    narrator.say("The machine is not told which rule; the module `key_request_info` is:")
    machine.play("demo/playbooks/why.yml", brief=True)
    for rule in json.loads((machine.demo / "why.json").read_text()):
        narrator.say(f"  {rule['path']}: {rule['rule']}; the machine says {rule['value']!r}")


def _pending(machine: Machine, narrator: Narrator) -> None:
    narrator.step("Pending, then granted", "Now the policy wants a person to decide.")
    machine.play("demo/playbooks/manual.yml")
    _unlock(machine, narrator, "pending", 3)
    narrator.say("A key approver approves, with the module `key_request`:")
    machine.play("demo/playbooks/approve.yml")
    _unlock(machine, narrator, "granted", 0)


def _revoked(machine: Machine, narrator: Narrator) -> None:
    narrator.step("Revoked", "The module `key` deactivates the key; the agent locks the volume.")
    machine.play("demo/playbooks/reset_policy.yml")
    machine.play("demo/playbooks/revoke.yml")
    _unlock(machine, narrator, "denied", 4)
    narrator.say("And restores it:")
    machine.play("demo/playbooks/restore.yml")
    _unlock(machine, narrator, "granted", 0)


def _unchanged(machine: Machine, narrator: Narrator) -> None:
    narrator.step("The same playbook again", "Nothing is left to change.")
    output = machine.play("playbooks/site.yml", brief=True)
    recap = [line for line in output.splitlines() if " changed=" in line and " ok=" in line]
    changed = [line for line in recap if " changed=0 " not in line]
    if changed:
        raise StepFailed("a second run changed something:\n" + "\n".join(changed))


def _audit(machine: Machine, narrator: Narrator) -> None:
    narrator.step("The audit log", "Every decision above is in a Merkle log; verify all of it.")
    narrator.say("$ securecloud-server audit verify")
    verdict = machine.ask([*machine.server, "audit", "verify"])
    narrator.say(f"  verified: {verdict['size']} events, root {verdict['root']}")


def _what_next(machine: Machine, narrator: Narrator) -> None:
    narrator.step("What to try next")
    agent, server = " ".join(machine.agent), " ".join(machine.server)
    lines = [
        f"the server        {machine.url}  (API description: {machine.url}/api/v1/openapi.json)",
        f"its CA            {machine.demo / 'tls/ca.pem'}",
        f"an API token in   {machine.demo / 'server/admin.token'}  (mode 0600)",
        f"the agent's view  {agent} status",
        f"what it can tell  {agent} facts",
        f"server check-up   {server} doctor",
        "edit the policy   inventories/local/group_vars/all.yml, then run make demo again",
        "stop, clean       make demo-stop, make clean",
    ]
    for line in lines:
        narrator.say(line)
