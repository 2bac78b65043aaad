-- Topics whose folders may go, which the next start sees to at the latest.  A
-- folder of neither these nor of topics belongs to another file than this one.
CREATE TABLE deleted_topics (
	topic_id TEXT NOT NULL PRIMARY KEY CHECK (length(topic_id) = 32)
) STRICT, WITHOUT ROWID;
