"""Sends webhooks: `sender` makes one try, `pool` runs the senders of a control process."""
