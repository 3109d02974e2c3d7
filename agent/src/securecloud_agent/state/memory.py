"""What is known of each device, of the audit log and of the last outcome."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from securecloud_protocol.encoding import b64u_decode, b64u_encode
from securecloud_protocol.errors import ProtocolError

from securecloud_agent.state.files import StateError, read_json, remove, write_file, write_json

if TYPE_CHECKING:
    from securecloud_protocol.messages import IscsiTarget

_SLOTS = frozenset(map(str, range(32)))
"""LUKS2 key slots."""

_LINEAGE_BYTES = 32


@dataclass(frozen=True, slots=True)
class Lineage:
    """The secret that rolls at every release; `next` came with a release not yet acknowledged."""

    current: bytes | None
    next: bytes | None

    @property
    def presented(self) -> bytes | None:
        """The newest that is on disk.

        The server commits a new lineage before it answers and takes the previous one until the
        next is presented or acknowledged. So the newest is right whether the acknowledgement, or
        only its receipt, was lost; and when the release itself was lost, the newest here is the
        server's previous.
        """
        return self.next or self.current


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Where a device's volume was when it was last released; `luks_uuid` once it was ours.

    `iscsi` is where its disk comes from when it is not this machine's own.
    """

    source: str
    filesystem: str
    mount_point: str | None
    options: tuple[str, ...]
    read_only: bool
    luks_uuid: str | None
    key_version: int
    iscsi: "IscsiTarget | None" = None


@dataclass(frozen=True, slots=True)
class Encryption:
    """An encryption that the operator asked for: the LUKS UUID that the volume gets, and how far
    it came: `asked`, `shrinking` the file system, `heading` while LUKS headers are put before it
    (`head` is then the SHA-256 of the disk's beginning), or `begun` once they are there.
    """

    luks_uuid: str
    phase: str
    head: str = ""


@dataclass(frozen=True, slots=True)
class Rotation:
    """A key of the volume `luks_uuid` that is being replaced by `version`: the key slot that opened
    it so far, and the one for the successor. Both may be there, or one of them.

    The proofs are digests of each slot as it was when its key was seen to open it (`header.proof`);
    the new one's is empty until then.
    """

    version: int
    luks_uuid: str
    old_slot: str
    new_slot: str
    old_proof: str
    new_proof: str = ""


@dataclass(frozen=True, slots=True)
class SeenHead:
    """The last audit tree head: number of records and root hash (32 octets)."""

    size: int
    root: bytes


class Memory:
    """The files under `state_dir`. Device names are those that the protocol lets through."""

    def __init__(self, state_dir: Path) -> None:
        self._root = state_dir

    def _device_file(self, room: str, device: str) -> Path:
        folder = self._root / room
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder / f"{device}.json"

    # Lineage

    def lineage(self, device: str) -> Lineage:
        """Return what is remembered of `device`'s lineage."""
        path = self._device_file("lineage", device)
        found = read_json(path) or {}
        try:
            return Lineage(_octets(found.get("current")), _octets(found.get("next")))
        except (AttributeError, TypeError, ValueError, ProtocolError):
            raise StateError(f"{path} is damaged; ask the administrator about quarantine") from None

    def receive_lineage(self, device: str, value: bytes) -> None:
        """Put a new lineage value on disk before anything is done with the release."""
        self._write_lineage(device, Lineage(self.lineage(device).presented, value))

    def confirm_lineage(self, device: str) -> None:
        """Forget the previous value: the server has recorded the acknowledgement."""
        known = self.lineage(device)
        if known.next is not None:
            self._write_lineage(device, Lineage(known.next, None))

    def _write_lineage(self, device: str, lineage: Lineage) -> None:
        write_json(
            self._device_file("lineage", device),
            {
                "current": lineage.current and b64u_encode(lineage.current),
                "next": lineage.next and b64u_encode(lineage.next),
            },
        )

    # Devices

    def devices(self) -> tuple[str, ...]:
        """Return the names of all devices ever released to this machine."""
        return tuple(sorted(path.stem for path in (self._root / "devices").glob("*.json")))

    def device(self, name: str) -> DeviceMemory | None:
        """Return what is remembered of the device `name`."""
        path = self._device_file("devices", name)
        found = read_json(path)
        if found is None:
            return None
        try:
            read = {"options": tuple(found["options"]), "iscsi": _target(found.get("iscsi"))}
            return DeviceMemory(**{**found, **read})
        except (AttributeError, KeyError, TypeError, ProtocolError):
            raise StateError(f"{path} is damaged; remove it: the server knows the rest") from None

    def remember_device(self, name: str, memory: DeviceMemory) -> None:
        """Replace what is remembered of the device `name`."""
        if self.device(name) != memory:
            written = asdict(memory)
            if memory.iscsi is None:
                # As every earlier version wrote it, and can read it again.
                del written["iscsi"]
            write_json(self._device_file("devices", name), written)

    def forget_device(self, name: str) -> None:
        """Forget where its volume was and what was asked for it; its lineage stays."""
        # A key that is being replaced is the volume's, and it may come back.
        for room in ("encryptions", "devices"):
            remove(self._device_file(room, name))

    # Encryption in place

    def encryption(self, device: str) -> Encryption | None:
        """Return the encryption of `device` that was asked for and has not ended."""
        path = self._device_file("encryptions", device)
        found = read_json(path)
        if found is None:
            return None
        try:
            return Encryption(**found)
        except TypeError:
            raise StateError(
                f"{path} is damaged; remove it, then run `securecloud-agent encrypt {device}`"
            ) from None

    def remember_encryption(self, device: str, encryption: Encryption | None) -> None:
        """Put on disk how far the encryption of `device` came; None when it is over."""
        path = self._device_file("encryptions", device)
        if encryption is None:
            remove(path)
        elif self.encryption(device) != encryption:
            write_json(path, asdict(encryption))

    # Rotation

    def rotation(self, device: str) -> Rotation | None:
        """Return the replacement of `device`'s key that was begun and has not ended."""
        path = self._device_file("rotations", device)
        found = read_json(path)
        if found is None:
            return None
        try:
            rotation = Rotation(**found)
            if not _is_rotation(rotation):
                raise ValueError
        except (TypeError, ValueError):
            raise StateError(
                f"{path} is damaged; see with `cryptsetup luksDump` which key slots the volume has,"
                " and remove the file when it has one"
            ) from None
        return rotation

    def remember_rotation(self, device: str, rotation: Rotation | None) -> None:
        """Put on disk that the key of `device` is being replaced; None when that is over."""
        path = self._device_file("rotations", device)
        if rotation is None:
            remove(path)
        else:
            write_json(path, asdict(rotation))

    # Audit log

    def seen_head(self) -> SeenHead:
        """Return the last tree head seen; size 0 before the first."""
        path = self._root / "audit.json"
        found = read_json(path)
        if found is None:
            return SeenHead(0, b"")
        try:
            return SeenHead(int(found["size"]), b64u_decode(found["root"]))
        except (KeyError, TypeError, ValueError, AttributeError, ProtocolError):
            raise StateError(f"{path} is damaged; tell whoever audits the server") from None

    def remember_head(self, head: SeenHead) -> None:
        """Remember `head`, so that a shorter or different log is noticed."""
        write_json(self._root / "audit.json", {"size": head.size, "root": b64u_encode(head.root)})

    # The last outcome

    def status(self) -> dict[str, Any]:
        """Return the last outcome of each device, and when."""
        return read_json(self._root / "status.json") or {}

    def remember_status(self, status: dict[str, Any]) -> None:
        """Replace the last outcome; it never holds a secret."""
        write_json(self._root / "status.json", status)

    def last_server(self) -> str | None:
        """Return the URL that answered last."""
        found = self.status().get("server")
        return found if isinstance(found, str) else None


class BootMarks:
    """Marks in `run_dir` that end with this boot: volumes proved, volumes held by the operator,
    graces that run.
    """

    def __init__(self, run_dir: Path, boot_id: str) -> None:
        self._root = run_dir
        self._boot_id = boot_id

    def path(self, name: str) -> Path:
        """Return the path of the file `name` that ends with this boot."""
        return self._root / name

    def _file(self, kind: str, device: str) -> Path:
        return self._root / f"{kind}-{device}.json"

    def put(self, kind: str, device: str, content: Mapping[str, Any] | None = None) -> None:
        """Set the mark `kind` on `device`, with `content` on it."""
        write_json(self._file(kind, device), {**(content or {}), "boot_id": self._boot_id})

    def has(self, kind: str, device: str) -> bool:
        """Say whether the mark `kind` was set on `device` since this boot."""
        return self.content(kind, device) is not None

    def content(self, kind: str, device: str) -> dict[str, Any] | None:
        """Return what is on the mark `kind` of `device`, None where this boot has not set it."""
        found = read_json(self._file(kind, device))
        if found is None or found.pop("boot_id", None) != self._boot_id:
            return None
        return found

    def explain(self, device: str, text: str) -> None:
        """Leave the last outcome where a unit that needs the volume can print it."""
        path = self._root / f"{device}.outcome"
        write_file(path, f"{text}\n".encode())

    def devices(self, kind: str) -> tuple[str, ...]:
        """Return the devices that ever had the mark `kind` in this boot or an earlier one."""
        prefix = f"{kind}-"
        return tuple(path.stem.removeprefix(prefix) for path in self._root.glob(f"{prefix}*.json"))

    def clear(self, kind: str, devices: Iterable[str]) -> None:
        """Take the mark `kind` off `devices`."""
        for device in devices:
            remove(self._file(kind, device))


def _is_rotation(rotation: Rotation) -> bool:
    """Say whether the values are such as this agent writes."""
    slots = rotation.old_slot, rotation.new_slot
    texts = rotation.luks_uuid, rotation.old_proof, rotation.new_proof
    return (
        type(rotation.version) is int
        and slots[0] != slots[1]
        and {*slots} <= _SLOTS
        and all(type(text) is str for text in texts)
    )


def _target(found: Any) -> "IscsiTarget | None":
    if found is None:
        return None
    from securecloud_protocol.messages import ISCSI_TARGET, IscsiTarget

    target: IscsiTarget = ISCSI_TARGET.decode(found)
    return target


def _octets(text: Any) -> bytes | None:
    if text is None:
        return None
    octets = b64u_decode(text)
    if len(octets) != _LINEAGE_BYTES:
        raise ValueError("lineage of a wrong length")
    return octets
