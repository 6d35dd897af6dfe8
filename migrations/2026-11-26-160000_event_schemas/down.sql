DROP TRIGGER event_types_changed ON event_types;
ALTER TABLE event_types DROP COLUMN schema, DROP COLUMN validation, DROP COLUMN feature_group, DROP COLUMN changed_in;
