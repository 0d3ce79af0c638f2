"""The documented calls by the client that is made from the OpenAPI document.

Prints what it saw, as JSON.
"""

import json
import sys
from uuid import UUID

from ledger_client import AuthenticatedClient
from ledger_client.api.api_tokens import whoami
from ledger_client.api.audit_trail import list_audit_events
from ledger_client.api.authentication import verify_scim_token
from ledger_client.api.scim_tokens import (
    create_scim_token,
    delete_scim_token,
    get_scim_token,
    list_scim_tokens,
    rotate_scim_token,
)
from ledger_client.models import CreateScimToken, RotateScimToken, VerifyToken

_, url, api_token, team = sys.argv
ledger = AuthenticatedClient(base_url=url, token=api_token, raise_on_unexpected_status=True)

me = whoami.sync(client=ledger)
asked = CreateScimToken(team_id=UUID(team), name="Okta provisioning")
made = create_scim_token.sync(client=ledger, body=asked)
one = get_scim_token.sync(made.id, client=ledger)
page = list_scim_tokens.sync(client=ledger, team_id=UUID(team), limit=10)
rotated = rotate_scim_token.sync(made.id, client=ledger, body=RotateScimToken(overlap_seconds=60))
judged = verify_scim_token.sync(client=ledger, body=VerifyToken(token=rotated.token))
kept = delete_scim_token.sync(made.id, client=ledger, if_unused_since=made.created_at.isoformat())
revoked = delete_scim_token.sync(made.id, client=ledger)
gone = get_scim_token.sync(made.id, client=ledger)
trail = list_audit_events.sync(client=ledger, token_id=made.id)
wrong = create_scim_token.sync(client=ledger, body=CreateScimToken(team_id=UUID(team), name=""))

print(
    json.dumps(
        {
            "user": str(me.user_id),
            "token_id": str(made.id),
            "is_shown_once": made.token != "" and "token" not in one.to_dict(),
            "names": [token.name for token in page.result],
            "has_two_secrets": bool(rotated.rotation) and rotated.token != made.token,
            "is_active": judged.active,
            "refused": kept.type_,
            "revoked": str(revoked.id),
            "gone": gone.type_,
            "kinds": [row.kind for row in trail.result],
            "pointers": [error.pointer for error in wrong.errors],
        }
    )
)
