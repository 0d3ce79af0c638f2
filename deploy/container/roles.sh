#!/bin/sh
# The two roles and the database of docs/how-to/own-postgresql.md; the image of PostgreSQL runs it on an empty volume.
set -eu
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname=postgres \
  --set=owner_password="$OWNER_PASSWORD" --set=app_password="$APP_PASSWORD" <<'SQL'
CREATE ROLE scim_ledger_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE scim_ledger_app LOGIN PASSWORD :'app_password';
CREATE DATABASE scim_ledger OWNER scim_ledger_owner TEMPLATE template0 ENCODING 'UTF8';
SQL
