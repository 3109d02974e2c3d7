"""A kernel with device-mapper, as far as volumes need one; strict about what hangs a real one."""

from pathlib import Path

from securecloud_agent.run import Finished, run

DONE = Finished(0, b"", "")
UUID = "11111111-2222-3333-4444-555555555555"


class Machine:
    """A kernel with device-mapper, told through the files that one would show."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[list[str]] = []
        self.signature: str | None = None
        self.broken: set[str] = set()
        self.busy = False
        """Whether somebody holds a file below the mount point, or the mapping."""
        self.source = ""
        self.disk = root / "disk"
        (root / "dev/mapper").mkdir(parents=True)
        (root / "dev/mapper/control").touch()

    def __call__(self, argv, *, timeout, secret=None, pass_fds=(), cwd="/"):
        argv = list(argv)
        self.calls.append(argv)
        if argv[0] in self.broken:
            return Finished(32, b"", f"{argv[0]}: target is busy")
        options = {"timeout": timeout, "secret": secret, "pass_fds": pass_fds, "cwd": cwd}
        own = getattr(self, "_" + argv[0].replace(".", "_"), None)
        done = own(argv[1:], options) if own is not None else None
        return done if done is not None else run(argv, **options)

    def _cryptsetup(self, words, options):
        """Play what needs device-mapper; whether a key is right is the real program's to say."""
        match words:
            case ["open", *flags] if "--test-passphrase" not in flags:
                self.source = words[-2]
                self.map(words[-1])
            case ["luksSuspend", "--", "sc-data"]:
                assert not self.suspended, "a second suspend would wait for ever"
                self.suspend(True)
            case ["luksResume", *flags, "--", "sc-data"]:
                assert self.suspended
                assert "--key-file=-" in flags
                proof = ["cryptsetup", "open", "--test-passphrase", "--type=luks2", *flags]
                done = run([*proof, "--", self.source], **options)
                if done.status != 0:
                    return done
                self.suspend(False)
            case ["close", "--", "sc-data"]:
                assert not self.suspended, "this would wait for ever"
                if self.busy:
                    return Finished(5, b"", "Device sc-data is still in use.")
                self.unmap()
            case _:
                return None
        return DONE

    def _dmsetup(self, words, _options):
        match words:
            case ["wipe_table", "--noflush", "--", "sc-data"]:
                self.suspend(False)
                (self.root / "sys/block/dm-0/slaves/vdb").unlink()
            case ["remove", "--deferred", "--", "sc-data"]:
                if not self.busy:
                    self.unmap()
            case _:
                raise AssertionError(words)
        return DONE

    def _mount(self, words, _options):
        self.mounts(f"36 35 253:0 / {words[-1]} rw - ext4 /dev/mapper/sc-data rw\n")
        return DONE

    def _umount(self, words, _options):
        if self.busy and "--lazy" not in words:
            return Finished(32, b"", "umount: target is busy.")
        assert not self.suspended, "this would wait for ever"
        self.mounts("")
        return DONE

    def _sync(self, words, _options):
        assert words[0] == "--file-system"
        assert not self.suspended, "this would wait for ever"
        return DONE

    def _mkfs_ext4(self, _words, _options):
        self.signature = "ext4"
        return DONE

    def _blkid(self, words, _options):
        if not words[-1].startswith("/dev/mapper"):
            return None
        found = f"TYPE={self.signature}\n".encode() if self.signature else b""
        return Finished(0 if found else 2, found, "")

    def _wipefs(self, words, _options):
        return DONE if words[-1].startswith("/dev/mapper") else None

    def map(self, name: str, luks_uuid: str = UUID) -> None:
        folder = self.root / "sys/block/dm-0/dm"
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "uuid").write_text(f"CRYPT-LUKS2-{luks_uuid.replace('-', '')}-{name}\n")
        (folder / "suspended").write_text("0\n")
        (folder.parent / "dev").write_text("253:0\n")
        (folder.parent / "slaves").mkdir()
        self.disk.mkdir(exist_ok=True)
        (folder.parent / "slaves/vdb").symlink_to(self.disk)

    def unmap(self) -> None:
        for file in sorted((self.root / "sys/block/dm-0").rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
        (self.root / "sys/block/dm-0").rmdir()

    @property
    def suspended(self) -> bool:
        flag = self.root / "sys/block/dm-0/dm/suspended"
        return flag.exists() and flag.read_text() == "1\n"

    def suspend(self, waits: bool) -> None:
        (self.root / "sys/block/dm-0/dm/suspended").write_text(f"{int(waits)}\n")

    def hold(self, mount_point: str, pid: int = 77, name: str = "postgres") -> None:
        """Let a process have its working directory below `mount_point`."""
        self.busy = True
        process = self.root / f"proc/{pid}"
        process.mkdir()
        (process / "comm").write_text(f"{name}\n")
        (process / "cwd").symlink_to(f"{mount_point}/base")

    def let_go(self, pid: int = 77) -> None:
        self.busy = False
        for each in sorted((self.root / f"proc/{pid}").iterdir()):
            each.unlink()
        (self.root / f"proc/{pid}").rmdir()

    def mounts(self, text: str) -> None:
        (self.root / "proc/self/mountinfo").write_text(text)

    def named(self, tool: str) -> list[list[str]]:
        return [call for call in self.calls if call[0] == tool]
