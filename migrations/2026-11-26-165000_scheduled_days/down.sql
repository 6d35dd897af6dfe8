DROP TABLE scheduled_days;
