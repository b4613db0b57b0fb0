-- The record of echoic, schema 1. Files here are added to, never changed: a database out there was made by them.
-- Times are microseconds since 1970 (UTC), latencies nanoseconds, sizes bytes. To read it with the sqlite3 shell:
--
--     SELECT id, time, ep, peer, req, rep FROM exchange ORDER BY id DESC LIMIT 20;

PRAGMA user_version = 1;

-- The endpoints that ever answered here, each with the service and the framing it had.
CREATE TABLE post (
    id      INTEGER PRIMARY KEY,
    name    TEXT NOT NULL,              -- tcp:5000
    proto   TEXT NOT NULL,              -- tcp
    service TEXT NOT NULL,              -- upper
    framing TEXT NOT NULL,              -- chunk, line
    UNIQUE (name, proto, service, framing)
) STRICT;

-- One peer on one endpoint, from open to end.
CREATE TABLE conversation (
    id          INTEGER PRIMARY KEY,
    post        INTEGER NOT NULL,       -- post.id
    remote      TEXT NOT NULL,          -- who called
    local       TEXT NOT NULL,          -- where it was reached
    opened      INTEGER NOT NULL,
    seen        INTEGER NOT NULL,       -- its last sign of life
    half_closed INTEGER,                -- when the peer ended its half of the stream
    ended       INTEGER,                -- NULL while it is open
    how         TEXT,                   -- how it ended: peer-closed, peer-reset, idle, ..., lost
    first_run   INTEGER NOT NULL,       -- none of its runs has a smaller id ...
    last_run    INTEGER,                -- ... nor, once it has ended, a larger one
    exchanges   INTEGER NOT NULL DEFAULT 0,
    received    INTEGER NOT NULL DEFAULT 0,
    sent        INTEGER NOT NULL DEFAULT 0,   -- a reply that ends beyond this never left in full
    unsent      INTEGER NOT NULL DEFAULT 0,
    unheard     INTEGER NOT NULL DEFAULT 0
    -- While it is open the last five and "seen" trail behind by up to 65536 exchanges of all conversations:
    -- see state.tallied.
) STRICT;

-- Finds what is still open (NULL), and what ended so long ago that all its runs are forgotten.
CREATE INDEX conversation_by_last_run ON conversation (last_run);

-- The messages that one read completed, with their replies: "count" exchanges with the ids id, id + 1, ...
-- There is deliberately no index but the id: one on the conversation nearly doubles the cost of recording a run
-- (2.2 against 1.2 us). The exchanges of a conversation lie between its first_run and its last_run.
CREATE TABLE run (
    id           INTEGER PRIMARY KEY,   -- of the first exchange
    conversation INTEGER NOT NULL,      -- conversation.id
    n            INTEGER NOT NULL,      -- number of the first exchange in its conversation, from 1
    count        INTEGER NOT NULL,
    at           INTEGER NOT NULL,      -- when it was read (or said, where nothing was heard)
    latency_ns   INTEGER NOT NULL,
    outcome      TEXT NOT NULL,         -- ok, unanswered
    reads        INTEGER NOT NULL,      -- how many reads the first message took
    said_offset  INTEGER NOT NULL,      -- where "said" begins in all that the conversation said
    lengths      TEXT,                  -- [heard, said, heard, said, ...]; NULL if count is 1
    heard        BLOB NOT NULL,
    said         BLOB NOT NULL
) STRICT;

-- Other points of a conversation; conversation 0 is the server as a whole.
CREATE TABLE mark (
    conversation INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    what         TEXT NOT NULL,         -- half-closed: a = bytes received; gap: a = exchanges lost, b = since
    a            INTEGER,
    b            INTEGER,
    PRIMARY KEY (conversation, at, what)
) STRICT, WITHOUT ROWID;

-- What is counted as it happens, so that nobody need count it again. One row.
CREATE TABLE state (
    one               INTEGER PRIMARY KEY CHECK (one = 1),
    event_version     INTEGER NOT NULL, -- version of the events kept here
    exchanges         INTEGER NOT NULL, -- how many are in "run"
    last_exchange     INTEGER NOT NULL, -- the ids last given; they are not given again
    last_conversation INTEGER NOT NULL,
    tallied           INTEGER NOT NULL, -- runs up to this id are counted in the rows of open conversations
    synced            INTEGER NOT NULL  -- written when there is nothing else to sync; means nothing
) STRICT;

INSERT INTO state VALUES (1, 1, 0, 0, 0, 0, 0);

-- For people: one row an exchange, also where many share a run.
CREATE VIEW exchange AS
WITH part AS (
    SELECT id, 0 AS i, 0 AS heard_at, 0 AS said_at, length(heard) AS heard_len, length(said) AS said_len
    FROM run WHERE lengths IS NULL
    UNION ALL
    SELECT run.id, pair.key / 2,
        (SELECT coalesce(sum(value), 0) FROM json_each(run.lengths) WHERE key < pair.key AND key % 2 = 0),
        (SELECT coalesce(sum(value), 0) FROM json_each(run.lengths) WHERE key < pair.key AND key % 2 = 1),
        pair.value,
        (SELECT value FROM json_each(run.lengths) WHERE key = pair.key + 1)
    FROM run, json_each(run.lengths) AS pair WHERE run.lengths IS NOT NULL AND pair.key % 2 = 0
)
SELECT
    run.id + part.i AS id,
    run.conversation AS conv,
    run.n + part.i AS n,
    strftime('%Y-%m-%d %H:%M:%f', run.at / 1000000.0, 'unixepoch') AS time,
    post.name AS ep,
    post.service AS svc,
    conversation.remote AS peer,
    run.latency_ns AS lat_ns,
    CASE WHEN run.outcome = 'ok' AND conversation.ended IS NOT NULL AND part.said_len > 0
          AND conversation.sent < run.said_offset + part.said_at + part.said_len
         THEN 'unsent' ELSE run.outcome END AS outcome,
    coalesce(substr(run.heard, 1 + part.heard_at, part.heard_len), x'') AS req,
    coalesce(substr(run.said, 1 + part.said_at, part.said_len), x'') AS rep
FROM part
JOIN run ON run.id = part.id
LEFT JOIN conversation ON conversation.id = run.conversation
LEFT JOIN post ON post.id = conversation.post;
