-- Runs of actions, and the endpoints of their callbacks.

-- A row is one run: an action with its input, done once.
CREATE TABLE action_runs (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES tenants,
    -- The action's key, such as http.request.
    action text NOT NULL,
    -- Canonical JSON.
    input text NOT NULL,
    -- Where the callback goes; NULL = none is wanted.
    endpoint_id uuid,
    -- 0 queued, 1 running, 2 success, 3 error
    state smallint NOT NULL,
    -- How often it was taken, without looks at the task that it waits for.
    attempt smallint NOT NULL,
    -- While it has not ended: when somebody may (again) take it. A lease is an instant in the future.
    due_at timestamptz,
    -- Who holds the lease: the fence of every update.
    lease uuid NOT NULL,
    -- A request to somebody else was about to be sent: it may have been, and is not sent twice unless that does no harm.
    sent_at timestamptz,
    -- The task that it waits for.
    task_id uuid,
    -- What came of it: JSON arrays; NULL while it has not ended.
    results text,
    errors text,
    -- The event that tells the end, which is what the callback delivers.
    event_id uuid,
    created_by uuid,
    trace uuid NOT NULL,
    sampled boolean NOT NULL,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    CHECK ((state < 2) = (due_at IS NOT NULL)),
    CHECK ((state < 2) = (ended_at IS NULL))
);
CREATE INDEX action_runs_due ON action_runs (due_at, id) WHERE state < 2;
CREATE INDEX action_runs_listed ON action_runs (tenant_id, id DESC);
CREATE INDEX action_runs_ended ON action_runs (ended_at) WHERE state >= 2;
CREATE INDEX action_runs_endpoint ON action_runs (endpoint_id) WHERE endpoint_id IS NOT NULL;

-- subscriptions.kind: 0 REST hook, 1 endpoint of tasks, 2 endpoint of callbacks (a callback_url). The upkeep of both.
DROP INDEX subscriptions_endpoints;
CREATE INDEX subscriptions_endpoints ON subscriptions (updated_at) WHERE kind > 0 AND state <> 4;
DROP INDEX subscriptions_removed_endpoints;
CREATE INDEX subscriptions_removed_endpoints ON subscriptions (updated_at) WHERE kind > 0 AND state = 4;
