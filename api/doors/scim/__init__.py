"""The door at /scim/v2 (RFC 7644): authentication before everything, discovery,
errors in SCIM's own form.
"""
