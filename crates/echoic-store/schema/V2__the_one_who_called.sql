-- A record may be that of one who called: its posts have the service 'connect', and nobody of ours answered there.
-- Then the request (run.heard) is what was sent and the reply (run.said) what came; remote is who was called, local
-- where from; received and sent are, as ever, what the one who records received and sent. A request that was not
-- sent in full has the outcome 'unsent'; a reply that came cannot be unsent, and this is all that changes here.

PRAGMA user_version = 2;

DROP VIEW exchange;

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
          AND post.service <> 'connect'
          AND conversation.sent < run.said_offset + part.said_at + part.said_len
         THEN 'unsent' ELSE run.outcome END AS outcome,
    coalesce(substr(run.heard, 1 + part.heard_at, part.heard_len), x'') AS req,
    coalesce(substr(run.said, 1 + part.said_at, part.said_len), x'') AS rep
FROM part
JOIN run ON run.id = part.id
LEFT JOIN conversation ON conversation.id = run.conversation
LEFT JOIN post ON post.id = conversation.post;
