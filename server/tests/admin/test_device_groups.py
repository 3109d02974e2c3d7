"""`/device-groups`: devices that share a policy."""

from typing import Any

from server.tests.admin.api import Caller


def test_a_group_is_created_read_and_replaced(admin: Caller) -> None:
    admin.put("/policies/web", {})
    body = {"description": "The shop", "policy": "web"}
    answer = admin.call("PUT", "/device-groups/shop", body)
    assert answer.status_code == 201
    assert answer.json == {"name": "shop", **body}
    assert admin.get("/device-groups/shop") == answer.json
    replaced = admin.call("PUT", "/device-groups/shop", {})
    assert replaced.status_code == 200
    assert replaced.json == {"name": "shop", "description": "", "policy": None}
    assert replaced.headers["ETag"] != answer.headers["ETag"]
    assert admin.actions()[-2:] == ["device_group.created", "device_group.updated"]


def test_a_group_with_devices_stays(machine: Any, admin: Caller) -> None:
    admin.put("/device-groups/shop", {})
    admin.put("/devices/d", {"agent": "web1", "group": "shop", "volume": {"source": "/dev/a"}})
    assert "'d'" in admin.refused("conflict", "DELETE", "/device-groups/shop")["detail"]
    admin.delete("/devices/d")
    admin.delete("/device-groups/shop")
    admin.refused("not_found", "GET", "/device-groups/shop")
    admin.refused("not_found", "DELETE", "/device-groups/shop")


def test_the_policy_must_exist(admin: Caller) -> None:
    document = admin.refused("invalid_request", "PUT", "/device-groups/shop", {"policy": "none"})
    assert document["errors"] == [
        {
            "field": "policy",
            "expected": "the name of a policy, or null",
            "message": "there is no policy 'none'",
        }
    ]
    admin.refused("not_found", "GET", "/device-groups/shop")
