"""What is wrong with a setting."""

from api.settings.given import PREFIX


class SettingsError(Exception):
    """A setting is unknown, malformed or missing; one clear sentence, without its value."""


class UnusableSetting(SettingsError):
    """A setting has a value that it cannot have.

    field: its name without the prefix. detail: what is wrong, without the value.
    """

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{PREFIX}{field} {detail}")
        self.field = field
        self.detail = detail


class UnusableFile(SettingsError):
    """A file that a setting names cannot be read, or does not hold what it must.

    found: which file, and why, without its content. remedy: what to do.
    """

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"{found}: {remedy}")
        self.found = found
        self.remedy = remedy
