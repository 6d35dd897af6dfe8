DROP TABLE endpoint_breakers;
DROP TABLE endpoint_activity;
