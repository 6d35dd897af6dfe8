-- What was left to be cancelled is cancelled by the deliverers as it comes up.
DROP TABLE cancellations;
