"""An identity provider's session, as a program:
scim2-cli's commands and scim2-tester, all in one process.

`python -m tests.gateways.identity_provider URL` with SCIM_CLI_HEADERS set prints a JSON list: what
each call said, without what differs from run to run. Each call as a program of its own would take
seconds to start.
"""

import json
import re
import sys
from importlib import import_module

from click.testing import CliRunner


def main(url: str) -> None:
    """Run the session."""
    told: list[str] = []
    runner = CliRunner(env={"NO_PROXY": "*"})
    scim2 = import_module("scim2_cli").cli

    def call(*arguments: str) -> str:
        done = runner.invoke(scim2, ["--url", url, *arguments])
        told.append(_plain(f"{' '.join(arguments)}: {done.exit_code}\n{done.output}", url))
        return done.output

    made = call("create", "user", "--user-name", "bjensen", "--display-name", "Bjärne 🦊")
    user_id = json.loads(made)["id"]
    call("create", "user", "--user-name", "bjensen")  # a conflict
    call("query", "user")
    call("query", "user", "--filter", 'userName eq "bjensen"')
    call("search", "user", "--count", "1")
    call("replace", "user", user_id, "--user-name", "barbara")
    call("query", "user", user_id, "--attribute", "userName")
    call("delete", "user", user_id)
    call("query", "user", user_id)  # not there any more
    call("test")
    print(json.dumps(told))


def _plain(text: str, url: str) -> str:
    text = text.replace(url, "URL")
    text = re.sub(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", "ID", text)
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "INSTANT", text)


if __name__ == "__main__":
    main(sys.argv[1])
