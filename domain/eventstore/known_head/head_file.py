"""The head file: the newest event that a host knows committed, on a disk that no restore reaches.

It only ever goes forward: what is older than the file is not written into it.
"""

import fcntl
import os
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec

from domain.errors import HeadFileUnusable
from domain.losses.declared import KnownEvent

FILE_NAME: Final = "head.json"
"""Of an embedded ledger, beside its key: a backup holds neither."""

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
            return _decoder.decode(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise HeadFileUnusable(
                f"the head file {self.path} cannot be read ({error.strerror}); "
                "give it to the user that the service runs as"
            ) from error
        except msgspec.DecodeError as error:
            raise HeadFileUnusable(
                f"the head file {self.path} is not one; "
                "compare the ledger with what collectors have stored, then move the file away"
            ) from error

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
                os.fsync(directory)
        finally:
            os.close(directory)

    def _replace(self, known: KnownEvent) -> None:
        unfinished = self.path.with_name(f".{self.path.name}.{uuid4().hex}")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_encoder.encode(known) + b"\n")
                if os.geteuid() == 0:  # for a service that runs as another user
                    owner = (self.path if self.path.exists() else self.path.parent).stat()
                    os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(self.path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
