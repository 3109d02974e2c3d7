"""The words in which decisions are made."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securecloud_protocol.messages import LuksHeader


class State(StrEnum):
    """What a device's volume is to the rest of the machine."""

    CLOSED = "closed"
    ENCRYPTING = "encrypting"
    """It is being encrypted in place, with its data."""
    VERIFIED = "verified"
    """Its key was proved in this boot; the kernel cannot open it."""
    OPENED = "opened"
    MOUNTED = "mounted"
    SUSPENDED = "suspended"
    """Somebody held it when it was to be closed: its key is gone, and who uses it waits."""


class Content(StrEnum):
    """What lies on a volume's source."""

    UNKNOWN = "unknown"
    ABSENT = "absent"
    BLANK = "blank"
    LUKS = "luks"
    UNFINISHED = "unfinished"
    """An encryption in place that was begun: part of it is still plain."""
    OTHER = "other"


UNKNOWN_KIND = "data of an unknown kind"
"""The detail of content that has no signature: a LUKS2 volume without its header looks so, too."""


class Kind(StrEnum):
    """What can be done to a volume."""

    CONNECT = "connect"
    FORMAT = "format"
    ENCRYPT = "encrypt"
    VERIFY = "verify"
    OPEN = "open"
    MAKE_FILESYSTEM = "make_filesystem"
    MOUNT = "mount"
    LOCK = "lock"
    RESUME = "resume"
    WAIT = "wait"
    """Leave it open: its grace is not over."""
    REFUSE = "refuse"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Observed:
    """One volume as this machine sees it.

    `detail` says what the content is, or why it could not be read. `header_problem` names what is
    wrong with a LUKS2 header, if anything, and `luks_header` is what the server knows it by.
    `remembered_uuid` is the LUKS UUID that this agent itself opened before. `held` says that the
    operator locked the volume in this boot. `disk_gone` says that the disk of an open volume was
    taken away, and `header_copy` is the path of the copy that is kept of its LUKS header.
    `encryption` is the LUKS UUID of the encryption that the operator asked for on this machine,
    which `encryption_begun` once a header is on the disk. `encryption_heading` while one is put
    there: the disk may then look like anything.
    `grace_left` are the seconds until an open volume is to be locked, 0 or less when that is due,
    None when no grace runs.
    `connected` says whether the iSCSI session of its disk is up, where it has one; a disk that is
    not was not looked at.
    """

    state: State = State.CLOSED
    content: Content = Content.UNKNOWN
    detail: str = ""
    luks_uuid: str | None = None
    header_problem: str | None = None
    luks_header: "LuksHeader | None" = None
    device_mapper: bool = True
    remembered_uuid: str | None = None
    held: bool = False
    header_copy: str | None = None
    disk_gone: bool = False
    encryption: str | None = None
    encryption_begun: bool = False
    encryption_heading: bool = False
    grace_left: float | None = None
    connected: bool = True


@dataclass(frozen=True, slots=True)
class Action:
    """One step, and why it is taken."""

    kind: Kind
    reason: str

    @property
    def changes(self) -> bool:
        """Say whether the machine is different afterwards."""
        return self.kind not in {Kind.REFUSE, Kind.NOTHING, Kind.WAIT}
