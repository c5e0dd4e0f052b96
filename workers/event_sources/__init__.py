"""Where bucket events come from when nobody posts them: an SQS queue, a Redis list, a watched folder.

A source lets go of a message only when what it tells of is committed. What an event means is `jobs.triggers`' business.
"""
