"""The head file: the newest event that a host knows committed, on a disk that no restore reaches.

It only ever goes forward: what is older than the file is not written into it.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

import msgspec

from domain.errors import HeadFileUnusable
from domain.files.whole_file import NotAFile, is_place, require_file, whole_file
from domain.losses.declared import KnownEvent

FILE_NAME: Final = "head.json"
"""Of an embedded ledger, beside its key: a backup holds neither."""
_LENGTH_MAX: Final = 4096
"""Bytes that are read: one has some 200."""

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(KnownEvent)


class HeadFile:
    """One file, for all processes of a host. They write the same, whoever comes first."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> KnownEvent | None:
        """The event; None where there is no file yet.

        Raises HeadFileUnusable: nobody can say then whether the ledger is whole.
        """
        try:
            require_file(self.path)  # a named pipe would be waited for
            with self.path.open("rb") as file:
                return _decoder.decode(file.read(_LENGTH_MAX))
        except FileNotFoundError:
            return None
        except NotAFile as error:
            raise HeadFileUnusable(
                f"the head file {self.path} cannot be read: {error.strerror}"
            ) from error
        except OSError as error:
            raise HeadFileUnusable(
                f"the head file {self.path} cannot be read ({error.strerror}); "
                "give it to the user that the service runs as"
            ) from error
        except msgspec.DecodeError as error:
            raise HeadFileUnusable(
                f"the head file {self.path} is not one; "
                "if it is there for something else, leave it, and name another place in "
                "SCIM_LEDGER_HEAD_FILE; if it was the head file, compare the ledger with what "
                "collectors have stored, then move it away"
            ) from error

    def require_place(self) -> None:
        """Raise HeadFileUnusable where no file can be written: the next start would refuse it."""
        if not is_place(self.path.parent):
            raise HeadFileUnusable(
                f"the head file {self.path} cannot be written: "
                "make the directory, on a disk that takes writes, and give it to the user that the "
                "service runs as"
            )

    def write(self, known: KnownEvent) -> None:
        """Replace the file as a whole, on disk once this returns; for its owner alone.

        A file that names a later event already stays as it is. Raises OSError, HeadFileUnusable.
        """
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)  # or a slower writer would set it back
            before = self.read()
            if before is None or before.position < known.position:
                self._replace(known)
        finally:
            os.close(directory)

    def _replace(self, known: KnownEvent) -> None:
        with whole_file(self.path) as file:
            file.write(_encoder.encode(known) + b"\n")
            if os.geteuid() == 0:  # for a service that runs as another user
                owner = (self.path if self.path.exists() else self.path.parent).stat()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
