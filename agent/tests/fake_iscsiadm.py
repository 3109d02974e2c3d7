"""A strict stand-in for open-iscsi's iscsiadm, its daemon, the kernel and a target.

It is run as a program: `San` (san.py) puts it into a folder `bin`, beside a file `san.json`
that says what there is. Exit statuses and messages are those that the real one gave in the same
situations (fixtures/iscsiadm.json, and how it was recorded in fixtures/README.md); anything that
the agent has no business asking for ends with status 99.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
OPTIONS = ("mode", "targetname", "portal", "op", "name", "value")
FLAGS = ("login", "logout", "rescan")
MESSAGES = {
    5: "encountered iSCSI login failure",
    8: "connection timed out",
    12: "iSCSI driver not found. Please make sure it is loaded, and retry the operation",
    19: "encountered non-retryable iSCSI login failure",
    20: "could not connect to iscsid",
    24: "iSCSI login failed due to authorization failure",
}


def end(status, *messages):
    for message in messages:
        print(f"iscsiadm: {message}", file=sys.stderr)
    raise SystemExit(status)


class Fake:
    def __init__(self, words):
        self.san = json.loads((HERE / "san.json").read_text())
        self.options, self.flags = {}, []
        for word in words:
            name, _, value = word.removeprefix("--").partition("=")
            if not word.startswith("--") or (name not in FLAGS and not value):
                end(99, f"not expected: {word}")
            if name in FLAGS and not self.flags:
                self.flags.append(name)
            elif name in OPTIONS and name not in self.options:
                self.options[name] = value
            else:
                end(99, f"not expected: {word}")
        if self.options.pop("mode", None) != "node":
            end(99, "only records of targets are the agent's")
        self.target, portal = self.options.pop("targetname"), self.options.pop("portal")
        host, _, self.port = portal.rpartition(":")
        self.address = host.strip("[]")
        if ("[" in portal) != (":" in self.address) or not self.port.isdecimal():
            end(99, f"not expected: {portal}")
        self.record = HERE / "nodes" / self.target / f"{self.address},{self.port}"
        self.which = f"target: {self.target}, portal: {self.address},{self.port}"

    def work(self):
        with (HERE / "calls").open("a") as file:
            file.write(json.dumps(sys.argv[1:]) + "\n")
        match (list(self.options.items()), self.flags):
            case ([("op", "show")], []):
                print("\n".join(f"{name} = {value}" for name, value in self.read().items()))
            case ([("op", "new")], []):
                self.record.parent.mkdir(parents=True, exist_ok=True)
                self.write({"node.startup": self.san["startup"], "node.session.auth.username": ""})
            case ([("op", "update"), ("name", name), ("value", value)], []) if name in self.read():
                self.write({**self.read(), name: value})
            case ([], ["login"]):
                self.login()
            case ([], ["logout"]):
                self.logout()
            case ([], ["rescan"]):
                if self.session() is None:
                    end(21, "No session found.")
                self.scan(self.session())
            case _:
                end(99, f"not expected: {self.options} {self.flags}")

    def read(self):
        if not self.record.exists():
            end(21, "No records found")
        return json.loads(self.record.read_text())

    def write(self, fields):
        self.record.write_text(json.dumps(fields))

    # --- sessions, as the kernel shows them

    @property
    def sysfs(self):
        return Path(self.san["root"]) / "sys/class"

    def session(self):
        for folder in (self.sysfs / "iscsi_session").glob("session*"):
            if (folder / "targetname").read_text().strip() == self.target:
                return folder
        return None

    def login(self):
        self.read()
        status = self.san["status"]
        if self.session() is not None:
            present = "default: 1 session requested, but 1 already present."
            end(15, present, "Could not log into all portals")
        if status == 0 and self.target not in self.san["targets"]:
            status = 19
        if status:
            end(
                status,
                f"Could not login to [iface: default, {self.which}].",
                f"initiator reported error ({status} - {MESSAGES[status]})",
                "Could not log into all portals",
            )
        number = 1 + len(list((self.sysfs / "iscsi_session").glob("session*")))
        folder = self.sysfs / f"iscsi_session/session{number}"
        folder.mkdir(parents=True)
        (folder / "targetname").write_text(f"{self.target}\n")
        (folder / "state").write_text("LOGGED_IN\n")
        connection = self.sysfs / f"iscsi_connection/connection{number}:0"
        connection.mkdir(parents=True)
        (connection / "persistent_address").write_text(f"{self.address}\n")
        (connection / "persistent_port").write_text(f"{self.port}\n")
        self.scan(folder)

    def link(self, lun):
        name = f"ip-{self.address}:{self.port}-iscsi-{self.target}-lun-{lun}"
        return Path(self.san["links"]) / name

    def scan(self, session):
        number = session.name.removeprefix("session")
        for lun, (disk, content) in self.san["targets"][self.target].items():
            folder = session / f"device/target{number}:0:0/{number}:0:0:{lun}/block" / disk
            folder.mkdir(parents=True, exist_ok=True)
            (self.sysfs / "block" / disk / "holders").mkdir(parents=True, exist_ok=True)
            (self.sysfs / "block" / disk / "dev").write_text(f"8:{16 * int(lun)}\n")
            if not self.link(lun).is_symlink():
                self.link(lun).symlink_to(content)

    def logout(self):
        folder = self.session()
        if folder is None:
            end(21, "No matching sessions found")
        number = folder.name.removeprefix("session")
        for lun in self.san["targets"][self.target]:
            self.link(lun).unlink(missing_ok=True)
        for gone in (folder, self.sysfs / f"iscsi_connection/connection{number}:0"):
            for path in sorted(gone.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            gone.rmdir()


if __name__ == "__main__":
    Fake(sys.argv[1:]).work()
