"""The library's suite, which comes with the library.

For the tests of its ciphers alone it imports the cipher, and with it a package that nothing here
needs; we run none of them (`OTHERWISE`), so the name is enough.
"""

import sys
from importlib.util import find_spec
from types import ModuleType

_CIPHER = "eventsourcing.cipher"

if find_spec("Crypto") is None:
    named_only = ModuleType(_CIPHER)
    vars(named_only)["AESCipher"] = None
    sys.modules[_CIPHER] = named_only
    from eventsourcing.tests import persistence

    del sys.modules[_CIPHER]
else:
    from eventsourcing.tests import persistence

__all__ = ["persistence"]
