"""The door at /scim/v2 (RFC 7644): authentication first, discovery, errors in SCIM's form."""
