"""Sources of bucket events beside the webhook: an SQS queue, a Redis list, a watched folder.

A source removes a message only after its effect is committed. What an event means belongs to `jobs.triggers`.
"""
