-- The usage store: one row per admitted job, whatever became of it. This file is the only DDL; it is applied at each
-- start and must stay idempotent. PRAGMA user_version counts released layouts.
--
-- Times: created_ms is Unix time in milliseconds (UTC); durations are microseconds.
-- Tokens: completion = sampled by the worker and reported; delivered = of those, handed to the client's connection;
-- computed = positions that ran through a model, all attempts (cached prompt tokens are not computed).

CREATE TABLE IF NOT EXISTS jobs (
    id                TEXT PRIMARY KEY,   -- unique over restarts and machines
    request_id        TEXT NOT NULL,      -- the x-request-id that the client saw
    key_id            TEXT NOT NULL,      -- '' where no keys are configured
    end_user          TEXT NOT NULL,      -- the request's safety_identifier or user
    model             TEXT NOT NULL,
    dialect           TEXT NOT NULL,      -- 'chat', 'completions', 'embeddings' ...
    created_ms        INTEGER NOT NULL,
    outcome           TEXT NOT NULL CHECK (outcome IN ('finished', 'cancelled', 'failed', 'interrupted')),
    cause             TEXT NOT NULL,      -- why it ended, where outcome is not 'finished'
    finish            TEXT NOT NULL,      -- 'stop', 'length' ... of the first choice
    choices           INTEGER NOT NULL,
    prompt_tokens     INTEGER NOT NULL,
    cached_tokens     INTEGER NOT NULL,   -- of prompt_tokens
    completion_tokens INTEGER NOT NULL,
    delivered_tokens  INTEGER NOT NULL,
    reasoning_tokens  INTEGER NOT NULL,   -- of completion_tokens
    computed_tokens   INTEGER NOT NULL,
    failovers         INTEGER NOT NULL,
    queue_us          INTEGER NOT NULL,
    ttft_us           INTEGER NOT NULL,   -- 0: no token
    duration_us       INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS jobs_created ON jobs (created_ms);

-- For people: SELECT * FROM usage_by_day.
CREATE VIEW IF NOT EXISTS usage_by_day AS
SELECT strftime('%Y-%m-%d', created_ms / 1000, 'unixepoch') AS day, model, key_id,
       count(*) AS jobs,
       sum(prompt_tokens) AS prompt_tokens, sum(cached_tokens) AS cached_tokens,
       sum(completion_tokens) AS completion_tokens, sum(reasoning_tokens) AS reasoning_tokens,
       sum(outcome <> 'finished') AS not_finished
FROM jobs GROUP BY 1, 2, 3;

PRAGMA user_version = 1;
