-- Runs are taken in turns of their tenants: the queue is read tenant by tenant, of each the front.
CREATE INDEX action_runs_queue ON action_runs (tenant_id, due_at, id) WHERE state < 2;
DROP INDEX action_runs_due;
