"""A storage area network as one machine sees it, for tests."""

import json
import subprocess
import sys
from pathlib import Path

from securecloud_protocol import messages as wire

TARGET = "iqn.2026-01.org.example:db"
FAKE = Path(__file__).with_name("fake_iscsiadm.py")


class San:
    """A target with disks, the machine's iscsiadm for it, and what the kernel shows of both."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.root, self.links = folder / "root", folder / "by-path"
        for each in ("bin", "by-path", "root/proc/self", "root/proc/sys/kernel/random"):
            (folder / each).mkdir(parents=True)
        (self.root / "proc/self/mountinfo").write_text("")
        (self.root / "proc/sys/kernel/random/boot_id").write_text(
            "11111111-2222-3333-4444-555555555555\n"
        )
        self.portal = f"127.0.0.1:{port}"
        self._put("iscsiadm", f"#!{sys.executable}\n{FAKE.read_text()}")
        self._put("udevadm", "#!/bin/sh\n")
        self.state = {
            "root": str(self.root), "links": str(self.links), "targets": {TARGET: {}},
            "status": 0, "startup": "automatic",
        }  # fmt: skip
        self.tell()

    def _put(self, name: str, text: str) -> None:
        (self.folder / "bin" / name).write_text(text)
        (self.folder / "bin" / name).chmod(0o755)

    def tell(self, **changes: object) -> None:
        self.state |= changes
        (self.folder / "san.json").write_text(json.dumps(self.state))

    def disk(self, lun: int, content: Path) -> None:
        self.state["targets"][TARGET][lun] = (f"sd{'abcdef'[lun]}", str(content))
        self.tell()

    def place(self, lun: int = 1, target: str = TARGET) -> wire.IscsiTarget:
        return wire.IscsiTarget(self.portal, target, lun)

    def source(self, lun: int = 1) -> Path:
        return self.links / f"ip-{self.portal}-iscsi-{TARGET}-lun-{lun}"

    def calls(self) -> list[list[str]]:
        """What iscsiadm was asked to do, without the words that say with which target."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line)[3:] for line in lines]

    @property
    def sessions(self) -> list[Path]:
        return list((self.root / "sys/class/iscsi_session").glob("session*"))

    def record(self) -> dict[str, str]:
        (path,) = (self.folder / "nodes" / TARGET).iterdir()
        return json.loads(path.read_text())

    def log_in(self) -> None:
        """What the administrator did."""
        for words in (["--op=new"], ["--login"]):
            which = ["--mode=node", f"--targetname={TARGET}", f"--portal={self.portal}"]
            subprocess.run([self.folder / "bin/iscsiadm", *which, *words], check=True)
        (self.folder / "calls").unlink()

    def down(self) -> None:
        for each in self.sessions:
            (each / "state").write_text("FAILED\n")

    def hold(self, disk: str, holder: str = "dm-0") -> Path:
        path = self.root / "sys/class/block" / disk / "holders" / holder
        path.mkdir(parents=True)
        return path
