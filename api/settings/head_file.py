"""Whether the head file that is set could ever be written."""

from api.settings.errors import SettingsError
from api.settings.given import PREFIX
from api.settings.settings import Settings
from domain.files.whole_file import NotAFile, is_place, require_file


def check_head_file(settings: Settings) -> None:
    """Raise SettingsError where the head file that is set could never be written."""
    path = settings.head_file
    if path is None:
        return
    if not is_place(path.parent):
        raise SettingsError(
            f"{PREFIX}HEAD_FILE: the service cannot write into {path.parent}: "
            "make the directory, and give it to the user that the service runs as"
        )
    try:
        require_file(path)
    except NotAFile as error:
        raise SettingsError(f"{PREFIX}HEAD_FILE: {error.strerror}") from None
