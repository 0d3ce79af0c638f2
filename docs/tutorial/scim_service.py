"""A stand-in for your SCIM service: it has no users, and tells what it was told of the caller.

python docs/tutorial/scim_service.py 9000
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LIST = "urn:ietf:params:scim:api:messages:2.0:ListResponse"


class Service(BaseHTTPRequestHandler):
    """Answers every GET alike."""

    def do_GET(self) -> None:
        """An empty list, and in the log who asked."""
        team, use = self.headers["X-Scim-Team-Id"], self.headers["X-Scim-Use-Id"]
        sys.stderr.write(f"asked by team {team}, use {use}\n")
        body = json.dumps({"schemas": [LIST], "totalResults": 0, "Resources": []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/scim+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: object) -> None:
        """It has said enough."""


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Service).serve_forever()
