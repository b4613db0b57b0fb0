-- The record of echoic, schema 3, the first that was released. Files here are added to, never changed: a database out
-- there was made by them.
-- Times are microseconds since 1970 (UTC), latencies nanoseconds, sizes bytes. To read it with the sqlite3 shell:
--
--     SELECT id, time, ep, peer, req, rep FROM exchange ORDER BY id DESC LIMIT 20;

PRAGMA user_version = 3;

-- One row for each start of a recorder that wrote here.
CREATE TABLE server (
    key     INTEGER PRIMARY KEY,        -- increases with each
    id      TEXT NOT NULL UNIQUE,       -- a random number, 16 hexadecimal digits
    name    TEXT NOT NULL,              -- host and process: web-1:4242
    started INTEGER NOT NULL
) STRICT;

-- The names of batches that are stored, so that one appended twice is stored once. Those far below the newest of their
-- server are removed.
CREATE TABLE batch (
    server   INTEGER NOT NULL,          -- server.key
    number   INTEGER NOT NULL,
    first_id INTEGER NOT NULL,          -- of its first exchange
    PRIMARY KEY (server, number)
) STRICT, WITHOUT ROWID;

-- The endpoints that ever answered here, or were called from here, each with the service and the framing it had.
CREATE TABLE endpoint (
    id      INTEGER PRIMARY KEY,
    name    TEXT NOT NULL,              -- tcp:5000
    proto   TEXT NOT NULL,              -- tcp
    service TEXT NOT NULL,              -- upper; empty in a client's record
    framing TEXT NOT NULL,              -- chunk, line
    UNIQUE (name, proto, service, framing)
) STRICT;

-- One peer on one endpoint, from open to close.
CREATE TABLE conversation (
    id          INTEGER PRIMARY KEY,
    server      INTEGER NOT NULL,       -- server.key
    role        TEXT NOT NULL,          -- server: we answered; client: we called
    endpoint    INTEGER NOT NULL,       -- endpoint.id
    remote      TEXT NOT NULL,          -- the peer: who called, or was called
    local       TEXT NOT NULL,          -- our own end: where we were reached, or called from
    opened      INTEGER NOT NULL,
    seen        INTEGER NOT NULL,       -- its last sign of life
    half_closed INTEGER,                -- when the peer ended its half of the stream
    ended       INTEGER,                -- NULL while it is open
    reason      TEXT,                   -- why it ended: peer-closed, peer-reset, idle-timeout, ..., process-died
    first_run   INTEGER NOT NULL,       -- none of its runs has a smaller id ...
    last_run    INTEGER,                -- ... nor, once it has ended, a larger one
    exchanges   INTEGER NOT NULL DEFAULT 0,
    received    INTEGER NOT NULL DEFAULT 0,   -- bytes, by our socket
    sent        INTEGER NOT NULL DEFAULT 0,   -- the same; a server's reply that ends beyond this never left in full
    unsent      INTEGER NOT NULL DEFAULT 0,
    discarded   INTEGER NOT NULL DEFAULT 0    -- read after the end, and thrown away
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
    at           INTEGER NOT NULL,      -- when the request was read (or the reply made, where there was no request)
    latency_ns   INTEGER NOT NULL,
    outcome      TEXT NOT NULL,         -- ok, unanswered, withheld, unsent
    reads        INTEGER NOT NULL,      -- how many reads the first message took
    reply_offset INTEGER NOT NULL,      -- where "rep" begins in all replies of the conversation
    lengths      TEXT,                  -- [request, reply, request, reply, ...]; NULL if count is 1
    req          BLOB NOT NULL,
    rep          BLOB NOT NULL
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
    event_version     INTEGER NOT NULL, -- version of the events stored here
    exchanges         INTEGER NOT NULL, -- how many are in "run"
    last_exchange     INTEGER NOT NULL, -- the ids last given; they are not given again
    last_conversation INTEGER NOT NULL,
    tallied           INTEGER NOT NULL, -- runs up to this id are counted in the rows of open conversations
    synced            INTEGER NOT NULL  -- written when there is nothing else to sync; means nothing
) STRICT;

INSERT INTO state VALUES (1, 2, 0, 0, 0, 0, 0);

-- For people: one row an exchange, also where many share a run. The outcome "unsent" is that of a server's reply that did
-- not leave in full, which the end of its conversation tells, and of a client's request that did not.
CREATE VIEW exchange AS
WITH part AS (
    SELECT id, 0 AS i, 0 AS req_at, 0 AS rep_at, length(req) AS req_len, length(rep) AS rep_len
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
    endpoint.name AS ep,
    endpoint.proto AS proto,
    endpoint.service AS svc,
    conversation.role AS role,
    conversation.remote AS peer,
    run.at AS t_us,
    run.latency_ns AS lat_ns,
    CASE WHEN run.outcome = 'ok' AND conversation.ended IS NOT NULL AND part.rep_len > 0
          AND conversation.role = 'server'
          AND conversation.sent < run.reply_offset + part.rep_at + part.rep_len
         THEN 'unsent' ELSE run.outcome END AS outcome,
    coalesce(substr(run.req, 1 + part.req_at, part.req_len), x'') AS req,
    coalesce(substr(run.rep, 1 + part.rep_at, part.rep_len), x'') AS rep,
    server.id AS server
FROM part
JOIN run ON run.id = part.id
LEFT JOIN conversation ON conversation.id = run.conversation
LEFT JOIN endpoint ON endpoint.id = conversation.endpoint
LEFT JOIN server ON server.key = conversation.server;
