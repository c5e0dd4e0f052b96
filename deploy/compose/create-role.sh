#!/bin/sh
# Creates the platform's role and database. The role is no superuser: row-level security would not hold for one.
set -eu
psql --username postgres --set ON_ERROR_STOP=1 --set password="$POSTGRES_PASSWORD" << 'END'
CREATE ROLE mmaudio LOGIN PASSWORD :'password';
CREATE DATABASE mmaudio OWNER mmaudio;
END
