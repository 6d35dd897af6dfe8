DROP TRIGGER subscriptions_disabled ON subscriptions;
DROP FUNCTION hookyard_disabled();
ALTER TABLE subscriptions DROP COLUMN disabled_at;
DROP INDEX deliveries_failed;
DROP TABLE recoveries;
