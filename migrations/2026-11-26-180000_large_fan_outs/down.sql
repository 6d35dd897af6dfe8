-- Groups of which some is made become groups that nobody has begun with: deliveries that are there already stay as they are.
DROP INDEX event_groups_rest;
ALTER TABLE event_groups DROP COLUMN wanted, DROP COLUMN made, DROP COLUMN claim, DROP COLUMN claimed_until;
