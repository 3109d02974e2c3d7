#!/usr/bin/python
# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies as reviewed text."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: policy
short_description: Manage policies of a SecureCloud management server
version_added: 0.1.0
author:
  - The SecureCloud project (@trend)
description:
  - Creates, changes and deletes policies. A policy says which facts about a machine must hold
    before the keys of its devices are released.
  - The server keeps every version of a policy. An unchanged policy gets no new version.
  - Options that are left out keep their value. With a new policy, they get their default.
  - Before a policy is changed, and in check mode, the server replays it on the last evidence of
    every machine that it governs. With C(--diff), what would happen to which machine stands beside
    the difference of the text, with the rule responsible.
extends_documentation_fragment:
  - trend.securecloud.connection
  - trend.securecloud.attributes
  - trend.securecloud.attributes.api
attributes:
  check_mode:
    support: full
    details:
      - The text of the rules is judged by the server alone, also in check mode, except with
        O(policy_impact=ignore).
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description:
      - Name of the policy, 1 to 63 of V(a-z), V(0-9), V(.), V(_) and V(-).
      - The policy V(default) applies to what is assigned to no other. It can be changed but not
        deleted.
    type: str
    required: true
  description:
    description:
      - What the policy is for. Empty with a new policy.
    type: str
  rules:
    description:
      - A list of rules that must all hold, or one mapping with V(all), V(any) or V(not).
      - A rule is a mapping with C(fact), C(operator), C(value) and perhaps C(minimum_provenance);
        or with C(jmespath), an expression that must give true; or with C(all), C(any) or C(not).
      - An empty list makes every request manual, whatever O(on_match) says. This is the default
        with a new policy.
    type: raw
  on_match:
    description:
      - What happens when all rules hold. Manual with a new policy.
    type: dict
    suboptions: &action
      action:
        description:
          - V(approve) releases the key, V(approve_after) releases it after a delay unless somebody
            denies it, V(manual) waits for a decision, V(deny) refuses.
        type: str
        required: true
        choices:
          - approve
          - approve_after
          - manual
          - deny
      delay:
        description:
          - Seconds before the release, with V(approve_after).
        type: int
  on_fail:
    description:
      - What happens when a rule fails. Manual with a new policy.
      - The server refuses V(approve) and V(approve_after) here without O(force).
    type: dict
    suboptions: *action
  force:
    description:
      - Accept an O(on_fail) that releases keys to machines that fail the rules. This is written to
        the audit log. False with a new policy.
    type: bool
  policy_impact:
    description:
      - What to do when machines may lose their key by the change, because they would be denied or
        have to wait, or because a rule asks for something that they were never asked for.
      - With V(fail) the task fails before anything is changed, in check mode as well. With V(warn)
        it warns and goes on. With V(ignore) the server is not asked.
      - Machines that have shown no evidence yet cannot lose anything. What is known of the others
        is as old as their last exchange.
    type: str
    choices:
      - ignore
      - warn
      - fail
    default: warn
  grace:
    description:
      - How long a volume that is open stays so after the policy, or a person, denied its machine.
        None with a new policy, and then it is locked at once.
      - A key that is revoked, a device that is disabled and a machine in quarantine get no grace.
    type: dict
    suboptions:
      period:
        description:
          - Seconds from the first denial until the volume is locked, at most V(604800). V(0) is no
            grace.
        type: int
        required: true
      postpone:
        description:
          - Seconds by which people on the machine may move that end with C(securecloud-agent
            postpone), in all.
        type: int
        default: 0
  offline:
    description:
      - Whether machines may keep the keys of their devices, sealed by their TPM 2.0, and open them
        in boots in which no server can be reached. Never with a new policy.
      - The server refuses it unless O(on_match) is V(approve) and there are rules. What a person
        decides, or a delay, nobody can decide without a server.
    type: dict
    suboptions:
      period:
        description:
          - Seconds since the key was released last, V(60) to V(604800). V(0) is never.
        type: int
        required: true
      boots:
        description:
          - Boots since the key was released last, V(1) to V(100).
        type: int
        default: 1
      pcrs:
        description:
          - PCRs of the TPM's SHA-256 bank, V(0) to V(15), that must be as they were when the key
            was released last.
        type: list
        elements: int
        default: [7]
  state:
    description:
      - Whether the policy exists.
      - The server refuses to delete a policy that a device or a device group names.
    type: str
    choices:
      - present
      - absent
    default: present
seealso:
  - module: trend.securecloud.policy_info
  - module: trend.securecloud.device_group
"""

EXAMPLES = r"""
- name: Web servers in the Frankfurt zone
  trend.securecloud.policy:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/securecloud.token
    name: web
    description: Web servers in the Frankfurt zone
    rules:
      - fact: host_name
        operator: matches
        value: web[0-9]+
      - any:
          - fact: location.region
            operator: equals
            value: eu-central
          - fact: request.source_ip
            operator: in_networks
            value:
              - 10.0.0.0/8
      - jmespath: "length(users) < `5`"
    on_match:
      action: approve
    on_fail:
      action: deny
    grace:
      period: 300
      postpone: 3600
    offline:
      period: 86400
      boots: 2

- name: A stricter rule, but only if no machine loses its key by it
  trend.securecloud.policy:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/securecloud.token
    name: web
    rules:
      - fact: patch_level.days_since_update
        operator: at_most
        value: 7
    policy_impact: fail
  check_mode: true
  diff: true

- name: No policy for the old cluster any more
  trend.securecloud.policy:
    server_url: https://keys.example.org:8443
    ca_file: /etc/securecloud/ca.pem
    token_file: /root/securecloud.token
    name: old-cluster
    state: absent
"""

RETURN = r"""
policy:
  description:
    - The policy as the server has it now. In check mode, as far as it is known.
    - Null when O(state=absent).
  returned: success
  type: dict
  sample:
    name: web
    description: Web servers in the Frankfurt zone
    rules:
      - fact: host_name
        operator: matches
        value: web[0-9]+
    on_match:
      action: approve
    on_fail:
      action: manual
    version: 3
    default: false
impact:
  description:
    - What the change does to the machines that the policy governs, by their last evidence.
    - Null when nothing changes, when O(state=absent), with O(policy_impact=ignore), and where the
      server cannot tell.
  returned: success, or failure because of O(policy_impact=fail)
  type: dict
  contains:
    totals:
      description:
        - Number of devices, and of those of each effect. C(may_lose) counts the devices that lose
          their key and those that have one and of which nobody can tell.
      type: dict
      sample:
        devices: 40
        may_lose: 1
        lose: 1
        unknown: 0
        no_evidence: 2
        changed: 0
        gain: 0
        unchanged: 37
    devices:
      description:
        - The devices to which something happens. C(before) and C(after) are what the machine would
          be told after a boot, and whether its volume stays open until then; C(rules) make the
          difference, each beside the machine's value.
      type: list
      elements: dict
      sample:
        - device: web7-data
          agent: web7
          group: shop
          effect: lose
          may_lose: true
          before:
            outcome: granted
            code: approved
            stays_open: true
          after:
            outcome: pending
            code: approval_required
            stays_open: false
          rules:
            - policy: draft
              path: rules[0]
              rule: patch_level.days_since_update at_most 7
              passed: false
              value: 12
              provenance: claimed
              explanation: is 12
          evidence:
            seen_at: "2026-01-31T12:00:00Z"
            age: 118
errors:
  description: The fields that the server refused, each with what it expected.
  returned: failure
  type: list
  elements: dict
  sample:
    - field: rules[0].fact
      expected: one of host_name, location.region
      message: unknown fact 'hostname'
"""

from typing import Any, Callable

from ansible_collections.trend.securecloud.plugins.module_utils._client import Client
from ansible_collections.trend.securecloud.plugins.module_utils._errors import InvalidOption
from ansible_collections.trend.securecloud.plugins.module_utils._impact import (
    CannotForesee,
    Impact,
    WouldLoseKeys,
    foresee,
)
from ansible_collections.trend.securecloud.plugins.module_utils._module import (
    api_module,
    client_of,
    finish,
)
from ansible_collections.trend.securecloud.plugins.module_utils._resource import (
    Change,
    Kind,
    converge,
    decide_absent,
    decide_present,
    given,
)

POLICY = Kind(
    label="policy",
    collection="policies",
    defaults={
        "description": "",
        "rules": [],
        "on_match": {"action": "manual"},
        "on_fail": {"action": "manual"},
        "force": False,
        "grace": {"period": 0, "postpone": 0},
        "offline": {"period": 0, "boots": 1, "pcrs": [7]},
    },
)


def action_argument() -> dict[str, Any]:
    """Return the argument spec of on_match and on_fail."""
    return {
        "type": "dict",
        "options": {
            "action": {
                "type": "str",
                "required": True,
                "choices": ["approve", "approve_after", "manual", "deny"],
            },
            "delay": {"type": "int"},
        },
        "required_if": [("action", "approve_after", ("delay",))],
    }


def wanted_policy(options: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that the options ask for."""
    wanted = given({key: options[key] for key in POLICY.defaults})
    rules = wanted.get("rules", [])
    if not isinstance(rules, (list, dict)):
        message = f"is a {type(rules).__name__}"
        raise InvalidOption("rules", "a list of rules, or a mapping", message)
    if "offline" in wanted:
        # As the server shows them, so that another order is no change.
        wanted["offline"] = {**wanted["offline"], "pcrs": sorted(wanted["offline"]["pcrs"])}
    return wanted


def impact_of(
    client: Client, change: Change, wanted: str, warn: Callable[[str], None]
) -> Impact | None:
    """Return what the change does to machines, None where nobody asked.

    Warns of machines that may lose their key, or raises WouldLoseKeys, as `wanted` says.
    """
    if wanted == "ignore" or change.after is None or not change.needed:
        return None
    try:
        impact = foresee(client, change.name, change.after)
    except CannotForesee as error:
        if wanted == "fail":
            raise
        warn(str(error))
        return None
    if impact.may_lose and wanted == "fail":
        raise WouldLoseKeys(impact)
    if impact.may_lose:
        warn(impact.summary())
    return impact


def with_impact(result: dict[str, Any], impact: Impact | None) -> dict[str, Any]:
    """Return the module's result with the impact, which stands beside the difference as well."""
    text = impact.text() if impact else ""
    return {
        **result,
        "impact": impact.returned() if impact else None,
        "diff": [result["diff"], {"prepared": text}] if text else result["diff"],
    }


def main() -> None:
    """Run the module."""
    module = api_module(
        {
            "name": {"type": "str", "required": True},
            "description": {"type": "str"},
            "rules": {"type": "raw"},
            "on_match": action_argument(),
            "on_fail": action_argument(),
            "force": {"type": "bool"},
            "policy_impact": {
                "type": "str",
                "choices": ["ignore", "warn", "fail"],
                "default": "warn",
            },
            "grace": {
                "type": "dict",
                "options": {
                    "period": {"type": "int", "required": True},
                    "postpone": {"type": "int", "default": 0},
                },
            },
            "offline": {
                "type": "dict",
                "options": {
                    "period": {"type": "int", "required": True},
                    "boots": {"type": "int", "default": 1},
                    "pcrs": {"type": "list", "elements": "int", "default": [7]},
                },
            },
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        }
    )

    def work() -> dict[str, Any]:
        options, client = module.params, client_of(module)
        name = options["name"]
        current = client.find(POLICY.path(name))
        if options["state"] == "absent":
            change = decide_absent(POLICY, name, current)
        else:
            change = decide_present(POLICY, name, current, wanted_policy(options))
        impact = impact_of(client, change, options["policy_impact"], module.warn)
        return with_impact(converge(client, change, module.check_mode), impact)

    finish(module, work)


if __name__ == "__main__":
    main()
