DROP TABLE schedule_ticks, schedules, llm_keys, tenant_budgets, task_usage, workers, task_outputs, task_inputs;
ALTER TABLE credentials DROP COLUMN agent_types, DROP COLUMN models;
DROP TABLE task_runs, tasks;
