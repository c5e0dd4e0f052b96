"""Webhooks (Standard Webhooks 1.0): who is called, an outbox fed by the event log, and what is sent.

`fan_out` turns events into deliveries, in order and each once. `sending` says what is tried next and records how it
ended; `workers.webhooks` sends. `bodies` makes the body of a delivery, when it is sent.

Order: an endpoint receives one delivery at a time, in the order of the events. While it fails only its oldest delivery
is tried, at the times of `schedule`; the others wait. Once one is accepted all later ones are due at once, so that a
receiver that was away gets everything in order. A delivery that the receiver refuses again and again while it accepts a
later one is overtaken: it keeps its own times and holds up nothing any more.
"""
