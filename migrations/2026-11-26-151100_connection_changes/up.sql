-- Connections can be changed and tried again.

-- Where the credentials are tried; its origin is the one in `origin`. Of a connection from before, the root of its origin.
ALTER TABLE connections ADD COLUMN test_url text;
UPDATE connections SET test_url = origin || '/';
ALTER TABLE connections ALTER COLUMN test_url SET NOT NULL;

-- When it was made or changed last: what was read before does not overwrite what was written since.
ALTER TABLE connections ADD COLUMN updated_at timestamptz;
UPDATE connections SET updated_at = created_at;
ALTER TABLE connections ALTER COLUMN updated_at SET NOT NULL;

-- When the credentials were let in last, on saving or by a test; NULL = not since this is written down.
ALTER TABLE connections ADD COLUMN tested_at timestamptz;
