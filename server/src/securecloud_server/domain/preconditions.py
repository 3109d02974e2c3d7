"""Conditional edits: what the caller believes is there (RFC 9110, section 13.1)."""

from dataclasses import dataclass

from securecloud_server.domain.errors import PreconditionFailed


@dataclass(frozen=True, slots=True)
class Precondition:
    """`match` holds the entity tags of If-Match (`*` for any); `absent` is If-None-Match: *."""

    match: tuple[str, ...] = ()
    absent: bool = False

    def check(self, tag: str | None) -> None:
        """Raise PreconditionFailed unless the object whose tag is `tag` is as believed."""
        if self.absent and tag is not None:
            raise PreconditionFailed("the object exists already")
        if self.match and tag is None:
            raise PreconditionFailed("the object does not exist")
        if self.match and tag not in self.match and "*" not in self.match:
            raise PreconditionFailed(f"the object has been changed; its tag is now {tag}")


ALWAYS = Precondition()
