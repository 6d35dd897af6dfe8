ALTER TABLE connections DROP COLUMN tested_at;
ALTER TABLE connections DROP COLUMN updated_at;
ALTER TABLE connections DROP COLUMN test_url;
