DROP FUNCTION hookyard_sequence_generation();
DROP TABLE sequence_generation, subscription_sequences;
DROP INDEX deliveries_sequence;
ALTER TABLE deliveries DROP COLUMN sequence;
