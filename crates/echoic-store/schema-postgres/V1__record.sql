-- The record of echoic in PostgreSQL, schema 1. Files here are added to, never changed: a database out there was made by them.
-- All of it is in the schema "echoic" of the database. The tables are those of the SQLite record wherever they can be.
-- Times are microseconds since 1970 (UTC), latencies nanoseconds, sizes bytes. To read it with psql:
--
--     SELECT id, time, ep, peer, req, rep FROM echoic.exchange ORDER BY id DESC LIMIT 20;

-- One row for each start of a recorder that wrote here. Several may write at the same time.
CREATE TABLE server (
    key     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id      text NOT NULL UNIQUE,       -- a random number, 16 hexadecimal digits
    name    text NOT NULL,              -- host and process: web-1:4242
    started bigint NOT NULL,
    last    bigint NOT NULL DEFAULT 0,  -- all of its batches up to this number are stored; they have no row in "batch"
    tallied bigint NOT NULL DEFAULT 0,  -- runs up to this id are counted in the rows of its open conversations
    alive   timestamptz NOT NULL DEFAULT now(), -- its last sign of life. Its connection holds an advisory lock
    died    boolean NOT NULL DEFAULT false      -- its open conversations were ended as process-died
) WITH (fillfactor = 50);

-- The names of batches that are stored, so that one appended twice is stored once. Those far below the newest of their server
-- are removed: see server.last.
CREATE TABLE batch (
    server   bigint NOT NULL,           -- server.key
    number   bigint NOT NULL,
    first_id bigint NOT NULL,           -- of its first exchange
    PRIMARY KEY (server, number)
);

-- The endpoints that ever answered here, or were called from here, each with the service and the framing it had.
CREATE TABLE endpoint (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name    text NOT NULL,              -- tcp:5000
    proto   text NOT NULL,              -- tcp
    service text NOT NULL,              -- upper; empty in a client's record
    framing text NOT NULL,              -- chunk, line
    UNIQUE (name, proto, service, framing)
);

-- One peer on one endpoint, from open to close.
CREATE TABLE conversation (
    id          bigint PRIMARY KEY,
    server      bigint NOT NULL,        -- server.key
    endpoint    bigint NOT NULL,        -- endpoint.id
    opened      bigint NOT NULL,
    seen        bigint NOT NULL,        -- its last sign of life
    half_closed bigint,                 -- when the peer ended its half of the stream
    ended       bigint,                 -- NULL while it is open
    first_run   bigint NOT NULL,        -- none of its runs has a smaller id ...
    last_run    bigint,                 -- ... nor, once it has ended, a larger one
    exchanges   bigint NOT NULL DEFAULT 0,
    received    bigint NOT NULL DEFAULT 0,    -- bytes, by our socket
    sent        bigint NOT NULL DEFAULT 0,    -- the same; a server's reply that ends beyond this never left in full
    unsent      bigint NOT NULL DEFAULT 0,
    discarded   bigint NOT NULL DEFAULT 0,    -- read after the end, and thrown away
    role        text NOT NULL,          -- server: we answered; client: we called
    remote      text NOT NULL,          -- the peer: who called, or was called
    local       text NOT NULL,          -- our own end: where we were reached, or called from
    reason      text                    -- why it ended: peer-closed, peer-reset, idle-timeout, ..., process-died
    -- While it is open, "exchanges", "received", "sent" and "seen" trail behind by up to 65536 exchanges of its server: see
    -- server.tallied.
);

-- Finds what is still open (NULL), and what ended so long ago that all its runs are forgotten.
CREATE INDEX conversation_by_last_run ON conversation (last_run);

-- The messages that one read completed, with their replies: "count" exchanges with the ids id, id + 1, ...
-- There is deliberately no index but the id. The exchanges of a conversation lie between its first_run and its last_run.
-- The partitions have the names run_1, run_2, ...: see "part".
CREATE TABLE run (
    id           bigint NOT NULL,       -- of the first exchange
    conversation bigint NOT NULL,       -- conversation.id
    n            bigint NOT NULL,       -- number of the first exchange in its conversation, from 1
    at           bigint NOT NULL,       -- when the request was read (or the reply made, where there was no request)
    latency_ns   bigint NOT NULL,
    reply_offset bigint NOT NULL,       -- where "rep" begins in all replies of the conversation
    part         integer NOT NULL,      -- part.number
    count        integer NOT NULL,
    reads        integer NOT NULL,      -- how many reads the first message took
    outcome      text NOT NULL,         -- ok, unanswered, withheld, unsent, unpaired
    lengths      integer[],             -- request, reply, request, reply, ...; NULL if count is 1
    req          bytea NOT NULL,
    rep          bytea NOT NULL
) PARTITION BY LIST (part);

CREATE INDEX run_by_id ON run (id);

-- Compression would cost more than the rest of recording.
ALTER TABLE run ALTER req SET STORAGE EXTERNAL;
ALTER TABLE run ALTER rep SET STORAGE EXTERNAL;

-- The partitions of "run". Runs go into one after the other: a new one begins when the one before is old or large. So all ids
-- of a partition are below those of the next, and retention drops whole partitions. One is made ahead.
CREATE TABLE part (
    number    integer PRIMARY KEY,
    began     timestamptz,              -- when its first run was stored, by the clock of the database; NULL before
    first_id  bigint,                   -- ids of exchanges; NULL before the first
    last_id   bigint,
    oldest    bigint,                   -- smallest and largest "at"
    newest    bigint,
    exchanges bigint NOT NULL DEFAULT 0,
    bytes     bigint NOT NULL DEFAULT 0 -- about the size of the partition with its index
) WITH (fillfactor = 50);

-- Other points of a conversation; conversation 0 is the server as a whole.
CREATE TABLE mark (
    conversation bigint NOT NULL,
    at           bigint NOT NULL,
    server       bigint NOT NULL,       -- server.key
    a            bigint,
    b            bigint,
    what         text NOT NULL,         -- half-closed: a = bytes received; gap: a = exchanges lost, b = since
    PRIMARY KEY (conversation, at, what, server)
);

-- What a conversation received that made no message, because it ended inside one or its bytes do not follow the framing.
CREATE TABLE left_over (
    conversation bigint PRIMARY KEY,    -- conversation.id
    total        bigint NOT NULL,       -- how many bytes
    claimed      bigint,                -- length of the message by its header, or by the framing; NULL without one
    bytes        bytea NOT NULL         -- the first 4096 of them
);

-- What the TLS handshakes of conversations agreed on: one row for each conversation over TLS.
CREATE TABLE tls (
    conversation   bigint PRIMARY KEY,  -- conversation.id
    version        text,                -- 1.2 or 1.3; NULL if the handshake failed
    cipher         text,                -- the cipher suite; NULL if the handshake failed
    sni            text,                -- the server name that the client asked for
    alpn           text,                -- the application protocol that was negotiated
    client_subject text,                -- of the certificate that the client presented
    client_sha256  text,                -- of the same: 64 hexadecimal digits
    failure        text                 -- why the handshake failed
);

-- What is counted as it happens, so that nobody need count it again. One row. Who appends locks it until the commit: that
-- makes ids increase in the order of commits.
CREATE TABLE state (
    one               integer PRIMARY KEY CHECK (one = 1),
    event_version     integer NOT NULL, -- version of the events stored here
    part              integer NOT NULL, -- part.number of the partition that runs go into
    exchanges         bigint NOT NULL,  -- how many are in "run"
    last_exchange     bigint NOT NULL,  -- the ids last given; they are not given again
    last_conversation bigint NOT NULL
) WITH (fillfactor = 10);

INSERT INTO state VALUES (1, 2, 1, 0, 0, 0);

-- The last id of a conversation that was reserved. In a table of its own: whoever reserves waits for no append.
CREATE TABLE reserved (
    one  integer PRIMARY KEY CHECK (one = 1),
    last bigint NOT NULL
) WITH (fillfactor = 10);

INSERT INTO reserved VALUES (1, 0);

-- Tags of exchanges.
CREATE TABLE exchange_tag (
    exchange bigint NOT NULL,           -- exchange.id
    tag      text NOT NULL,
    PRIMARY KEY (exchange, tag)
);

-- Finds what has a tag without a search of the record.
CREATE INDEX exchange_by_tag ON exchange_tag (tag);

-- Tags of conversations. The filter "tag:" finds each of their exchanges.
CREATE TABLE conversation_tag (
    conversation bigint NOT NULL,       -- conversation.id
    tag          text NOT NULL,
    PRIMARY KEY (conversation, tag)
);

-- Notes, at most one on each.
CREATE TABLE exchange_note (
    exchange bigint PRIMARY KEY,        -- exchange.id
    note     text NOT NULL
);

CREATE TABLE conversation_note (
    conversation bigint PRIMARY KEY,    -- conversation.id
    note         text NOT NULL
);

-- For people: one row an exchange, also where many share a run. The outcome "unsent" is that of a server's reply that did
-- not leave in full, which the end of its conversation tells, and of a client's request that did not.
CREATE VIEW exchange AS
SELECT
    run.id + share.i AS id,
    run.conversation AS conv,
    run.n + share.i AS n,
    to_char(to_timestamp(run.at / 1000000.0) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS') AS time,
    endpoint.name AS ep,
    endpoint.proto AS proto,
    endpoint.service AS svc,
    conversation.role AS role,
    conversation.remote AS peer,
    run.at AS t_us,
    run.latency_ns AS lat_ns,
    CASE WHEN run.outcome = 'ok' AND conversation.ended IS NOT NULL AND share.rep_len > 0
          AND conversation.role = 'server'
          AND conversation.sent < run.reply_offset + share.rep_at + share.rep_len
         THEN 'unsent' ELSE run.outcome END AS outcome,
    substr(run.req, (1 + share.req_at)::integer, share.req_len::integer) AS req,
    substr(run.rep, (1 + share.rep_at)::integer, share.rep_len::integer) AS rep,
    server.id AS server
FROM run
CROSS JOIN LATERAL (
    SELECT 0 AS i, 0::bigint AS req_at, 0::bigint AS rep_at, length(run.req)::bigint AS req_len, length(run.rep)::bigint AS rep_len
    WHERE run.lengths IS NULL
    UNION ALL
    SELECT i, (sum(req_len) OVER before)::bigint - req_len, (sum(rep_len) OVER before)::bigint - rep_len, req_len, rep_len
    FROM (
        SELECT i, run.lengths[2 * i + 1]::bigint AS req_len, run.lengths[2 * i + 2]::bigint AS rep_len
        FROM generate_series(0, run.count - 1) AS i
        WHERE run.lengths IS NOT NULL
    ) AS pair
    WINDOW before AS (ORDER BY i)
) AS share
LEFT JOIN conversation ON conversation.id = run.conversation
LEFT JOIN endpoint ON endpoint.id = conversation.endpoint
LEFT JOIN server ON server.key = conversation.server;

-- Makes a partition ahead, if there is none, and returns its number. It runs as the owner of the schema, so that a role that
-- writes need not own anything. Attaching an empty table blocks neither readers nor writers.
CREATE FUNCTION make_part() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = echoic, pg_temp AS $$
DECLARE
    ahead integer;
BEGIN
    -- One at a time. (The number is any that nothing else here uses.)
    PERFORM pg_advisory_xact_lock(1701013604, 2);
    SELECT max(number) INTO ahead FROM part;
    IF ahead > (SELECT part FROM state) THEN
        RETURN ahead;
    END IF;
    ahead := coalesce(ahead, 0) + 1;
    EXECUTE format('CREATE TABLE echoic.run_%s (LIKE echoic.run INCLUDING STORAGE)', ahead);
    EXECUTE format('ALTER TABLE echoic.run ATTACH PARTITION echoic.run_%s FOR VALUES IN (%s)', ahead, ahead);
    INSERT INTO part (number) VALUES (ahead);
    RETURN ahead;
END $$;

-- Drops a partition before the one that runs go into, and returns the number of its exchanges.
CREATE FUNCTION drop_part(old integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = echoic, pg_temp AS $$
DECLARE
    dropped bigint;
BEGIN
    -- In the order in which an append locks.
    PERFORM FROM state WHERE state.part > old FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'runs still go into partition %', old;
    END IF;
    DELETE FROM part WHERE number = old RETURNING exchanges INTO dropped;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    EXECUTE format('DROP TABLE echoic.run_%s', old);
    UPDATE state SET exchanges = greatest(state.exchanges - dropped, 0);
    RETURN dropped;
END $$;

REVOKE ALL ON FUNCTION make_part(), drop_part(integer) FROM PUBLIC;

SELECT make_part();
SELECT make_part();
