ALTER TABLE subscription_health DROP COLUMN warned, DROP COLUMN warned_for;
