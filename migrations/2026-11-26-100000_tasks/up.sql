-- Tasks: what somebody asked for, the runs that try to do it, and everything that is kept about them.

-- What somebody asked for. Never changed but for `run_id`, the latest of its runs.
CREATE TABLE tasks (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    run_id uuid NOT NULL,
    title text NOT NULL,
    description text NOT NULL,
    -- 0 general, 1 plan, 2 build, 3 explore
    agent_type smallint NOT NULL,
    -- As it is answered, such as claude-sonnet.
    model text NOT NULL,
    -- What that stood for when the task was made, as provider:model.
    resolved text NOT NULL,
    priority smallint NOT NULL,
    -- What a worker has to be able to do; the built-in executor takes no task that asks for something.
    capabilities text[] NOT NULL,
    -- The task endpoint, if there is a webhook_url, and the URL as it was given.
    endpoint_id uuid,
    webhook_url text,
    -- Bits of the events that go there: 1 started, 2 progress, 4 completed, 8 failed, 16 needs_input, 32 cancelled.
    webhook_events smallint NOT NULL,
    notify_email text,
    -- Canonical JSON, and the same as far as jsonb can hold it, for filters; NULL = none.
    metadata text,
    labels jsonb,
    timeout_s integer NOT NULL,
    max_seconds integer,
    max_tokens bigint,
    max_cost_micros bigint,
    deadline_at timestamptz,
    schedule_id uuid,
    -- Who asked: the credential or the person, and the trace of the request.
    created_by uuid,
    trace uuid NOT NULL,
    sampled boolean NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX tasks_tenant ON tasks (tenant_id, id);
CREATE INDEX tasks_labels ON tasks USING gin (labels jsonb_path_ops) WHERE labels IS NOT NULL;
-- Retention.
CREATE INDEX tasks_age ON tasks (created_at);

-- One try of a whole task. `domain::task::ledger` is the only writer, but for claims and heartbeats.
CREATE TABLE task_runs (
    id uuid PRIMARY KEY,
    task_id uuid NOT NULL REFERENCES tasks ON DELETE CASCADE,
    tenant_id uuid NOT NULL,
    -- Which run of the task, from 1; the last one is `latest`.
    number integer NOT NULL,
    latest boolean NOT NULL,
    -- 0 queued, 1 running, 2 needs_input, 3 completed, 4 failed, 5 cancelled
    state smallint NOT NULL,
    agent_type smallint NOT NULL,
    model text NOT NULL,
    resolved text NOT NULL,
    priority smallint NOT NULL,
    capabilities text[] NOT NULL,
    -- Whether the built-in executor may take it.
    built_in boolean NOT NULL,
    timeout_s integer NOT NULL,
    queued_at timestamptz NOT NULL,
    -- A queued run is not taken before this: somebody asked to come back later.
    held_until timestamptz,
    -- Claims since the run was made or its last question was answered.
    attempt smallint NOT NULL DEFAULT 0,
    -- All claims ever.
    claims integer NOT NULL DEFAULT 0,
    -- Who holds it: the fence of every report.
    lease uuid,
    lease_until timestamptz,
    -- The external worker that holds it; NULL = the built-in executor.
    worker_id uuid,
    attempt_started_at timestamptz,
    attempt_deadline timestamptz,
    -- Milliseconds of earlier attempts.
    ran_ms bigint NOT NULL DEFAULT 0,
    -- When the next timer is due, whichever it is.
    due_at timestamptz,
    started_at timestamptz,
    ended_at timestamptz,
    -- Whether task.started was told.
    told_started boolean NOT NULL DEFAULT false,
    percent smallint,
    progress_message text,
    -- When task.progress was told last, and whether there has been progress since.
    progress_told_at timestamptz,
    progress_waits boolean NOT NULL DEFAULT false,
    checkpoint_seq bigint,
    checkpoint text,
    result text,
    summary text,
    error text,
    error_code text,
    -- Of all attempts, and of this one: executors report the sum of their attempt.
    input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    cost_micros bigint NOT NULL DEFAULT 0,
    attempt_input_tokens bigint NOT NULL DEFAULT 0,
    attempt_output_tokens bigint NOT NULL DEFAULT 0,
    attempt_cost_micros bigint NOT NULL DEFAULT 0,
    -- The last row in task_outputs, and the bytes of all output chunks.
    output_seq bigint NOT NULL DEFAULT 0,
    output_bytes bigint NOT NULL DEFAULT 0,
    -- The id of the last event: ids of a run's events rise.
    last_event uuid
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE UNIQUE INDEX task_runs_task ON task_runs (task_id, number);
-- What the built-in executor takes next: of each tenant the highest priority, then the oldest.
CREATE INDEX task_runs_queue ON task_runs (tenant_id, priority DESC, id)
    WHERE state = 0 AND held_until IS NULL AND built_in;
-- The same for workers, who take certain types of agents.
CREATE INDEX task_runs_worker_queue ON task_runs (tenant_id, agent_type, priority DESC, id)
    WHERE state = 0 AND held_until IS NULL;
-- How many the built-in executor has of each tenant.
CREATE INDEX task_runs_running ON task_runs (tenant_id) WHERE state = 1 AND worker_id IS NULL;
CREATE INDEX task_runs_worker ON task_runs (worker_id) WHERE state = 1 AND worker_id IS NOT NULL;
CREATE INDEX task_runs_due ON task_runs (due_at) WHERE state < 3;
-- Lists and counts by state.
CREATE INDEX task_runs_state ON task_runs (tenant_id, state, task_id) WHERE latest;
CREATE INDEX task_runs_list ON task_runs (tenant_id, task_id) WHERE latest;
CREATE INDEX task_runs_ended ON task_runs (tenant_id, ended_at) WHERE ended_at IS NOT NULL;

-- Questions of runs, and their answers. The id is the request_id of task_needs_input.
CREATE TABLE task_inputs (
    id uuid PRIMARY KEY,
    run_id uuid NOT NULL REFERENCES task_runs ON DELETE CASCADE,
    tenant_id uuid NOT NULL,
    question text NOT NULL,
    choices text[],
    -- Canonical JSON Schema of the answer.
    schema text,
    asked_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    -- Canonical JSON.
    answer text,
    answered_at timestamptz,
    -- Who, for people.
    answered_by text,
    -- Whoever did not answer in time, or whose run ended meanwhile, finds it closed.
    closed_at timestamptz
);
CREATE INDEX task_inputs_run ON task_inputs (run_id, id);

-- What a listener of a run sees: a line for each step. kind: 0 status, 1 progress, 2 output
CREATE TABLE task_outputs (
    run_id uuid NOT NULL REFERENCES task_runs ON DELETE CASCADE,
    seq bigint NOT NULL,
    kind smallint NOT NULL,
    -- Canonical JSON of what the listener is sent.
    data text NOT NULL,
    PRIMARY KEY (run_id, seq)
);

-- External workers: programs with a worker token that take tasks over HTTP.
CREATE TABLE workers (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    credential_id uuid NOT NULL REFERENCES credentials,
    name text NOT NULL,
    agent_types smallint[] NOT NULL,
    -- NULL = any.
    models text[],
    capabilities text[] NOT NULL,
    version text,
    -- Takes nothing new.
    draining boolean NOT NULL DEFAULT false,
    last_seen_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    UNIQUE (tenant_id, credential_id, name)
) WITH (fillfactor = 50);

-- kind 4: worker token. What its worker may take: types of agents and models; NULL = any.
ALTER TABLE credentials ADD COLUMN agent_types smallint[];
ALTER TABLE credentials ADD COLUMN models text[];

-- What was used, by month. Added to in the transaction of the report.
CREATE TABLE task_usage (
    tenant_id uuid NOT NULL,
    -- The first day of the month, UTC.
    month date NOT NULL,
    model text NOT NULL,
    agent_type smallint NOT NULL,
    runs bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cost_micros bigint NOT NULL,
    PRIMARY KEY (tenant_id, month, model, agent_type)
) WITH (fillfactor = 50);

-- What a tenant may use in a month; NULL = no limit.
CREATE TABLE tenant_budgets (
    tenant_id uuid PRIMARY KEY REFERENCES tenants,
    monthly_tokens bigint CHECK (monthly_tokens >= 0),
    monthly_cost_micros bigint CHECK (monthly_cost_micros >= 0),
    updated_at timestamptz NOT NULL
);

-- Keys of tenants at providers of language models, sealed.
CREATE TABLE llm_keys (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    provider text NOT NULL,
    api_key bytea NOT NULL,
    api_key_sealed_by bytea GENERATED ALWAYS AS (hookyard_sealed_by(api_key)) STORED REFERENCES master_keys,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    UNIQUE (tenant_id, provider)
);

-- Tasks that are made by the clock.
CREATE TABLE schedules (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    name text NOT NULL,
    -- Five fields, in this time zone (IANA).
    cron text NOT NULL,
    time_zone text NOT NULL,
    enabled boolean NOT NULL,
    -- What becomes of ticks that passed while nobody fired: 0 skip, 1 once, 2 all
    missed smallint NOT NULL,
    -- Canonical JSON: the body of a request that makes a task.
    task text NOT NULL,
    -- The next tick; NULL = none, or not enabled.
    next_at timestamptz,
    created_by uuid,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX schedules_tenant ON schedules (tenant_id, id);
CREATE INDEX schedules_next ON schedules (next_at) WHERE next_at IS NOT NULL;

-- What came of a tick. The key is why no tick fires twice, however many runners there are.
CREATE TABLE schedule_ticks (
    schedule_id uuid NOT NULL REFERENCES schedules ON DELETE CASCADE,
    tick timestamptz NOT NULL,
    -- 0 made a task, 1 missed, 2 refused (reason), 3 by hand
    outcome smallint NOT NULL,
    task_id uuid,
    reason text,
    fired_at timestamptz NOT NULL,
    PRIMARY KEY (schedule_id, tick)
);
