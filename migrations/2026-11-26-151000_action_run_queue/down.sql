CREATE INDEX action_runs_due ON action_runs (due_at, id) WHERE state < 2;
DROP INDEX action_runs_queue;
