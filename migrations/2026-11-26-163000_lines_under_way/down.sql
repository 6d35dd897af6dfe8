DROP INDEX deliveries_under_way;
