"""What a process of the service is told."""

from api.settings.errors import SettingsError, UnusableFile, UnusableSetting
from api.settings.files import shown, text_of
from api.settings.given import PLAIN, PREFIX, Given, given
from api.settings.head_file import check_head_file
from api.settings.loading import checked, load, unknown_setting
from api.settings.settings import (
    KNOWN,
    Settings,
    finish_rule,
    hosts,
    pepper_keys,
    trusted_networks,
)
from api.settings.which_ledger import check_which_ledger, given_twice, misspelt

__all__ = [
    "KNOWN",
    "PLAIN",
    "PREFIX",
    "Given",
    "Settings",
    "SettingsError",
    "UnusableFile",
    "UnusableSetting",
    "check_head_file",
    "check_which_ledger",
    "checked",
    "finish_rule",
    "given",
    "given_twice",
    "hosts",
    "load",
    "misspelt",
    "pepper_keys",
    "shown",
    "text_of",
    "trusted_networks",
    "unknown_setting",
]
